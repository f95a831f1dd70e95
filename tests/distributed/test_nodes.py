"""Two machines, as far as one can show it on one: processes that were started separately, also in separate
network namespaces."""

import pytest
import torch
from front_doors import TINY
from launch import end, meeting_place, start
from network_namespaces import two_namespaces

from src.weights.checkpoint_files import load_checkpoint

ONE_EPOCH = (*TINY, "data.street.val=8", "data.val_batch_size=1", "trainer.max_epochs=1")


def torchrun(node, place):
    where = ["--master-addr", place["MASTER_ADDR"], "--master-port", place["MASTER_PORT"]]
    shape = ["--nnodes", "2", "--node-rank", str(node), "--nproc-per-node", "1"]
    return ["-m", "torch.distributed.run", *shape, *where], {}


def by_hand(node, place):
    """Lightning's own way: each node's first process starts the others of that node."""
    return [], {"NODE_RANK": str(node), **place}


def two_nodes(launcher, folder, cache, *keys, namespaces=None):
    """Each node has a folder of its own for its runs: whatever the second one writes would show."""
    place, common = meeting_place(), {}
    prefixes = [[], []]
    if namespaces:
        prefixes, place["MASTER_ADDR"], interface = namespaces
        common["GLOO_SOCKET_IFNAME"] = interface
    processes = {}
    for node, before in enumerate(prefixes):
        command, own = launcher(node, place)
        keys_of_node = (*ONE_EPOCH, "trainer.num_nodes=2", f"cache_dir={cache}", *keys)
        command = [*command, "-m", "src.train", *keys_of_node, f"runs_dir={folder / f'node{node}'}"]
        processes[str(node)] = start(command, folder, str(node), before, **own, **common)
    return end(processes, folder)


def assert_same_run(folder, expected):
    """That of the first node, to the bit and to the file, and nothing of the second one."""
    directory = folder / "node0/train/nodes"
    one, other = (load_checkpoint(d / "checkpoints/last.ckpt")["state_dict"] for d in (directory, expected))
    assert all(torch.equal(one[key], other[key]) for key in other)
    files = [sorted(p.name for p in d.rglob("*") if p.is_file()) for d in (directory, expected)]
    assert files[0] == files[1]
    assert not (folder / "node1").exists(), "only the first process writes"


@pytest.fixture(scope="module")
def on_two_devices(module_doors):
    run = module_doors("train", *ONE_EPOCH, "trainer.devices=2", name="devices", own_process=True)
    assert run.code == 0, run.err
    return run


@pytest.mark.slow
def test_two_nodes_of_torchrun_are_two_devices(on_two_devices, doors, tmp_path):
    ended = two_nodes(torchrun, tmp_path, doors.cache, "name=nodes")
    assert [node.code for node in ended.values()] == [0, 0], ended["0"].err + ended["1"].err
    assert_same_run(tmp_path, on_two_devices.directory)
    assert "2 devices" in ended["0"].out
    assert "device(s)" not in ended["1"].out


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [torchrun, by_hand])
def test_two_nodes_in_networks_of_their_own_are_two_devices(on_two_devices, doors, tmp_path, launcher):
    with two_namespaces() as namespaces:
        ended = two_nodes(launcher, tmp_path, doors.cache, "name=nodes", namespaces=namespaces)
    assert [node.code for node in ended.values()] == [0, 0], ended["0"].err + ended["1"].err
    assert_same_run(tmp_path, on_two_devices.directory)


@pytest.mark.slow
def test_two_nodes_of_two_are_four_devices(doors, tmp_path):
    four = doors("train", *ONE_EPOCH, "trainer.devices=4", name="devices", own_process=True)
    assert four.code == 0, four.err
    ended = two_nodes(by_hand, tmp_path, doors.cache, "name=nodes", "trainer.devices=2")
    assert [node.code for node in ended.values()] == [0, 0], ended["0"].err + ended["1"].err
    assert_same_run(tmp_path, four.directory)


@pytest.mark.slow
def test_a_run_without_a_name_on_two_nodes_asks_for_one(doors, tmp_path):
    for node in two_nodes(by_hand, tmp_path, doors.cache).values():
        assert node.code == 2
        assert "name=... is missing" in node.err
