"""Names that a shell, a glob or a parser would take for something else are names."""

import pytest
from front_doors import TINY

from src.street import write_street

TRACE = "touched-by-a-name"
NAMES = [
    f"$(touch {TRACE})",
    f"`touch {TRACE}`; touch {TRACE}",
    f"-rf 'a\" [b]*?\n& | touch {TRACE}",
    "straße 北京 🚲",
]
SMALL = (
    "data=cityscapes",
    "data.class_weights=labels",
    "data.batch_size=2",
    "data.crop_size=[32,64]",
    "data.num_workers=0",
    "model.num_blocks=[1,1]",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=1",
    "callbacks.summary=null",
    "callbacks.pictures=null",
)


def _quoted(value: object) -> str:
    text = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"


@pytest.fixture(scope="module", params=NAMES)
def odd(request, tmp_path_factory):
    """(name, a dataset in a folder of that name with cities and files of that name)"""
    root = tmp_path_factory.mktemp("odd") / request.param
    write_street(root, {"train": 4, "val": 2}, width=64, height=32, seed=5)
    for path in sorted(root.rglob("*.png")):
        path.rename(path.with_name(path.name.replace("stadt_", f"{request.param}_", 1)))
    for folder in sorted(root.glob("*/*/*")):
        folder.rename(folder.with_name(request.param))
    (root / "street.json").unlink()
    return request.param, root


@pytest.mark.slow
def test_training_evaluation_and_doctor(doors, odd, tmp_path):
    name, root = odd
    keys = (
        "data=cityscapes",
        *SMALL,
        f"data.root={_quoted(root)}",
        "data.cache=disk",
        "trainer.accelerator=cpu",
    )
    train = (
        *keys,
        "model.num_blocks=[1,1]",
        "data.num_workers=0",
        "trainer.max_epochs=1",
        "callbacks.summary=null",
    )
    trained = doors("train", *train, name=_quoted(name))
    assert trained.code == 0, trained.err
    directory = doors.folder / "train" / name
    assert (directory / "metrics.json").exists()
    again = doors("train", *train, name=_quoted(name))
    assert again.code == 0, again.err
    checkpoint = f"checkpoint={_quoted(directory / 'checkpoints/best.ckpt')}"
    judged = doors("eval", checkpoint, "trainer.accelerator=cpu", "pictures=0", name=_quoted(name))
    assert judged.code == 0, judged.err
    looked = doors("doctor", *train, name=_quoted(name))
    assert looked.code == 0, looked.out
    assert not list(tmp_path.rglob(TRACE))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_jobs_of_a_sweep(doors, name):
    sweep = doors(
        "train", "-m", *TINY, "seed=1", "callbacks.summary=null", name=_quoted(name), own_process=True
    )
    assert sweep.code == 0, sweep.err
    assert (doors.folder / "train" / name / "0/metrics.json").exists()
    assert not list(doors.folder.rglob(TRACE))
