"""Two machines, as far as one can show it on one: processes that were started separately, also in separate
network namespaces."""

import pytest
import torch
from front_doors import TINY
from launch import end, meeting_place, start

from src.checkpoints import load_checkpoint

ONE_EPOCH = (*TINY, "data.street.val=8", "data.val_batch_size=1", "trainer.max_epochs=1")


def weights(directory):
    return load_checkpoint(directory / "checkpoints/last.ckpt")["state_dict"]


def same(one, other):
    return all(torch.equal(one[key], other[key]) for key in other)


@pytest.fixture(scope="module")
def on_two_devices(module_doors):
    run = module_doors("train", *ONE_EPOCH, "trainer.devices=2", name="devices", own_process=True)
    assert run.code == 0, run.err
    return run


def two_nodes(folder, cache, *keys, name="nodes", launcher, prefix=("", ""), **variables):
    """Each node has a folder for its runs of its own: whatever the second one writes would show."""
    common = (
        "-m",
        "src.train",
        *ONE_EPOCH,
        "trainer.num_nodes=2",
        f"cache_dir={cache}",
        f"name={name}",
        *keys,
    )
    place = meeting_place() | variables
    processes = {}
    for node in range(2):
        before, more = launcher(node, place)
        command = [*before, *common, f"runs_dir={folder / f'node{node}'}"]
        processes[f"{node}"] = start(command, folder, f"{node}", **more)
    return end(processes, folder)


def torchrun(node, place):
    where = ["--master-addr", place["MASTER_ADDR"], "--master-port", place["MASTER_PORT"]]
    shape = ["--nnodes", "2", "--node-rank", str(node), "--nproc-per-node", "1"]
    return ["-m", "torch.distributed.run", *shape, *where], {}


def by_hand(node, place):
    """Lightning's own way: each node's first process starts the others of that node."""
    return [], {"NODE_RANK": str(node), **place}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [torchrun, by_hand])
def test_two_nodes_are_two_devices_to_the_bit(on_two_devices, doors, tmp_path, launcher):
    ended = two_nodes(tmp_path, doors.cache, launcher=launcher)
    for node in ended.values():
        assert node.code == 0, node.err
    one = on_two_devices.directory
    two = tmp_path / "node0/train/nodes"
    assert same(weights(two), weights(one))
    files = {path.name for path in two.rglob("*") if path.is_file()}
    assert files == {path.name for path in one.rglob("*") if path.is_file()}
    assert not (tmp_path / "node1").exists(), "only the first process writes into the run directory"
    assert "2 device(s)" in ended["0"].out
    assert "device(s)" not in ended["1"].out
