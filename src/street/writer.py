"""Writes the synthetic street in Cityscapes' folders and file names: once, and completely or not at all.

leftImg8bit/<split>/<split>stadt/<split>stadt_000000_000000_leftImg8bit.png
gtFine/<split>/<split>stadt/<split>stadt_000000_000000_gtFine_{labelIds,instanceIds,color}.png
street.json
"""

import json
import os
import secrets
import shutil
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from src.errors import UserError
from src.labels import CITYSCAPES
from src.runs.atomic_files import nearest_existing
from src.street.scene import Scene, draw_scene

VERSION = 1
"""Raise it with every change that alters a pixel: an older street on disk is then refused, not reused."""

NOTE = "street.json"
MIN_WIDTH, MIN_HEIGHT = 64, 32
_BYTES_PER_PIXEL = 1.5  # of all four files of a scene

Progress = Callable[[int, int], None]
"""Called with the number of scenes written and their total."""


def write_street(
    root: Path,
    splits: Mapping[str, int],
    width: int,
    height: int,
    seed: int,
    workers: int = 0,
    progress: Progress | None = None,
) -> None:
    """Write `splits[name]` scenes per split under `root`, or return at once if they are already there.

    The pixels depend on the parameters alone, not on `workers` (additional processes; 0: this one draws).
    Several processes may call this at the same time: one of them moves its copy to `root`, the others
    delete theirs. Raises UserError if `root` holds anything else, or the parameters are invalid.
    """
    wanted = _parameters(splits, width, height, seed)
    if _is_there(root, wanted):
        return
    _check_room(root, sum(splits.values()), width * height)
    draft = root.parent / f".{root.name}.{os.getpid()}-{secrets.token_hex(4)}"
    try:
        draft.mkdir(parents=True)
        _write_scenes(draft, wanted, workers, progress)
        (draft / NOTE).write_text(json.dumps(wanted, indent=2) + "\n")
        _place(draft, root, wanted)
    except OSError as error:
        raise UserError(
            f"Cannot write the synthetic street to {root}: {error}. Choose another folder."
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _check_room(root: Path, scenes: int, pixels: int) -> None:
    """Raises UserError if the scenes do not fit on the disk, before a list of all scenes is built."""
    needed, free = scenes * pixels * _BYTES_PER_PIXEL, shutil.disk_usage(nearest_existing(root)).free
    if needed > free:
        raise UserError(
            f"Cannot write the synthetic street to {root}: {scenes} scenes take about {needed / 1e9:.3g} GB, "
            f"{free / 1e9:.3g} GB are free. Set data.street.train and data.street.val lower, or choose "
            f"another place (cache_dir=...)."
        )


def _parameters(splits: Mapping[str, int], width: int, height: int, seed: int) -> dict[str, Any]:
    problems = []
    if width < MIN_WIDTH or height < MIN_HEIGHT:
        problems.append(f"size {width}x{height} is below {MIN_WIDTH}x{MIN_HEIGHT}")
    if seed < 0:
        problems.append(f"seed {seed} is negative")
    for name, count in splits.items():
        if not (name.isascii() and name.isalnum()):
            problems.append(f"split name {name!r} is not made of letters and digits")
        if count < 1:
            problems.append(f"split {name!r} has {count} scenes, at least 1 is needed")
    if not splits:
        problems.append("there is no split")
    if problems:
        raise UserError("The synthetic street cannot be drawn: " + "; ".join(problems) + ".")
    return {
        "generator": "synthetic street", "version": VERSION, "seed": seed,
        "width": width, "height": height, "splits": dict(splits),
    }  # fmt: skip


def _is_there(root: Path, wanted: dict[str, Any]) -> bool:
    """True: the same street is there; False: nothing is. Otherwise UserError, and nothing is overwritten."""
    note = root / NOTE
    try:
        if not note.is_file():
            if not root.exists() or (root.is_dir() and not any(root.iterdir())):
                return False
            raise UserError(
                f"{root} is not a synthetic street: it has no file {NOTE}. "
                "Nothing was changed; choose a new or empty folder."
            )
        found = json.loads(note.read_bytes())
    except OSError as error:
        raise UserError(f"{note}: cannot be read ({error}). Fix that, or choose another folder.") from error
    except ValueError as error:
        raise UserError(f"{note} is damaged ({error}). Delete {root} to have it written again.") from None
    if found == wanted:
        return True
    found = found if isinstance(found, dict) else {}
    differences = [
        f"{key} is {found.get(key)!r}, wanted {value!r}"
        for key, value in wanted.items()
        if found.get(key) != value
    ]
    raise UserError(
        f"{note} describes another street: {'; '.join(differences) or 'unknown keys'}. "
        f"Delete {root} to have it written again, or choose another folder."
    )


def _write_scenes(folder: Path, wanted: dict[str, Any], workers: int, progress: Progress | None) -> None:
    size = (wanted["width"], wanted["height"])
    jobs = []
    for split, count in wanted["splits"].items():
        for kind in ("leftImg8bit", "gtFine"):
            (folder / kind / split / _city(split)).mkdir(parents=True)
        jobs += [(folder, split, wanted["seed"], index, *size) for index in range(count)]
    if workers == 0:
        for done, job in enumerate(jobs, 1):
            _write_scene(job)
            if progress:
                progress(done, len(jobs))
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), cv2.setNumThreads, (1,)) as pool:
        try:
            for done, _ in enumerate(pool.map(_write_scene, jobs, chunksize=4), 1):
                if progress:
                    progress(done, len(jobs))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _write_scene(job: tuple[Path, str, int, int, int, int]) -> None:
    folder, split, seed, index, width, height = job
    scene = draw_scene(_split_seed(seed, split), index, width, height)
    place, name = Path(split) / _city(split), f"{_city(split)}_{index:06d}_000000"
    _save(folder / "leftImg8bit" / place / f"{name}_leftImg8bit.png", scene.image[..., ::-1])
    _save_labels(folder / "gtFine" / place / f"{name}_gtFine", scene)


def _save_labels(stem: Path, scene: Scene) -> None:
    labels = scene.label_ids
    colors = np.zeros((256, 3), np.uint8)
    for label in CITYSCAPES.labels:
        colors[label.id] = label.color
    _save(Path(f"{stem}_labelIds.png"), labels)
    _save(Path(f"{stem}_instanceIds.png"), scene.instance_ids)
    _save(Path(f"{stem}_color.png"), colors[labels][..., ::-1])


def _save(path: Path, pixels: np.ndarray) -> None:
    encoded = cv2.imencode(".png", pixels)[1]
    path.write_bytes(encoded.tobytes())  # unlike cv2.imwrite, it raises an error that says why it failed


def _city(split: str) -> str:
    """The official tools find files by city and number alone, so the splits may not share a city."""
    return f"{split}stadt"


def _split_seed(seed: int, split: str) -> int:
    return int(np.random.SeedSequence((seed, zlib.crc32(split.encode()))).generate_state(1, np.uint64)[0])


def _place(draft: Path, root: Path, wanted: dict[str, Any]) -> None:
    try:
        draft.rename(root)
    except OSError:
        if not _is_there(root, wanted):  # no other process was faster
            raise
