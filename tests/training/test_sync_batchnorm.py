"""Two processes with a share of the batch each, against one BatchNorm2d with the whole batch."""

import copy
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from src.training.reliability.sync_batchnorm import SyncBatchNorm2d, SyncOverRanks

CHANNELS = 3
CASES = {
    "float64": (torch.float64, (2, 2)),
    "float32": (torch.float32, (2, 2)),
    "float64 unequal": (torch.float64, (1, 4)),
    "float32 unequal": (torch.float32, (1, 4)),
    "bfloat16": (torch.bfloat16, (2, 2)),
    "float32 NHWC": (torch.float32, (2, 2)),
    "bfloat16 NHWC": (torch.bfloat16, (2, 2)),
}
STEPS = 2  # so that the running statistics have moved from somewhere else than their start


def batchnorm(dtype):
    layer = nn.BatchNorm2d(CHANNELS, eps=1e-3, momentum=0.3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.5, 1.0, -2.0]))
        layer.bias.copy_(torch.tensor([1.0, 0.0, 3.0]))
    return layer if dtype is torch.bfloat16 else layer.to(dtype)  # autocast leaves BatchNorm in float32


def data(dtype, batch):
    """Inputs far from zero, and what the output is weighted with to become a loss."""
    generator = torch.Generator().manual_seed(0)
    shape = (STEPS, batch, CHANNELS, 4, 5)
    inputs = 5 + 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
    weights = torch.randn(shape, generator=generator, dtype=torch.float64)
    return inputs.to(dtype), weights.to(dtype)


def train(layer, inputs, weights, channels_last=False):
    layout = torch.channels_last if channels_last else torch.contiguous_format
    inputs = inputs.clone().requires_grad_()
    outputs = torch.stack([layer(x.contiguous(memory_format=layout)) for x in inputs])
    (outputs * weights).sum().backward()
    return {
        "output": outputs.detach(),
        "input gradient": inputs.grad,
        "weight gradient": layer.weight.grad,
        "bias gradient": layer.bias.grad,
        "running_mean": layer.running_mean,
        "running_var": layer.running_var,
        "num_batches_tracked": layer.num_batches_tracked,
    }


def process(rank, directory):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{directory}/meeting",
        rank=rank,
        world_size=2,
        timeout=timedelta(minutes=1),  # when the other one has failed
    )
    results = {}
    for name, (dtype, shares) in CASES.items():
        inputs, weights = (t.split(shares, dim=1)[rank] for t in data(dtype, sum(shares)))
        layer = SyncOverRanks().apply(batchnorm(dtype))
        results[name] = train(layer, inputs, weights, channels_last="NHWC" in name)
    layer = SyncOverRanks().apply(batchnorm(torch.float32)).eval()
    results["eval"] = layer(data(torch.float32, 1)[0][0] + rank).detach()
    dist.destroy_process_group()
    torch.save(results, f"{directory}/{rank}.pt")


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    directory = tmp_path_factory.mktemp("processes")
    other = mp.get_context("spawn").Process(target=process, args=(1, str(directory)), daemon=True)
    other.start()
    process(0, str(directory))  # this one is the first: starting a process costs seconds
    other.join()
    return [torch.load(directory / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_are_one_with_the_whole_batch(processes, case):
    dtype, shares = CASES[case]
    expected = train(batchnorm(dtype), *data(dtype, sum(shares)))
    first, second = (results[case] for results in processes)
    found = first | {
        "output": torch.cat([first["output"], second["output"]], dim=1),
        "input gradient": torch.cat([first["input gradient"], second["input gradient"]], dim=1),
        "weight gradient": first["weight gradient"] + second["weight gradient"],
        "bias gradient": first["bias gradient"] + second["bias gradient"],
    }
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2}[dtype]
    for name, value in expected.items():
        scale = float(value.abs().max())
        torch.testing.assert_close(found[name], value, rtol=tolerance, atol=tolerance * scale, msg=name)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(first[name], second[name]), f"{name} differs between the processes"


def test_evaluation_is_each_process_for_itself(processes):
    inputs = data(torch.float32, 1)[0][0]
    for rank, results in enumerate(processes):
        torch.testing.assert_close(results["eval"], batchnorm(torch.float32).eval()(inputs + rank))


@pytest.mark.parametrize("training", [True, False])
def test_without_other_processes_it_is_batchnorm(training):
    plain = batchnorm(torch.float32).train(training)
    synchronised = SyncOverRanks().apply(copy.deepcopy(plain))
    for x in data(torch.float32, 3)[0]:
        assert torch.equal(synchronised(x), plain(x))
    assert all(map(torch.equal, synchronised.buffers(), plain.buffers()))


def test_apply_and_revert_change_nothing_but_the_class():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sequential(nn.BatchNorm2d(3)), nn.BatchNorm1d(3))
    keys, tensors = list(model.state_dict()), [*map(id, model.parameters()), *map(id, model.buffers())]

    def kinds():
        return [type(layer) for layer in (model[1][0], model[2])]

    for change, kind in ((SyncOverRanks().apply, SyncBatchNorm2d), (SyncOverRanks().revert, nn.BatchNorm2d)):
        assert change(model) is model
        assert kinds() == [kind, nn.BatchNorm1d]
        assert list(model.state_dict()) == keys
        assert [*map(id, model.parameters()), *map(id, model.buffers())] == tensors


def test_layers_without_all_that_is_needed_stay_as_they_are():
    given = [{"affine": False}, {"momentum": None}, {"track_running_stats": False}]
    layers = torch.nn.Sequential(*(torch.nn.BatchNorm2d(3, **how) for how in given), torch.nn.BatchNorm1d(3))
    kinds = [type(layer) for layer in layers]
    assert [type(layer) for layer in SyncOverRanks().apply(layers)] == kinds
