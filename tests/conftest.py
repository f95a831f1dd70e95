import json
import os
import shutil
import signal
import sys
import textwrap
import threading
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from front_doors import REPOSITORY, TEST_NAMES, TINY, FrontDoors, Outcome
from own_data import write_folders
from own_lab import FILES, MISTAKES, QUICK
from spy import Crash

from src.errors import UserError
from src.street import write_street
from src.sweep import child


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what is slow
def pytest_collection_modifyitems(items):
    """Of the cases of a test that is marked sampled(n), n stay in the fast set, and the others are slow."""
    cases = defaultdict(list)
    for item in items:
        if item.get_closest_marker("sampled"):
            cases[item.nodeid.partition("[")[0]].append(item)
    for several in cases.values():
        (count,) = several[0].get_closest_marker("sampled").args
        assert count < len(several) or len(several) == 1, f"{several[0].nodeid}: all are in the sample"
        chosen = {number * len(several) // count for number in range(count)}
        for number, item in enumerate(several):
            if number not in chosen:
                item.add_marker("slow")


@pytest.fixture(autouse=True, scope="session")
def ctrl_c_counts():
    """A shell that starts the tests in the background has Ctrl-C ignored, by all that they start, too."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Threads that wait for each other over tiny tensors make the tests up to six times slower on a busy
    machine; and sums are the same to the bit only for the same number of threads."""
    torch.set_num_threads(1)
    # OpenCV's: a forked process has none of them, and waits for them for ever (our own data workers do not).
    cv2.setNumThreads(0)


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory):
    """The synthetic street and the class frequencies of all front-door tests: drawn and counted once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def doors(tmp_path, cache_dir):
    return FrontDoors(tmp_path, cache_dir)


@pytest.fixture(scope="module")
def module_doors(tmp_path_factory, cache_dir):
    """Front doors whose runs the tests of a module share."""
    return FrontDoors(tmp_path_factory.mktemp("runs"), cache_dir)


@pytest.fixture(scope="session")
def trained_checkpoint(tmp_path_factory, cache_dir) -> Path:
    """The best checkpoint of a training, which nobody changes."""
    doors = FrontDoors(tmp_path_factory.mktemp("trained"), cache_dir)
    run = doors("train", *TINY, "callbacks.pictures=null", "optimizer.lr=3e-3")
    assert run.code == 0, run.err
    return run.directory / "checkpoints/best.ckpt"


@pytest.fixture
def sweep(doors, monkeypatch, capfd):
    """Runs `python -m src.train -m` with stand_in_job.py for the training; `started`: the jobs' numbers."""
    command = child._command

    def stand_in(*arguments):
        return [sys.executable, str(REPOSITORY / "tests/stand_in_job.py"), *command(*arguments)[3:]]

    def starts(folder: Path) -> dict[int, str]:
        return {int(path.parent.name): path.read_text() for path in folder.glob("*/starts")}

    def run(*overrides: str) -> Outcome:
        before = starts(doors.folder / "train/run")
        outcome = doors("train", "-m", *overrides)
        after = starts(outcome.directory)
        outcome.started = {job for job in after if after[job] != before.get(job)}
        outcome.err += capfd.readouterr().err
        return outcome

    monkeypatch.setattr(child, "_command", stand_in)
    return run


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """A folder outside of this project; in PYTHONPATH, as a user's own would be."""
    folder = tmp_path_factory.mktemp("lab")
    for name, text in (FILES | MISTAKES).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        from mylab.backbone import Backbone

        torch.manual_seed(1)
        torch.save(Backbone(19, width=4).encoder.state_dict(), folder / "mylab/pretrained.pt")
        write_folders(folder / "parts", rgb=True)
        yield folder


@pytest.fixture
def train(doors, lab):
    """Runs src.train with that folder's files."""
    doors.paths.append(lab)
    return lambda *overrides, **how: doors(
        "train", "--config-dir", str(lab / "conf"), *QUICK, *overrides, **how
    )


@pytest.fixture(scope="session")
def street_root(tmp_path_factory) -> Path:
    """Read-only, in Cityscapes' layout: 12 train and 7 val scenes of 128x64."""
    root = tmp_path_factory.mktemp("data") / "street"
    write_street(root, {"train": 12, "val": 7}, width=128, height=64, seed=3)
    return root


@pytest.fixture(scope="session")
def cityscapes_root(street_root, tmp_path_factory) -> Path:
    """Read-only, the street with 5 more images in `test`, of which the label files say nothing."""
    root = shutil.copytree(street_root, tmp_path_factory.mktemp("data") / "cityscapes")
    (root / "street.json").unlink()
    for name, image in zip(TEST_NAMES, sorted(root.glob("leftImg8bit/val/*/*.png")), strict=False):
        for kind in ("leftImg8bit", "gtFine"):
            (root / kind / "test" / name.split("_")[0]).mkdir(parents=True, exist_ok=True)
        place = f"test/{name.split('_')[0]}/{name}"
        shutil.copyfile(image, root / f"leftImg8bit/{place}_leftImg8bit.png")
        cv2.imwrite(str(root / f"gtFine/{place}_gtFine_labelIds.png"), np.full((64, 128), 3, np.uint8))
    return root


@pytest.fixture(scope="session")
def camvid_root(street_root, tmp_path_factory) -> Path:
    """Read-only, in CamVid's layout, made of the street: its label ids 0-10 stay, everything else is 11."""
    root = tmp_path_factory.mktemp("data") / "camvid"
    for split in ("train", "val"):
        for kind in (split, f"{split}annot"):
            (root / kind).mkdir(parents=True)
        for image in sorted((street_root / "leftImg8bit" / split).glob("*/*.png")):
            name = image.name.removesuffix("_leftImg8bit.png")
            label = street_root / "gtFine" / split / image.parent.name / f"{name}_gtFine_labelIds.png"
            ids = cv2.imread(str(label), cv2.IMREAD_UNCHANGED)
            shutil.copyfile(image, root / split / f"{name}.png")
            cv2.imwrite(
                str(root / f"{split}annot" / f"{name}.png"), np.where(ids <= 10, ids, 11).astype(np.uint8)
            )
    return root


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real CamVid and KITTI frames: REAL_DATA, or shared/datasets beside the repository."""
    root = Path(os.environ.get("REAL_DATA", REPOSITORY.parent / "shared" / "datasets"))
    if not (root / "camvid").is_dir() or not (root / "kitti").is_dir():
        pytest.skip(f"no camvid/ and kitti/ in {root}: set the environment variable REAL_DATA")
    return root


@pytest.fixture(scope="module")
def faulty_conf(tmp_path_factory):
    """A user's own callbacks: the EMA's, and a fault that strikes where a test says so."""
    folder = tmp_path_factory.mktemp("conf")
    (folder / "callbacks").mkdir()
    (folder / "callbacks/faulty.yaml").write_text(
        "defaults: [ema, _self_]\nfault: {_target_: spy.Fault, orders: '${runs_dir}/fault.json'}\n"
    )
    return folder


@pytest.fixture(scope="module")
def whole(module_doors, faulty_conf):
    """Uninterrupted runs, one per list of overrides."""
    runs = {}

    def run(*overrides):
        if overrides not in runs:
            runs[overrides] = module_doors(
                "train", f"--config-dir={faulty_conf}", *overrides, name=f"whole{len(runs)}"
            )
            assert runs[overrides].code == 0, runs[overrides].err
        return runs[overrides]

    return run


@pytest.fixture
def stop(doors, faulty_conf):
    """Runs a command that a fault ends; returns what it exits with."""

    def run(*overrides, hook, at, what):
        orders = doors.folder / "fault.json"
        orders.write_text(json.dumps({"hook": hook, "at": at, "what": what, "rank": 0}))
        try:
            ended = doors("train", f"--config-dir={faulty_conf}", *overrides).code
        except SystemExit as stopped:
            ended = stopped.code
        except Crash:
            ended = "Crash"
        assert not orders.exists(), "the fault did not strike"
        return ended

    return run


@pytest.fixture
def refused():
    """A context that expects one UserError, shown as one message, which mentions all `parts`."""

    @contextmanager
    def expect(*parts):
        shown = SimpleNamespace(text="")
        try:
            yield shown
        except UserError as error:
            shown.text = error.text
            # Frees a DataLoader's iterator here; left to the garbage collector, it waits 5 s for each worker.
            error.__traceback__ = None
        else:
            pytest.fail("no UserError")
        missing = [str(part) for part in parts if str(part) not in shown.text]
        assert not missing, f"{missing} not in:\n{shown.text}"
        assert "Traceback" not in shown.text
        assert "Caught" not in shown.text

    return expect
