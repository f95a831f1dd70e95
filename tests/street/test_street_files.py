"""The synthetic street: what stands on disk, and that it is written whole or not at all."""

import multiprocessing
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from src.errors import UserError
from src.labels import CITYSCAPES
from src.street import write_street, writer

SPLITS = {"train": 12, "val": 12}
SIZE = (128, 64)


def labels_of(root: Path, split: str) -> list[np.ndarray]:
    files = sorted(root.glob(f"gtFine/{split}/*/*_labelIds.png"))
    return [cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in files]


def contents(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def test_layout_and_names(dozen: Path) -> None:
    for split, count in SPLITS.items():
        images = sorted((dozen / "leftImg8bit" / split).rglob("*.png"))
        assert len(images) == count
        for file in images:
            city = file.parent.name
            assert re.fullmatch(rf"{city}_\d{{6}}_\d{{6}}_leftImg8bit\.png", file.name)
            stem = dozen / "gtFine" / split / city / file.name.replace("_leftImg8bit.png", "_gtFine")
            for kind in ("labelIds", "instanceIds", "color"):
                assert Path(f"{stem}_{kind}.png").is_file()
    assert {path.name for path in dozen.iterdir()} == {"leftImg8bit", "gtFine", "street.json"}


def test_files_hold_what_was_drawn(dozen: Path) -> None:
    stem = dozen / "gtFine" / "val" / "valstadt" / "valstadt_000002_000000_gtFine"
    labels, instances, color = (
        cv2.imread(f"{stem}_{kind}.png", cv2.IMREAD_UNCHANGED)
        for kind in ("labelIds", "instanceIds", "color")
    )
    assert (labels.dtype, instances.dtype) == (np.uint8, np.uint16)
    assert (np.where(instances >= 1000, instances // 1000, instances) == labels).all()
    for label in CITYSCAPES.labels:
        assert (color[labels == label.id][:, ::-1] == label.color).all()


def test_splits_differ_and_hold_all_classes(dozen: Path) -> None:
    train, val = labels_of(dozen, "train"), labels_of(dozen, "val")
    assert not {ids.tobytes() for ids in train} & {ids.tobytes() for ids in val}
    for split in (train, val):
        found = np.unique(CITYSCAPES.to_train_id[np.stack(split)])
        assert set(range(19)) <= set(found.tolist())


def test_same_bytes_with_workers(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_street(tmp_path / "alone", {"train": 5}, 64, 32, seed=0)
    write_street(
        tmp_path / "helped", {"train": 5}, 64, 32, seed=0, workers=1,
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert contents(tmp_path / "alone") == contents(tmp_path / "helped")
    assert seen == [(done, 5) for done in range(1, 6)]


def test_written_once(tmp_path: Path) -> None:
    root = tmp_path / "street"
    write_street(root, {"train": 1}, 64, 32, seed=0)
    before = {file: file.stat().st_mtime_ns for file in root.rglob("*")}
    write_street(root, {"train": 1}, 64, 32, seed=0, progress=lambda *_: pytest.fail("drawn again"))
    assert {file: file.stat().st_mtime_ns for file in root.rglob("*")} == before


@pytest.mark.parametrize(
    ("splits", "width", "seed", "said"),
    [({"train": 2}, 64, 0, "splits"), ({"train": 1}, 128, 0, "width"), ({"train": 1}, 64, 1, "seed")],
)
def test_other_parameters_are_refused(tmp_path: Path, splits: dict, width: int, seed: int, said: str) -> None:
    root = tmp_path / "street"
    write_street(root, {"train": 1}, 64, 32, seed=0)
    before = contents(root)
    with pytest.raises(UserError, match=rf"street\.json.*{said} is .*[Dd]elete"):
        write_street(root, splits, width, 32, seed)
    assert contents(root) == before


def test_older_generator_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_street(tmp_path / "street", {"train": 1}, 64, 32, seed=0)
    monkeypatch.setattr(writer, "VERSION", writer.VERSION + 1)
    with pytest.raises(UserError, match="version"):
        write_street(tmp_path / "street", {"train": 1}, 64, 32, seed=0)


def test_foreign_folder_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("irreplaceable")
    with pytest.raises(UserError, match=re.escape(str(tmp_path))):
        write_street(tmp_path, {"train": 1}, 64, 32, seed=0)
    assert contents(tmp_path) == {"thesis.tex": b"irreplaceable"}


def test_damaged_note_is_refused(tmp_path: Path) -> None:
    (tmp_path / "street.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        write_street(tmp_path, {"train": 1}, 64, 32, seed=0)


def test_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "street").mkdir()
    write_street(tmp_path / "street", {"train": 1}, 64, 32, seed=0)
    assert (tmp_path / "street" / "street.json").is_file()


def test_all_bad_parameters_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"32x16.*-1.*'a/b'.*'val' has 0"):
        write_street(tmp_path / "street", {"a/b": 1, "val": 0}, 32, 16, seed=-1)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_interrupted_write_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def stop(done: int, total: int) -> None:
        assert any(tmp_path.rglob("*.png"))
        raise error

    with pytest.raises(error):
        write_street(tmp_path / "street", {"train": 3}, 64, 32, seed=0, progress=stop)
    assert not any(tmp_path.iterdir())


def test_full_disk_is_the_users_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="No space left"):
        write_street(tmp_path / "street", {"train": 1}, 64, 32, seed=0)
    assert not any(tmp_path.iterdir())


def _write_at_once(root: Path, barrier, outcome) -> None:
    def wait(done: int, total: int) -> None:
        if done == total:
            barrier.wait(60)  # both have drawn everything and neither has placed it

    write_street(root, {"train": 2}, 64, 32, seed=0, progress=wait)
    outcome.put(sorted(contents(root)))


def test_two_processes_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")  # OpenCV's threads do not survive a fork
    barrier, outcome = context.Barrier(2), context.Queue()
    arguments = (tmp_path / "both" / "street", barrier, outcome)
    pair = [context.Process(target=_write_at_once, args=arguments) for _ in range(2)]
    for process in pair:
        process.start()
    seen = [outcome.get(timeout=60) for _ in pair]
    for process in pair:
        process.join(30)
        assert process.exitcode == 0
    write_street(tmp_path / "one", {"train": 2}, 64, 32, seed=0)
    assert contents(tmp_path / "both" / "street") == contents(tmp_path / "one")
    assert seen == [sorted(contents(tmp_path / "one"))] * 2
    assert [path.name for path in (tmp_path / "both").iterdir()] == ["street"]


def test_import_is_cheap() -> None:
    """Spawned workers import it: neither torch nor Lightning nor albumentations may come along."""
    heavy = "{'torch', 'pytorch_lightning', 'albumentations'}"
    code = f"import sys, src.street; print(*{heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
