"""Reads what a W&B run has written to its .wandb file. Online runs write it, too, before they upload."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# The file is a log of LevelDB: blocks of records, each with checksum, length and part
# (https://github.com/google/leveldb/blob/main/doc/log_format.md), after a header of W&B's own.
_BLOCK, _HEADER, _FRAME = 32768, 7, 7
_WHOLE, _LAST = 1, 4


def read_records(path: Path) -> Iterator[Any]:
    """The records (wandb.proto.wandb_internal_pb2.Record); of a killed process, those that are whole."""
    from google.protobuf.message import DecodeError
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    data, position = path.read_bytes(), _HEADER
    parts: list[bytes] = []
    while position + _FRAME <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < _FRAME:
            position += left
            continue
        _, length, part = struct.unpack_from("<IHB", data, position)
        parts.append(data[position + _FRAME : position + _FRAME + length])
        position += _FRAME + length
        if part in (_WHOLE, _LAST):
            try:
                yield Record.FromString(b"".join(parts))
            except DecodeError:
                return
            parts = []


def last_step(run_dir: Path, id: str) -> int:
    """The last step that the W&B runs with this id in a run directory have logged; -1 if there is none."""
    steps = [
        json.loads(item.value_json)
        for path in run_dir.glob(f"wandb/*run-*-{id}/run-{id}.wandb")
        for record in read_records(path)
        for item in record.history.item
        if (item.key or ".".join(item.nested_key)) == "trainer/global_step"
    ]
    return max(steps, default=-1)
