"""Ranks that fail alone: the others end with them, soon, and the command says why."""

import time

import psutil
import pytest
from faults import ALL_IS_WELL, fault
from front_doors import TINY

from src.training.reliability.rank_watchdog import how_it_ended
from src.weights.checkpoint_files import load_checkpoint

pytestmark = pytest.mark.slow
TWO = (*TINY, "callbacks.summary=null", "callbacks.pictures=null", "trainer.devices=2")


def _left_over(outcome) -> list[psutil.Process]:
    return [
        p
        for p in psutil.process_iter(["cmdline"])
        if f"runs_dir={outcome.directory.parent.parent}" in (p.info["cmdline"] or [])
    ]


@pytest.mark.parametrize(
    ("name", "rank", "code", "named"),
    [
        ("OutOfMemory", 0, 2, ["The memory of the machine is not enough", "2 device(s) x 1 accumulated x 2"]),
        (
            "OutOfMemory",
            1,
            2,
            ["[rank 1] The memory of the machine", "Rank 1 ended with exit code 2"],
        ),
        ("Die", 1, 2, ["Rank 1 was killed by SIGKILL", "The same command resumes"]),
        ("Die", 0, -9, []),
    ],
)
def test_one_rank_fails(doors, monkeypatch, name, rank, code, named):
    overrides = (*TWO, *fault(name, step=5, rank=rank))
    outcome = doors("train", *overrides, own_process=True)
    assert outcome.code == code, outcome.err
    assert "Traceback" not in outcome.err
    for text in named:
        assert text in outcome.err, outcome.err
    deadline = time.monotonic() + 10
    while _left_over(outcome) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not _left_over(outcome), "a rank continued alone"
    last = outcome.directory / "checkpoints/last.ckpt"
    assert load_checkpoint(last)["global_step"] == 4
    if (name, rank) == ("Die", 1):
        monkeypatch.setenv(ALL_IS_WELL, "1")
        assert doors("train", *overrides, own_process=True).code == 0
        assert load_checkpoint(last)["global_step"] == 8


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_group_that_waits_for_the_others_is_left_alone(doors, tmp_path, rank):
    struck = tmp_path / "struck"
    outcome = doors("train", *TWO, *fault("BlockedGroup", step=2, rank=rank, path=struck), own_process=True)
    assert time.time() - struck.stat().st_mtime < 10
    assert outcome.code == 2
    assert "The memory of the machine is not enough" in outcome.err
    assert not _left_over(outcome)


def test_a_loss_that_is_not_finite_stops_all_ranks(doors):
    outcome = doors("train", *TWO, *fault("SpoilFirst", step=2, rank=1), own_process=True)
    assert outcome.code == 2, outcome.err
    assert "Traceback" not in outcome.err
    text = outcome.err.partition("The loss is")[2].partition("The same command")[0]
    assert len(set(text.split()) & {f"trainstadt_{n:06d}_000000" for n in range(16)}) == 4, "of both ranks"


@pytest.mark.parametrize(
    ("code", "said"),
    [(2, "exit code 2"), (-9, "dmesg"), (-11, "SIGSEGV"), (-6, "NCCL has waited 10 minutes")],
)
def test_how_a_rank_ended_in_words(code, said):
    assert said in how_it_ended(3, code)
