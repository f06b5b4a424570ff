"""Reads payloads as lines of hexadecimal digits and prints each as a line of JSON."""

import json
import sys

import cbor2

for line in sys.stdin:
    payload = cbor2.loads(bytes.fromhex(line.strip()))
    print(json.dumps(payload, allow_nan=False))
