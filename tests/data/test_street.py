"""The synthetic street: what is drawn, and what stands on disk afterwards."""

import importlib
import multiprocessing
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from src.data.street import draw_scene, write_street, writer
from src.errors import UserError
from src.labels import CITYSCAPES, IGNORE

SPLITS = {"train": 12, "val": 12}
SIZE = (128, 64)


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("street") / "synthetic"
    write_street(root, SPLITS, *SIZE, seed=3)
    return root


def labels_of(root: Path, split: str) -> list[np.ndarray]:
    files = sorted(root.glob(f"gtFine/{split}/*/*_labelIds.png"))
    return [cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in files]


def contents(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


# --- scenes


def test_same_numbers_same_scene() -> None:
    first, again = draw_scene(1, 2, *SIZE), draw_scene(1, 2, *SIZE)
    assert first.image.tobytes() == again.image.tobytes()
    assert first.instance_ids.tobytes() == again.instance_ids.tobytes()


@pytest.mark.parametrize(("seed", "index"), [(2, 2), (1, 3)])
def test_other_numbers_other_scene(seed: int, index: int) -> None:
    scene, other = draw_scene(1, 2, *SIZE), draw_scene(seed, index, *SIZE)
    assert (scene.label_ids != other.label_ids).mean() > 0.1


def test_global_random_state_is_neither_read_nor_moved() -> None:
    np.random.seed(0)
    first = draw_scene(5, 0, *SIZE).image
    left = np.random.random()
    np.random.seed(0)
    assert np.random.random() == left
    assert (draw_scene(5, 0, *SIZE).image == first).all()


@pytest.mark.parametrize(("width", "height"), [(64, 32), (250, 131), (64, 128)])
def test_any_size(width: int, height: int) -> None:
    scene = draw_scene(0, 1, width, height)
    assert scene.image.shape == (height, width, 3)
    assert scene.image.dtype == np.uint8
    assert scene.label_ids.shape == scene.instance_ids.shape == (height, width)
    assert (scene.label_ids.dtype, scene.instance_ids.dtype) == (np.uint8, np.uint16)
    sky = 23
    assert (scene.label_ids[height // 2] != sky).all()
    assert (scene.label_ids[-height // 4 :] != sky).all()


@pytest.mark.parametrize("index", range(4))
def test_same_scene_at_every_size(index: int) -> None:
    """Labels of the large scene, thinned to the small one's grid, agree but for the edges of things."""
    small, large = draw_scene(0, index, 256, 128), draw_scene(0, index, 2048, 1024)
    thinned = large.label_ids[4::8, 4::8]
    assert (thinned == small.label_ids).mean() > 0.92
    fractions = [
        np.bincount(ids.ravel(), minlength=34) / ids.size for ids in (small.label_ids, large.label_ids)
    ]
    out_of_roi = 3  # one pixel at least, so its share does not scale
    assert np.abs(np.delete(fractions[0] - fractions[1], out_of_roi)).max() < 0.02


@pytest.mark.parametrize("index", range(6))
def test_instance_ids_agree_with_label_ids(index: int) -> None:
    scene = draw_scene(4, index, *SIZE)
    for value in np.unique(scene.instance_ids).tolist():
        label = value // 1000 if value >= 1000 else value
        assert CITYSCAPES.is_known[label]
        has_instances = next(e.has_instances for e in CITYSCAPES.labels if e.id == label)
        assert (value >= 1000) == has_instances
        assert (scene.label_ids[scene.instance_ids == value] == label).all()


@pytest.mark.parametrize("seed", [3, 8])
def test_a_dozen_scenes_hold_all_classes(seed: int) -> None:
    pixels = sum(np.bincount(draw_scene(seed, i, *SIZE).label_ids.ravel(), minlength=34) for i in range(12))
    share = {label.name: pixels[label.id] / pixels.sum() for label in CITYSCAPES.train_labels}
    assert min(share.values()) > 0.002, share


def test_void_is_there_but_rare(street: Path) -> None:
    ids = np.stack(labels_of(street, "train"))
    void = (CITYSCAPES.to_train_id[ids] == IGNORE).mean()
    assert 0.01 < void < 0.2


def test_colour_alone_does_not_tell_the_classes() -> None:
    """Naming each pixel by the commonest class of its colour on the same scenes, an upper bound for any
    classifier that sees one pixel, stays far from what the labels say."""
    scenes = [draw_scene(0, i, 256, 128) for i in range(12)]
    cells = np.concatenate([(s.image.reshape(-1, 3) >> 4) @ np.array((256, 16, 1)) for s in scenes])
    target = np.concatenate([CITYSCAPES.to_train_id[s.label_ids].ravel() for s in scenes])
    cells, target = cells[target != IGNORE], target[target != IGNORE]
    counts = np.bincount(cells * 19 + target, minlength=4096 * 19).reshape(4096, 19)
    matrix = np.bincount(target * 19 + counts.argmax(1)[cells], minlength=361).reshape(19, 19)
    hits = np.diag(matrix)
    assert (hits / (matrix.sum(0) + matrix.sum(1) - hits)).mean() < 0.35


# --- files


def test_layout_and_names(street: Path) -> None:
    for split, count in SPLITS.items():
        images = sorted((street / "leftImg8bit" / split).rglob("*.png"))
        assert len(images) == count
        for file in images:
            city = file.parent.name
            assert re.fullmatch(rf"{city}_\d{{6}}_\d{{6}}_leftImg8bit\.png", file.name)
            stem = street / "gtFine" / split / city / file.name.replace("_leftImg8bit.png", "_gtFine")
            for kind in ("labelIds", "instanceIds", "color"):
                assert Path(f"{stem}_{kind}.png").is_file()
    assert {path.name for path in street.iterdir()} == {"leftImg8bit", "gtFine", "street.json"}


def test_files_hold_what_was_drawn(street: Path) -> None:
    stem = street / "gtFine" / "val" / "valstadt" / "valstadt_000002_000000_gtFine"
    labels, instances, color = (
        cv2.imread(f"{stem}_{kind}.png", cv2.IMREAD_UNCHANGED)
        for kind in ("labelIds", "instanceIds", "color")
    )
    assert (labels.dtype, instances.dtype) == (np.uint8, np.uint16)
    assert (np.where(instances >= 1000, instances // 1000, instances) == labels).all()
    for label in CITYSCAPES.labels:
        assert (color[labels == label.id][:, ::-1] == label.color).all()


def test_splits_differ_and_hold_all_classes(street: Path) -> None:
    train, val = labels_of(street, "train"), labels_of(street, "val")
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
    code = f"import sys, src.data.street; print(*{heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# --- the official tools


@pytest.fixture
def official(street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Imports one of cityscapesscripts' evaluations, set to `street`; they read the environment on import."""
    pytest.importorskip("cityscapesscripts")
    predictions = tmp_path / "predictions"
    predictions.mkdir()
    monkeypatch.setenv("CITYSCAPES_DATASET", str(street))
    monkeypatch.setenv("CITYSCAPES_RESULTS", str(predictions))
    monkeypatch.setenv("CITYSCAPES_EXPORT_DIR", str(tmp_path))
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)

    def load(name: str):
        module = importlib.reload(importlib.import_module(f"cityscapesscripts.evaluation.{name}"))
        module.args.quiet = True
        module.args.JSONOutput = False
        return module

    return street, predictions, load


def test_official_pixel_evaluation(official) -> None:
    street, predictions, load = official
    tool = load("evalPixelLevelSemanticLabeling")
    truth = sorted(street.glob("gtFine/val/*/*_gtFine_labelIds.png"))
    for file in truth:
        ids = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(predictions / file.name.replace("_gtFine_labelIds", "_pred")), ids)
    names = [str(file) for file in truth]
    result = tool.evaluateImgLists([tool.getPrediction(tool.args, name) for name in names], names, tool.args)
    assert result["averageScoreClasses"] == 1.0
    assert result["averageScoreInstClasses"] == 1.0
    assert not np.isnan([result["classScores"][name] for name in CITYSCAPES.class_names]).any()


def test_official_evaluation_notices_errors(official) -> None:
    street, predictions, load = official
    tool = load("evalPixelLevelSemanticLabeling")
    truth = sorted(street.glob("gtFine/val/*/*_gtFine_labelIds.png"))
    for file in truth:
        ids = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        ids[ids == 28] = 27  # every bus a truck
        cv2.imwrite(str(predictions / file.name.replace("_gtFine_labelIds", "_pred")), ids)
    names = [str(file) for file in truth]
    result = tool.evaluateImgLists([tool.getPrediction(tool.args, name) for name in names], names, tool.args)
    assert result["classScores"]["bus"] == 0.0
    assert result["classScores"]["truck"] < 1.0
    assert result["classScores"]["car"] == 1.0


def test_official_instance_evaluation(official, monkeypatch: pytest.MonkeyPatch) -> None:
    street, predictions, load = official
    tool = load("evalInstanceLevelSemanticLabeling")
    tool.args.predictionPath = str(predictions)
    monkeypatch.setattr(tool, "writeDict2JSON", lambda *_: None)  # its cache; fails on numpy 2's integers
    tool.args.gtInstancesFile = str(predictions / "instances.json")
    truth = sorted(street.glob("gtFine/val/*/*_gtFine_instanceIds.png"))[:4]
    for file in truth:
        ids = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        stem = file.name.replace("_gtFine_instanceIds.png", "")
        lines = []
        for value in np.unique(ids[ids >= 1000]).tolist():
            mask = f"{stem}_mask_{value}.png"
            cv2.imwrite(str(predictions / mask), np.where(ids == value, 255, 0).astype(np.uint8))
            lines.append(f"{mask} {value // 1000} 1.0")
        (predictions / f"{stem}_pred.txt").write_text("\n".join(lines))
    names = [str(file) for file in truth]
    found = [str(predictions / file.name.replace("_gtFine_instanceIds.png", "_pred.txt")) for file in truth]
    result = tool.evaluateImgLists(found, names, tool.args)
    assert result["averages"]["allAp50%"] == pytest.approx(1.0)
