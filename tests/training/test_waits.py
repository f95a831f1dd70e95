"""No step waits for the device: what is on it is read only where something is logged or saved.

The device is `meta`, whose tensors have no values: whoever asks for one, as `.item()`, `bool()`, `nonzero()`
or a copy to the host do, gets an error that names the line. On a GPU each of them stops the host until the
device has done all its work.
"""

from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from hydra import compose, initialize_config_dir
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch.testing._internal.distributed.fake_pg import FakeStore

from src.config import CONF_DIR, plain, register_resolvers
from src.data.datamodule import SegmentationDataModule
from src.training.assemble import build_callbacks, build_module
from src.training.callbacks import nan_guard as finite
from src.training.reliability.preemption import StopOnSignal
from src.training.reliability.rank_watchdog import RankWatchdog
from src.training.reliability.sync_batchnorm import SyncBatchNorm2d, SyncOverRanks
from src.training.trainer import build_trainer

STEPS = 4


class EnoughError(Exception):
    pass


class Steps(pl.Callback):
    """Ends the training before the first checkpoint, which is written from the device."""

    done = 0

    def on_train_batch_end(self, trainer, *args):
        self.done += 1

    def on_train_batch_start(self, trainer, *args):
        if self.done == STEPS:
            raise EnoughError


class MetaAccelerator(CPUAccelerator):
    def setup_device(self, device):
        pass


class OnMeta(SingleDeviceStrategy):
    world_size = 1

    def __init__(self, world_size=1):
        super().__init__(device=torch.device("meta"), accelerator=MetaAccelerator())
        self.world_size = world_size

    def setup(self, trainer):
        super().setup(trainer)
        if self.world_size > 1:  # as DDPStrategy does
            SyncOverRanks().apply(self.model)


@pytest.fixture
def fit(cache_dir, tmp_path, monkeypatch):
    # A real device copies the loss to the host without being waited for, and has values from the start.
    monkeypatch.setattr(finite, "_to_host", lambda value: (torch.zeros(()), None))
    monkeypatch.setattr(finite.NanGuard, "on_train_start", lambda *args: None)
    monkeypatch.setattr("pytorch_lightning.loops.fit_loop.has_len_all_ranks", lambda *args: True)
    monkeypatch.setattr(pl.Trainer, "_teardown", lambda self: None)  # copies all to the CPU

    def run(*overrides, extra=(), ranks=1):
        register_resolvers()
        keys = (
            "experiment=debug",
            "model.num_blocks=[2,2]",
            "trainer.detect_anomaly=false",
            "trainer.num_sanity_val_steps=0",
            "trainer.limit_val_batches=0",
            "trainer.log_every_n_steps=50",
            "data.street.train=32",
            "callbacks.best=null",
            "callbacks.summary=null",
            "name=waits",
            f"runs_dir={tmp_path}",
            f"cache_dir={cache_dir}",
        )
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            config = compose("train", [*keys, *overrides])
        callbacks = [*build_callbacks(config.callbacks), *extra]
        config = plain(config)
        data = SegmentationDataModule(config["data"], config["augment"], config["seed"], config["cache_dir"])
        steps = Steps()
        on_cpu = build_trainer(config["trainer"] | {"accelerator": "cpu"})
        data.prepare_data()
        data.setup("fit")
        module = build_module(config, data, on_cpu)
        trainer = build_trainer(
            config["trainer"] | {"accelerator": "auto", "strategy": OnMeta(ranks)},
            [*callbacks, steps],
            [CSVLogger(tmp_path)],
        )
        with pytest.raises(EnoughError):
            trainer.fit(module, datamodule=data)
        for callback in trainer.callbacks:
            if isinstance(callback, RankWatchdog):  # else it would end this process, which has failed
                callback.stop()
        assert steps.done == STEPS
        assert all(p.is_meta for p in module.parameters())
        return module

    return run


@pytest.mark.parametrize("callbacks", ["default", "ema"])
def test_no_step_waits_for_the_device(fit, callbacks):
    fit(f"callbacks={callbacks}")


@pytest.fixture
def rank_of_two():
    destroy = dist.destroy_process_group
    dist.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    yield
    destroy()


def test_no_step_of_two_ranks_waits_for_the_device(fit, rank_of_two, monkeypatch):
    """Among them, too: with synchronised BatchNorm, the loss over all ranks and their word on stopping."""
    reduced, hosts = [], SimpleNamespace(monitored_barrier=lambda *args, **kwargs: None)
    all_reduce = dist.all_reduce

    def noted(tensor, *args, group=None):
        reduced.append((tensor.device.type, group))
        if group is None:
            all_reduce(tensor, *args)

    monkeypatch.setattr(dist, "all_reduce", noted)
    monkeypatch.setattr(dist, "new_group", lambda *args, **kwargs: hosts)
    monkeypatch.setattr(dist, "destroy_process_group", lambda group=None: None)
    layers = sum(isinstance(layer, SyncBatchNorm2d) for layer in fit(ranks=2).modules())
    assert layers == 14
    on_device = STEPS * (2 * layers + 1)
    assert reduced.count(("meta", None)) == on_device
    assert len(reduced) - on_device == reduced.count(("cpu", hosts)) > 0


def test_ranks_agree_on_stopping_through_their_hosts(monkeypatch):
    groups, reduced = [], []

    def all_reduce(tensor, operation, group):
        reduced.append((tensor.device.type, group))
        tensor.fill_(15)

    monkeypatch.setattr(dist, "new_group", lambda backend: groups.append(backend) or "hosts")
    monkeypatch.setattr(dist, "all_reduce", all_reduce)
    stop = StopOnSignal()
    trainer = SimpleNamespace(world_size=2, strategy=OnMeta())
    assert [stop._agreed(trainer) for _ in range(2)] == [15, 15]
    assert groups == ["gloo"]
    assert reduced == [("cpu", "hosts")] * 2


def test_lightning_asks_for_no_signal_through_the_device(cache_dir):
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = plain(compose("train", ["experiment=debug", "trainer.accelerator=cpu", "name=x"]))
    loop = build_trainer(config["trainer"]).fit_loop.epoch_loop
    assert hasattr(type(loop), "_broadcast_sigterm_tensor"), "another name in this version of Lightning"
    assert loop._broadcast_sigterm_tensor.__module__ == "src.training.reliability.lightning_internals"


class Asks(pl.Callback):
    def on_train_batch_end(self, trainer, pl_module, *args):
        float(pl_module.step_loss)


def test_a_step_that_waits_is_found(fit):
    with pytest.raises(RuntimeError, match="meta tensors"):
        fit(extra=[Asks()])
