"""compile=true compiles the training step, says so, and changes nothing else."""

import json
import re
from functools import partial

import pytest
import torch
from front_doors import TINY
from torch.utils.flop_counter import FlopCounterMode

from src.checkpoints import load_checkpoint
from src.errors import UserError
from src.training.compiled import Compiled

COMPILED = (*TINY, "model.num_blocks=[1,2]", "callbacks.pictures=null", "report.images=0", "compile=true")


@pytest.fixture
def graphs(monkeypatch):
    """What torch.compile is given instead of code for a compiler, which would take minutes."""
    captured = []

    def backend(graph, _inputs):
        captured.append({str(node.target) for node in graph.graph.nodes})
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    return captured


def square(x):
    return (x * x).sum()


def with_breaks(x):
    torch._dynamo.graph_break()
    return square(x) if x.sum().item() > 0 else x.sum()


def test_a_training_with_the_summary_is_compiled(doors, graphs):
    run = doors("train", *COMPILED, "callbacks=ema", "trainer.accumulate_grad_batches=2")
    assert run.code == 0, run.err
    assert "FLOPs for a crop" in run.out
    assert len(graphs) == 1, "whatever other sizes validation has"
    for part in ("conv2d", "interpolate", "cross_entropy"):  # network and loss
        assert any(part in name for name in graphs[0]), graphs[0]
    log = (run.directory / "train.log").read_text()
    assert re.search(r"network and loss are 1 graph of \d{2,} operations, with 0 graph breaks\n", log)


def test_the_weights_are_those_of_a_training_without(doors, graphs):
    runs = [doors("train", *COMPILED, f"compile={switch}", name=f"is-{switch}") for switch in (True, False)]
    one, other = (load_checkpoint(run.directory / "checkpoints/last.ckpt")["state_dict"] for run in runs)
    assert one.keys() == other.keys()
    for key in one:
        torch.testing.assert_close(one[key], other[key], msg=key)


def test_a_run_goes_on_without_it(doors, graphs):
    doors("train", *COMPILED, "trainer.limit_train_batches=2")
    last = doors.folder / "train/run/checkpoints/last.ckpt"
    (doors.folder / "train/run/metrics.json").unlink()
    assert load_checkpoint(last)["hyper_parameters"]["training"]["compile"]
    run = doors("train", *COMPILED, "trainer.limit_train_batches=2", "compile=false")
    assert run.code == 0, run.err
    assert "torch.compile" not in run.out


@pytest.mark.parametrize("why", ["switched off", "a dispatch mode"])
def test_a_training_in_which_nothing_is_compiled_is_refused(doors, graphs, why):
    off = why == "switched off"
    with torch._dynamo.config.patch(disable=True) if off else FlopCounterMode(display=False):
        run = doors("train", *COMPILED, "callbacks.summary=null")
    assert run.code == 2
    assert "compile=true: torch.compile compiled nothing of the training step" in run.err
    assert not list(run.directory.glob("checkpoints/*.ckpt"))


def test_what_was_compiled_is_said_once(graphs, caplog):
    compiled = Compiled(with_breaks)
    with caplog.at_level("INFO"):
        for _ in range(3):
            assert compiled(torch.ones(2)) == 2
    assert compiled.graphs == len(graphs) > 1
    assert len(re.findall(f"are {compiled.graphs} graphs .* [12] graph breaks? .*graph_breaks", caplog.text)) == 1


def test_a_function_that_was_given_up_before_is_compiled(graphs):
    with FlopCounterMode(display=False), pytest.raises(UserError, match="compiled nothing"):
        Compiled(square)(torch.ones(2))
    compiled = Compiled(square)
    assert compiled(torch.ones(2)) == 2
    assert compiled.graphs == 1


def test_a_machine_without_a_compiler_is_told_so():
    missing = torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",), "fx_graph_cache": False})
    with missing, pytest.raises(UserError, match="(?s)compile=true: .*No working C.*compile=false"):
        Compiled(square)(torch.ones(2))


@pytest.mark.parametrize("key", ["compile", "channels_last"])
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_bf16_on_the_cpu_is_refused(doors, key, precision):
    run = doors("train", *TINY, f"{key}=true", f"trainer.precision={precision}")
    assert run.code == 2
    assert f"{key}=true with trainer.precision=bf16-mixed on the CPU" in run.err
    assert f"Set {key}=false" in run.err
    assert not run.directory.exists()


def test_a_benchmark_says_whether_its_step_is_compiled(doors, graphs):
    quick = ("measure.rounds=1", "measure.samples=2", "measure.seconds=0", "measure.frames=2")
    for switch, count in (("true", 1), ("false", 0)):
        done = doors("benchmark", *TINY, *quick, f"compile={switch}")
        assert done.code == 0, done.err
        step = json.loads((done.directory / "benchmark.json").read_text())["step"]
        assert step["compiled_graphs"] == count
        assert ("compiled into 1 graph" in " ".join(done.out.split())) == bool(count)
