"""compile=true compiles the training step, says so, and changes nothing else."""

import copy
import json
import re
import shutil
from functools import partial

import cv2
import numpy as np
import pytest
import torch
from front_doors import TINY
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from src.errors import UserError
from src.labels import CAMVID, IGNORE
from src.network.segmenter import Segmenter
from src.training.compiled import Compiled
from src.training.losses import WeightedCrossEntropy
from src.training.losses.step_loss import StepLoss
from src.weights.checkpoint_files import load_checkpoint

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


class Scale(nn.Module):
    def __init__(self, breaks=False):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.breaks = breaks

    def forward(self, x):
        if self.breaks:
            torch._dynamo.graph_break()
        return x * self.weight


def compiled(network):
    return Compiled(network, lambda image: {"logits": network(image)})


@pytest.mark.slow
def test_a_training_with_the_summary_is_compiled(doors, graphs):
    run = doors("train", *COMPILED, "callbacks=ema", "trainer.accumulate_grad_batches=2")
    assert run.code == 0, run.err
    assert "FLOPs for a crop" in run.out
    assert len(graphs) == 1, "whatever other sizes validation has"
    for part in ("conv2d", "batch_norm", "prelu"):
        assert any(part in name for name in graphs[0]), graphs[0]
    log = (run.directory / "train.log").read_text()
    assert re.search(r"the network is 1 graph of \d{2,} operations, with 0 graph breaks\n", log)


def test_the_weights_are_those_of_a_training_without(doors, graphs):
    runs = [doors("train", *COMPILED, f"compile={switch}", name=f"is-{switch}") for switch in (True, False)]
    one, other = (load_checkpoint(run.directory / "checkpoints/last.ckpt")["state_dict"] for run in runs)
    assert one.keys() == other.keys()
    for key in one:
        torch.testing.assert_close(one[key], other[key], msg=key)


@pytest.mark.slow
def test_a_run_goes_on_without_it(doors, graphs):
    doors("train", *COMPILED, "trainer.limit_train_batches=2")
    last = doors.folder / "train/run/checkpoints/last.ckpt"
    (doors.folder / "train/run/metrics.json").unlink()
    assert load_checkpoint(last)["hyper_parameters"]["training"]["compile"]
    run = doors("train", *COMPILED, "trainer.limit_train_batches=2", "compile=false")
    assert run.code == 0, run.err
    assert "torch.compile" not in run.out


@pytest.mark.sampled(1)
@pytest.mark.parametrize("why", ["switched off", "a dispatch mode"])
def test_a_training_in_which_nothing_is_compiled_is_refused(doors, graphs, why):
    off = why == "switched off"
    with torch._dynamo.config.patch(disable=True) if off else FlopCounterMode(display=False):
        run = doors("train", *COMPILED, "callbacks.summary=null")
    assert run.code == 2
    assert "compile=true: torch.compile compiled nothing of the training step" in run.err
    assert not list(run.directory.glob("checkpoints/*.ckpt"))


def test_what_was_compiled_is_said_once(graphs, caplog):
    forward = compiled(Scale(breaks=True))
    with caplog.at_level("INFO"):
        for _ in range(3):
            assert forward(torch.ones(2))["logits"].sum() == 2
    assert forward.graphs == len(graphs) >= 1
    said = r"the network is \d graphs? .* [1-9] graph breaks? .*graph_breaks"
    assert len(re.findall(said, caplog.text)) == 1


def test_a_network_that_was_given_up_before_is_compiled(graphs):
    with FlopCounterMode(display=False), pytest.raises(UserError, match="compiled nothing"):
        compiled(Scale())(torch.ones(2))
    forward = compiled(Scale())
    assert forward(torch.ones(2))["logits"].sum() == 2
    assert forward.graphs == 1


def test_wrong_gradients_are_refused(doors, monkeypatch):
    """As torch 2.13 makes them of network and loss in one graph: right losses, and nothing is learned."""

    def without_gradients(graph, _inputs):
        return lambda *args: [0 * output + output.detach() for output in graph(*args)]

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=without_gradients))
    run = doors("train", *COMPILED)
    assert run.code == 2
    assert (
        "compile=true: torch.compile makes wrong gradients of this network here: their norm is 0 " in run.err
    )
    assert not list(run.directory.glob("checkpoints/*.ckpt"))


def test_the_first_look_leaves_no_trace(graphs):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
    plain, image = copy.deepcopy(network), torch.rand(2, 3, 8, 8)
    torch.manual_seed(0)
    expected = plain(image)
    torch.manual_seed(0)
    assert torch.equal(compiled(network)(image)["logits"], expected)
    for one, other in zip(network.buffers(), plain.buffers(), strict=True):
        assert torch.equal(one, other)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_machine_without_a_compiler_is_told_so():
    missing = torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",), "fx_graph_cache": False})
    with missing, pytest.raises(UserError, match=r"(?s)compile=true: .*No working C.*compile=false"):
        compiled(Scale())(torch.ones(2))


@pytest.mark.sampled(1)
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_in_bf16_on_the_cpu_it_needs_channels_last(doors, precision):
    run = doors("train", *TINY, "compile=true", f"trainer.precision={precision}")
    assert run.code == 2
    assert "compile=true in bf16 on the CPU needs channels_last=true" in run.err
    assert not run.directory.exists()


@pytest.mark.slow
def test_bf16_on_the_cpu_in_channels_last(doors, monkeypatch):
    keys = (*TINY, "channels_last=true", "trainer.precision=bf16-mixed", "model.num_blocks=[3,3]")
    assert doors("train", *keys, "trainer.max_epochs=1").code == 0
    monkeypatch.setattr("src.network.cgnet.DepthwiseConv2d", _stock)
    run = doors("train", *keys, name="stock")
    assert run.code == 2
    assert "is NaN at random there (seen with 2.13), and the network has 6 of them" in run.err


def _stock(inputs, channels, dilation):
    return nn.Conv2d(inputs, channels, 3, padding=dilation, dilation=dilation, groups=inputs, bias=False)


@pytest.mark.slow
def test_a_benchmark_says_whether_its_step_is_compiled(doors, graphs):
    quick = ("measure.rounds=1", "measure.seconds=0", "measure.frames=2")
    for switch, count in (("true", 1), ("false", 0)):
        done = doors("benchmark", *TINY, *quick, f"compile={switch}")
        assert done.code == 0, done.err
        step = json.loads((done.directory / "benchmark.json").read_text())["step"]
        assert step["compiled_graphs"] == count
        assert ("compiled into 1 graph" in " ".join(done.out.split())) == bool(count)


@pytest.mark.slow
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["NCHW", "NHWC"])
def test_gradients_on_real_images_are_those_of_eager_mode(real_data, layout):
    folders = (real_data / "camvid" / name for name in ("train", "trainannot"))
    images, masks = ([cv2.imread(str(p), -1) for p in sorted(f.glob("*.png"))[:2]] for f in folders)
    frames = [cv2.cvtColor(image, cv2.COLOR_BGR2RGB)[200:296, 176:304] for image in images]
    labels = [mask[200:296, 176:304] for mask in masks]
    image = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).contiguous()
    target = torch.from_numpy(CAMVID.to_train_id[np.stack(labels)])
    assert 0.5 < (target != IGNORE).float().mean() < 1
    torch.manual_seed(0)
    model = {"_target_": "src.network.cgnet.CGNet", "num_classes": 11}
    eager = Segmenter.from_config(model | {"preprocessing": {"mean": [100.0] * 3, "std": [50.0] * 3}}).train()
    for part in eager.modules():
        if isinstance(part, nn.PReLU):
            # Else the last bit of a value near zero decides about its slope, in eager mode alone already by
            # 1e-3 of the gradient.
            nn.init.ones_(part.weight)
    loss = WeightedCrossEntropy([1.0 + 0.1 * number for number in range(11)], label_smoothing=0.1)
    other = copy.deepcopy(eager)
    if layout == torch.channels_last:
        other.channels_last()
    forward = Compiled(other, other.coarse_outputs)
    for outputs in (eager.coarse_outputs, forward):
        sums = StepLoss(loss)(outputs(image), {"target": target})
        (sums.total / sums.weight).backward()
    assert forward.graphs == 1
    one, two = (torch.cat([p.grad.flatten() for p in s.parameters()]) for s in (eager, other))
    assert torch.linalg.vector_norm(one - two) < 2e-3 * torch.linalg.vector_norm(one)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_one_graph_for_all_epochs_and_sizes(doors, street_root, tmp_path, devices):
    """Three epochs with validations on images of five sizes; on two devices with synchronised BatchNorm."""
    root = shutil.copytree(street_root, tmp_path / "sizes")
    frames = sorted(root.glob("leftImg8bit/val/*/*.png"))
    for number, frame in enumerate(frames):
        key = frame.name.removesuffix("_leftImg8bit.png")
        for path in root.glob(f"*/val/*/{key}_*.png"):
            cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[:, : 128 - 8 * (number % 5)])
    run = doors(
        "train",
        *(*COMPILED, "channels_last=true", "data.street=null", f"data.root={root}", "data.val_batch_size=1"),
        *(f"trainer.devices={devices}", "trainer.max_epochs=3", "+callbacks.spy._target_=spy.GraphSpy"),
        f"+callbacks.spy.folder={tmp_path}",
        own_process=True,
    )
    assert run.code == 0, run.err
    counts = [json.loads(path.read_text()) for path in tmp_path.glob("graphs*.json")]
    assert counts == [{"graphs": 1, "forward and backward": 1, "breaks": 0}] * devices
    assert len(frames) >= 5


@pytest.mark.slow
def test_the_real_command_compiles_and_its_checkpoint_is_like_any_other(doors):
    runs = []
    for switch in (True, False):
        command = (*COMPILED, f"compile={switch}", "channels_last=true")
        runs.append(doors("train", *command, name=f"is-{switch}", own_process=True))
        assert runs[-1].code == 0, runs[-1].err
    log = (runs[0].directory / "train.log").read_text()
    assert re.search(r"the network is 1 graph of \d+ operations, with 0 graph breaks", log)
    one, other = (load_checkpoint(r.directory / "checkpoints/last.ckpt")["state_dict"] for r in runs)
    assert one.keys() == other.keys()
    assert all(tensor.isfinite().all() for tensor in one.values())
    judged = doors("eval", f"checkpoint={runs[0].directory}/checkpoints/best.ckpt", "trainer.accelerator=cpu")
    assert judged.metrics["confusion_matrix"] == runs[0].metrics["confusion_matrix"]
