import functools
import inspect
import os
import signal
from datetime import timedelta
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.loggers import Logger
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy

from src.config import CONF_DIR, plain, register_resolvers
from src.errors import UserError
from src.training.assemble import build_callbacks
from src.training.fit import fit
from src.training.loggers.build import ended_with_exit_code
from src.training.loggers.wandb import EnduringWandbLogger
from src.training.reliability.sync_batchnorm import SyncOverRanks
from src.training.trainer import build_trainer
from src.weights.checkpoint_files import AtomicCheckpointIO

# Decided by the code, with reasons there; everything else is a key of conf/trainer.
NOT_A_KEY = {"callbacks", "logger", "plugins", "use_distributed_sampler", "enable_autolog_hparams"}
NOT_A_KEY |= {"limit_test_batches", "limit_predict_batches"}  # no command has these loops
NOT_A_KEY |= {"barebones", "model_registry"}  # without loggers or checkpoints; uploads to a registry


@functools.cache
def config(*overrides):
    register_resolvers()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose("train", ["name=test", *overrides])


def trainer_config(**changes):
    return plain(config().trainer) | {"accelerator": "cpu", "default_root_dir": None} | changes


def test_every_argument_of_the_trainer_is_a_key():
    arguments = set(inspect.signature(pl.Trainer.__init__).parameters) - {"self"}
    assert set(trainer_config()) == (arguments - NOT_A_KEY) | {"fp32_precision"}
    assert arguments >= NOT_A_KEY


def test_defaults_on_one_cpu():
    trainer = build_trainer(trainer_config())
    assert isinstance(trainer.strategy, SingleDeviceStrategy)
    assert isinstance(trainer.strategy.checkpoint_io, AtomicCheckpointIO)
    assert trainer.max_epochs == 340
    assert trainer.loggers == []


def test_callbacks_and_loggers_arrive():
    callback = Callback()
    logger = pl.loggers.logger.DummyLogger()
    trainer = build_trainer(trainer_config(), [callback], [logger])
    assert callback in trainer.callbacks
    assert trainer.loggers == [logger]


@pytest.mark.parametrize(
    "changes", [{"devices": 2}, {"devices": "2"}, {"num_nodes": 2}, {"strategy": "ddp"}], ids=str
)
def test_several_devices_are_our_ddp(changes):
    trainer = build_trainer(trainer_config(**changes))
    assert isinstance(trainer.strategy, DDPStrategy)
    assert trainer.strategy._ddp_kwargs["broadcast_buffers"] is False
    assert trainer.strategy._timeout == timedelta(minutes=10)
    assert isinstance(trainer.strategy._layer_sync, SyncOverRanks)
    assert isinstance(trainer.strategy.checkpoint_io, AtomicCheckpointIO)
    assert trainer.world_size == int(changes.get("devices", 1)) * changes.get("num_nodes", 1)


def test_a_process_on_a_cpu_has_as_many_threads_alone_as_among_others(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    build_trainer(trainer_config(devices=2))
    assert os.environ["OMP_NUM_THREADS"] == str(torch.get_num_threads())
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    build_trainer(trainer_config(devices=2))
    assert os.environ["OMP_NUM_THREADS"] == "7", "the user's own"


def test_batchnorm_is_not_synchronised_when_not_asked_for():
    trainer = build_trainer(trainer_config(devices=2, sync_batchnorm=False))
    assert trainer.strategy._layer_sync is None


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "17-mixed"},
        {"devices": 0},
        {"devices": "many"},
        {"devices": [0, 1]},
        {"strategy": "dpp"},
        {"max_time": "two days"},
        {"limit_train_batches": 1.5},
        {"gradient_clip_algorithm": "nrom"},
        {"profiler": "smiple"},
    ],
    ids=str,
)
def test_a_bad_value_is_the_users(changes):
    with pytest.raises(UserError, match="trainer") as error:
        build_trainer(trainer_config(**changes))
    ((key, value),) = changes.items()
    assert str(value) in error.value.text or key in error.value.text


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has what the test wants to miss")
@pytest.mark.parametrize("accelerator", ["gpu", "cuda"])
def test_a_missing_accelerator_is_named(accelerator):
    with pytest.raises(UserError, match="trainer"):
        build_trainer(trainer_config(accelerator=accelerator))


@pytest.mark.parametrize("group", ["default", "ema"])
def test_the_callbacks_of_the_config(group):
    entries = config(f"callbacks={group}").callbacks.copy()
    names = [type(callback).__name__ for callback in build_callbacks(entries)]
    expected = [
        "RunCheckpoint",
        "LastCheckpoint",
        "SeedEachBatch",
        "NanGuard",
        "LearningRateMonitor",
        "NetworkSummary",
        "Throughput",
        "EpochLines",
        "PicturePanel",
        "BestAndWorstImages",
    ]
    assert names == expected + (["WarmedUpEMA"] if group == "ema" else [])
    entries.pictures = None
    assert "PicturePanel" not in [type(callback).__name__ for callback in build_callbacks(entries)]


class Interrupted(pl.LightningModule):
    """Epochs of one step, stopped in the second one's."""

    def __init__(self, stop):
        super().__init__()
        self.segmenter = torch.nn.Linear(1, 1)
        self.segmenter.network = torch.nn.Linear(1, 1)
        self.stop = stop

    def training_step(self, batch, _):
        if self.current_epoch == 1:
            self.stop()
        return self.segmenter(batch).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class OneBatch(pl.LightningDataModule):
    train_set = val_set = (None,)

    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.ones(1, 1))


def stop_by_ctrl_c():
    signal.raise_signal(signal.SIGINT)


def stop_by_sigterm():
    signal.raise_signal(signal.SIGTERM)


def fail():
    raise ZeroDivisionError


class Dashboard(EnduringWandbLogger):
    """Takes everything and keeps nothing: no process of W&B's is started."""

    name = version = "id"
    save_dir = None

    def __init__(self):
        Logger.__init__(self)
        self._experiment = None

    def log_hyperparams(self, *args, **kwargs): ...
    def log_metrics(self, *args, **kwargs): ...
    def finalize(self, status): ...
    def after_save_checkpoint(self, checkpoint_callback): ...


@pytest.fixture
def run(tmp_path):
    values = {
        "name": "run",
        "data": {"name": "ones", "batch_size": 1},
        "callbacks": {"last": {"path": "last.ckpt"}},
    }
    kept = [(s, signal.getsignal(s)) for s in (signal.SIGINT, signal.SIGTERM)]
    yield SimpleNamespace(
        directory=tmp_path,
        config=values,
        id=None,
        origin={},
        last_checkpoint=None,
        check_in_place=lambda: None,
    )
    for number, handler in kept:
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("stop", "error", "code"),
    [
        (stop_by_ctrl_c, KeyboardInterrupt, None),
        (stop_by_sigterm, SystemExit, 143),
        (fail, ZeroDivisionError, None),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_stopped_fit_does_not_look_finished(run, monkeypatch, stop, error, code):
    ends = []
    monkeypatch.setattr("wandb.finish", lambda exit_code: ends.append(exit_code))
    last = ModelCheckpoint(run.directory, "last", save_on_train_epoch_end=True)
    values = trainer_config(max_epochs=3, enable_progress_bar=False, enable_model_summary=False)
    trainer = build_trainer(values, [last], [Dashboard()])
    with pytest.raises(error) as raised, ended_with_exit_code(trainer.loggers):
        fit(trainer, Interrupted(stop), OneBatch(), run, None)
    assert code is None or raised.value.code == code
    assert ends == [1]
    assert (run.directory / "last.ckpt").exists()  # of the first epoch


@pytest.mark.filterwarnings("ignore")
def test_a_finished_fit_looks_finished(run, monkeypatch):
    ends = []
    monkeypatch.setattr("wandb.finish", lambda exit_code: ends.append(exit_code))
    values = trainer_config(max_epochs=2, enable_checkpointing=False)
    trainer = build_trainer(values, loggers=[Dashboard()])
    with ended_with_exit_code(trainer.loggers):
        fit(trainer, Interrupted(lambda: None), OneBatch(), run, None)
    assert ends == [0]


@pytest.mark.parametrize("how", ["tf32", "ieee"])
def test_float32_on_gpus(how):
    build_trainer(trainer_config(fp32_precision=how))
    assert torch.backends.cudnn.allow_tf32 == torch.backends.cuda.matmul.allow_tf32 == (how == "tf32")
    assert torch.get_float32_matmul_precision() == ("high" if how == "tf32" else "highest")
    with torch.backends.cudnn.flags():  # reads them all
        pass
