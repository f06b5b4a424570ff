"""Prints samples as Python encodes them: one line each of a name and hexadecimal digits."""

import cbor2

CPU = {"usage_percent": 12.5, "load1": 0.51, "cores": [25.0, 0.0]}
HEAD = {"v": 1, "ts": 1763630000123, "boot": 1763600000, "seq": 42, "first": 40}

samples = {
    "plain": HEAD | {"cpu": CPU},
    # Python writes 5 for what another language writes as 5.0, and every float with 64 bits.
    "integers-for-floats": HEAD | {"cpu": {"usage_percent": 5, "load1": -1, "cores": [25, 0]}},
    "floats-for-integers": HEAD | {"memory": {"total_bytes": 1024.0, "used_bytes": 2.0**53}},
    "unknown-fields": HEAD
    | {"cpu": CPU | {"new": {"deep": [1, None, True, "x", b"y"]}}, "later": [{"name": "z"}]},
    "only-a-value": {"custom": [{"name": "temperature", "value": 21.3}]},
}
for name, sample in samples.items():
    print(name, cbor2.dumps(sample).hex())
# The same with the keys in RFC 8949's deterministic order and the shortest floats.
print("canonical", cbor2.dumps(HEAD | {"cpu": CPU}, canonical=True).hex())
