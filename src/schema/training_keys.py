"""The part of the table of keys that is for a training: optimizers, schedules, callbacks and loggers."""

from src.schema.kinds import Choice, Integer, Kind, ListOf, Null, Number, Path, Switch, Text

SEED = Integer(0, 2**32 - 1)
DECAY = Number(0, 100)
_NULL, _SWITCH, _TEXT = Null(), Switch(), Text()
_OFF = Switch(only=False)
_MANY = 10**9
_RATE = Number(0, 100, above=True)
_BETAS = ListOf(Number(0, 1, below=True), 2)

OF_TRAINING: dict[str, dict[str, Kind]] = {
    "torch.optim.Adam": {
        "lr": _RATE,
        "betas": _BETAS,
        "eps": Number(0, 1, above=True),
        "weight_decay": DECAY,
        "fused": _SWITCH | _NULL,
    },
    "torch.optim.AdamW": {
        "lr": _RATE,
        "betas": _BETAS,
        "eps": Number(0, 1, above=True),
        "weight_decay": DECAY,
        "fused": _SWITCH | _NULL,
    },
    "torch.optim.SGD": {
        "lr": _RATE,
        "momentum": Number(0, 1, below=True),
        "nesterov": _SWITCH,
        "weight_decay": DECAY,
    },
    "src.training.schedules.PolyLR": {"power": Number(0, 100, above=True), "min_lr": Number(0, 100)},
    "src.training.schedules.WarmupCosine": {
        "warmup": Integer(0, _MANY) | Number(0, 1, below=True),
        "min_lr": Number(0, 100),
    },
    "src.training.schedules.ConstantLR": {},
    "torch.optim.lr_scheduler.OneCycleLR": {
        "pct_start": Number(0, 1, above=True, below=True),
        "anneal_strategy": Choice(("cos", "linear")),
        "div_factor": Number(1, 1e9),
        "final_div_factor": Number(1, 1e9),
        "cycle_momentum": _SWITCH,
        "base_momentum": Number(0, 1, below=True),
        "max_momentum": Number(0, 1, below=True),
        "three_phase": _SWITCH,
    },
    "src.training.callbacks.best_checkpoint.RunCheckpoint": {
        "dirpath": Path(),
        # One name means one file: to keep more checkpoints, add a ModelCheckpoint beside this one.
        "filename": Choice(("best",)),
        "monitor": _TEXT,
        "mode": Choice(("min", "max")),
        "save_top_k": Integer(1, 1),
        "auto_insert_metric_name": _SWITCH,
        "enable_version_counter": _OFF,
        "save_on_train_epoch_end": _SWITCH | _NULL,
    },
    "src.training.callbacks.last_checkpoint.LastCheckpoint": {
        "path": Path(),
        "every_n_train_steps": Integer(1, _MANY) | _NULL,
    },
    "src.training.callbacks.seeding.SeedEachBatch": {"seed": SEED},
    "src.training.callbacks.nan_guard.NanGuard": {"directory": Path() | _NULL},
    "pytorch_lightning.callbacks.LearningRateMonitor": {
        "logging_interval": Choice(("step", "epoch")) | _NULL,
    },
    "src.training.callbacks.network_summary.NetworkSummary": {"max_depth": Integer(-1, 100)},
    "src.training.callbacks.throughput.Throughput": {},
    "src.training.callbacks.epoch_lines.EpochLines": {"seconds": Number(0, 1e6)},
    "src.training.callbacks.picture_panel.PicturePanel": {
        "directory": Path(),
        "count": Integer(0, 1000),
        "every_n_epochs": Integer(1, 10**6),
        "width": Integer(16, 2**14),
        "keep": Integer(2, 10**6) | _NULL,
    },
    "src.training.callbacks.image_ranking.BestAndWorstImages": {
        "path": Path(),
        "by_image": Path(),
        "count": Integer(0, 100),
    },
    "src.training.callbacks.ema.WarmedUpEMA": {"decay": Number(0, 1, above=True, below=True)},
    "src.training.loggers.wandb.wandb_logger": {
        "save_dir": Path(),
        "name": _TEXT | _NULL,
        "project": _TEXT | _NULL,
        "entity": _TEXT | _NULL,
        "group": _TEXT | _NULL,
        "job_type": _TEXT | _NULL,
        "checkpoint": Path() | _NULL,
        "tags": ListOf(_TEXT, may_be_empty=True),
        "notes": _TEXT | _NULL,
        "offline": _SWITCH | Choice(("auto",)),
        "id": Text("letters, digits, - and _", r"[\w-]{1,64}") | _NULL,
        "log_model": _SWITCH,
    },
    "src.training.loggers.mlflow.mlflow_logger": {
        "save_dir": Path(),
        "tracking_uri": _TEXT,
        "artifact_location": _TEXT | _NULL,
        "experiment_name": _TEXT,
        "run_name": _TEXT | _NULL,
        "run_id": _TEXT | _NULL,
    },
    "src.training.loggers.tensorboard.ResumedTensorBoardLogger": {
        "save_dir": Path(),
        "name": _TEXT | _NULL,
        "version": Path("a text", empty=True) | Integer(0, _MANY) | _NULL,
        "log_graph": _SWITCH,
        "default_hp_metric": _SWITCH,
    },
}
"""The arguments of each `_target_`."""
