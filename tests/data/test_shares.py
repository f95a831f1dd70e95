"""How a datamodule shares out batches, class weights and workers, and what it refuses."""

import pytest

from src.data import statistics
from src.errors import counted
from src.runs.machine import cores_of_a_device

# ---- shares


@pytest.mark.parametrize(("devices", "accumulate"), [(3, 1), (1, 8), (2, 4), (8, 1)])
def test_a_batch_that_cannot_be_shared_out(street_module, refused, devices, accumulate):
    with refused("data.batch_size=4", f"{counted(devices, 'device')} x {accumulate}", "1, 2, 4"):
        street_module().check_shares(devices, accumulate)


@pytest.mark.parametrize(("devices", "accumulate"), [(1, 1), (2, 1), (2, 2), (1, 4), (4, 1)])
def test_batches_that_can_be_shared_out(ready, street_module, devices, accumulate):
    ready(street_module(val_batch_size=1)).check_shares(devices, accumulate)


def test_fewer_images_than_a_batch(ready, street_module, street_root, refused):
    module = ready(street_module(batch_size=13))
    with refused("'train'", street_root, "12 images", "data.batch_size=13"):
        module.check_shares(1, 1)
    ready(street_module(batch_size=12)).check_shares(1, 1)


def test_fewer_validation_images_than_devices(ready, street_module, street_root, refused):
    module = ready(street_module(batch_size=8, val_batch_size=1))
    for check in (lambda: module.check_shares(8, 1), lambda: module.check_devices(8)):
        with refused("'val'", street_root, "7 images", "8 devices", "trainer.devices"):
            check()
    module.check_devices(7)


def test_fewer_validation_batches_than_devices(ready, street_module, street_root, refused):
    module = ready(street_module(val_batch_size=4))
    module.check_devices(2)
    with refused("7 images", "2 batches", "data.val_batch_size=4", "3 devices"):
        module.check_devices(3)


# ---- class weights


def test_given_weights_are_taken_as_they_are(street_module):
    weights = [float(number) for number in range(19)]
    assert street_module().class_weights(weights) == weights
    assert street_module().class_weights(None) is None


def test_weights_from_the_labels(ready, street_module, tmp_path):
    module = ready(street_module())
    weights = module.class_weights("labels")
    by_split = {
        split: statistics.class_weights(pairs, module.table, tmp_path)
        for split, pairs in (("train", module.train_set.pairs), ("val", module.val_set.pairs))
    }
    assert weights == by_split["train"] != by_split["val"]
    assert weights[0] == min(weights)  # road


# ---- workers


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(
    ("cores", "devices", "expected"),
    [(64, 1, 8), (64, 4, 8), (16, 4, 4), (6, 4, 1), (1, 1, 1), (2, 8, 1)],
)
def test_workers_share_the_cores(ready, street_module, monkeypatch, cores, devices, expected):
    module = ready(street_module(num_workers="auto", batch_size=8), devices=devices)
    monkeypatch.setattr("src.runs.machine.usable_cores", lambda: cores)
    for loader in (module.train_dataloader(), module.val_dataloader()):
        assert loader.num_workers == expected
        assert loader.persistent_workers


@pytest.mark.parametrize(
    ("cores", "tasks", "bound", "expected"),
    [
        (6, "4", "6", 6),  # srun --cpus-per-task=6: what this task sees is its own already
        (24, "4", None, 6),  # all tasks see all cores of the job
        (24, "4", "6", 6),  # and so without binding
        (6, "1", "6", 1),  # four ranks that one task starts share its cores
    ],
)
def test_a_task_of_srun_has_its_own_cores(monkeypatch, cores, tasks, bound, expected):
    monkeypatch.setattr("src.runs.machine.usable_cores", lambda: cores)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", tasks)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    if bound:
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", bound)
    assert cores_of_a_device(devices=4) == expected
