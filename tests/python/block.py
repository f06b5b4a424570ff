"""Reads packed blocks as lines of hexadecimal digits and prints each as a line of JSON.

`read_block` stands in docs/redis.md, word for word.
"""

import json
import struct
import sys

# read_block begins
import numpy as np
from pcodec import standalone


def read_block(data):
    """The times in milliseconds, and for each field its values, nan where unknown."""
    version, rows, fields = struct.unpack_from("<BIH", data)
    assert version == 1, "a block of a newer hostbus"
    at = 7

    def part(length_format):
        nonlocal at
        (length,) = struct.unpack_from(length_format, data, at)
        start = at + struct.calcsize(length_format)
        at = start + length
        return data[start:at]

    def column(packed):
        form, packed, unknown = packed[0], packed[1:], []
        if form & 128:
            bits, packed = packed[: (rows + 7) // 8], packed[(rows + 7) // 8 :]
            unknown = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")[:rows] == 1
        if form & 127 == 0:
            values = np.full(rows, struct.unpack("<d", packed)[0])
        elif form & 127 == 1:
            decimals, step = struct.unpack_from("<BQ", packed)
            integers = standalone.simple_decompress(packed[9:])
            values = integers * float(step) / 10.0**decimals
        else:
            values = standalone.simple_decompress(packed)
        values[unknown] = np.nan
        return values

    packed = part("<I")
    times = standalone.simple_decompress(packed) if rows else np.empty(0, np.uint64)
    return times, {part("<H").decode(): column(part("<I")) for _ in range(fields)}


# read_block ends

for line in sys.stdin:
    times, columns = read_block(bytes.fromhex(line.strip()))
    values = {name: [repr(v) for v in column.tolist()] for name, column in columns.items()}
    print(json.dumps({"times": times.tolist(), "columns": values}))
