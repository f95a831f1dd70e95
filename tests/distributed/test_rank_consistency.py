"""Ranks that would compute different things say so, all of them, and nobody waits."""

import shutil

import pytest
from front_doors import TINY
from launch import end, meeting_place, start

from src.errors import UserError
from src.training.reliability.rank_consistency import check_consistency


def two_ranks(folder, common, of_rank):
    """`python -m src.<common[0]>` twice, with keys of its own for each rank."""
    place = meeting_place()
    processes = {
        f"rank{rank}": start(
            ["-m", f"src.{common[0]}", *common[1:], *own],
            folder,
            f"rank{rank}",
            LOCAL_RANK=str(rank),
            NODE_RANK="0",
            **place,
        )
        for rank, own in enumerate(of_rank)
    }
    return end(processes, folder)


@pytest.fixture
def other_root(street_root, tmp_path):
    """As `street_root`, but that a training and a validation frame have other names."""
    root = shutil.copytree(street_root, tmp_path / "other")
    for split in ("train", "val"):
        for path in sorted(root.glob(f"*/{split}/*/*_000003_000000_*")):
            path.rename(path.with_name(path.name.replace("000003", "000033")))
    return root


@pytest.mark.slow
def test_other_data_and_another_command(doors, street_root, other_root, tmp_path):
    common = (
        "train",
        *TINY,
        "data.street=null",
        f"cache_dir={doors.cache}",
        f"runs_dir={tmp_path}",
        "name=run",
    )
    keys = "trainer.devices=2", "optimizer.lr=0.01", f"data.root={street_root}"
    ended = two_ranks(tmp_path, (*common, *keys), [[], [f"data.root={other_root}", "optimizer.lr=0.02"]])
    for rank in ended.values():
        assert rank.code == 2, rank.err
        assert "optimizer.lr: 0.01 on rank 0; 0.02 on rank 1" in rank.err
        assert "training frames: 12 (" in rank.err
        assert "validation frames: 7 (" in rank.err
        assert "data.root=..." in rank.err
        assert "versions" not in rank.err
        assert "Traceback" not in rank.err
    assert not list((tmp_path / "train/run").rglob("*.ckpt"))


@pytest.mark.slow
def test_a_run_directory_that_is_not_shared(doors, tmp_path):
    first = doors("train", *TINY, "trainer.max_epochs=1", own_process=True)  # whose end gives the lock back
    assert first.code == 0
    (first.directory / "metrics.json").unlink()  # as if it had been killed
    common = (
        "train",
        *TINY,
        "trainer.max_epochs=1",
        f"cache_dir={doors.cache}",
        "name=run",
        "trainer.devices=2",
    )
    own = [f"runs_dir={doors.folder}"], [f"runs_dir={tmp_path / 'elsewhere'}"]
    for rank in two_ranks(tmp_path, common, own).values():
        assert rank.code == 2, rank.err
        assert "checkpoint to begin with: " in rank.err
        assert "none on rank 1" in rank.err
        assert "runs_dir=..." in rank.err
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.slow
def test_an_evaluation_of_other_frames_or_another_checkpoint(doors, street_root, other_root, tmp_path):
    data = "data.street=null", f"data.root={street_root}"
    runs = [
        doors("train", *TINY, *data, f"seed={n}", "trainer.max_epochs=1", name=f"seed{n}") for n in (1, 2)
    ]
    checkpoints = [f"checkpoint={run.directory}/checkpoints/best.ckpt" for run in runs]
    common = (
        "eval",
        *data,
        f"cache_dir={doors.cache}",
        "name=run",
        "trainer.devices=2",
        f"runs_dir={tmp_path}",
    )
    common += ("trainer.accelerator=cpu", "data.num_workers=0")
    own = [checkpoints[0]], [checkpoints[1], f"data.root={other_root}"]
    for rank in two_ranks(tmp_path, common, own).values():
        assert rank.code == 2, rank.err
        assert "checkpoint to begin with: " in rank.err
        assert "validation frames: 7 (" in rank.err
        assert "training frames" not in rank.err


@pytest.mark.slow
def test_instances_on_one_machine_alone(doors, street_root, tmp_path):
    """One rank would wait for ever for what the other has not counted."""
    without = shutil.copytree(
        street_root, tmp_path / "without", ignore=shutil.ignore_patterns("*instanceIds*")
    )
    run = doors("train", *TINY, "data.street=null", f"data.root={street_root}", "trainer.max_epochs=1")
    common = (
        "eval",
        "data.street=null",
        f"checkpoint={run.directory}/checkpoints/best.ckpt",
        f"cache_dir={doors.cache}",
        f"runs_dir={tmp_path}",
        "name=run",
        "trainer.devices=2",
        "trainer.accelerator=cpu",
        "data.num_workers=0",
    )
    for rank in two_ranks(
        tmp_path, common, [[f"data.root={street_root}"], [f"data.root={without}"]]
    ).values():
        assert rank.code == 2, rank.err
        assert "instanceIds files: beside the labels on rank 0; none on rank 1" in rank.err
        assert "validation frames" not in rank.err


def test_what_agrees_is_not_mentioned_and_ranks_are_grouped():
    one = {"Do this.": {"torch": "2.13", "numpy": "2"}, "Do that.": {"frames": "7"}}
    other = {"Do this.": {"torch": "2.12", "numpy": "2"}, "Do that.": {"frames": "7"}}
    check_consistency([one, one])
    with pytest.raises(UserError) as error:
        check_consistency([one, other, one])
    assert error.value.text.splitlines()[1:] == ["  torch: 2.13 on rank 0, 2; 2.12 on rank 1", "  Do this."]


def test_a_key_that_one_rank_does_not_have():
    with pytest.raises(UserError, match=r"callbacks.mine: missing on rank 0; x on rank 1"):
        check_consistency([{"Do this.": {}}, {"Do this.": {"callbacks.mine": "x"}}])
