"""What an offline W&B run wrote."""

import struct
from collections.abc import Iterator
from pathlib import Path

from wandb.proto.wandb_internal_pb2 import Record

BLOCK = 32768  # the file is a LevelDB log: blocks of records, each with checksum, length and part
WHOLE, LAST = 1, 4


def read_records(path: Path) -> Iterator[Record]:
    data, position, parts = path.read_bytes(), 7, []  # 7: W&B's own header
    while position < len(data):
        left = BLOCK - position % BLOCK
        if left < 7:
            position += left
            continue
        _, length, part = struct.unpack_from("<IHB", data, position)
        parts.append(data[position + 7 : position + 7 + length])
        position += 7 + length
        if part in (WHOLE, LAST):
            yield Record.FromString(b"".join(parts))
            parts = []
