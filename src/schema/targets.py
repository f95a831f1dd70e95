"""The table of the arguments of each `_target_`. Other classes check their arguments themselves."""

from src.schema.kinds import Choice, Group, Integer, Kind, ListOf, Null, Number, Path, Switch, Text

NULL, SWITCH, TEXT = Null(), Switch(), Text()
OFF = Switch(only=False)
MANY = 10**9
LEVEL = Number(0, 255)  # value of a pixel
SHARE = Number(0, 1)
SPLIT = Choice(("train", "val", "test", "trainval"))
LIMIT = NULL | Integer(0, MANY) | SHARE
SIDE = Integer(32, 2**14)  # pixels; CGNet needs at least 32 (its min_size)
STATISTICS = {
    "mean": ListOf(LEVEL, 3),
    "std": ListOf(Number(1e-3, 255), 3),
}
WEIGHTS = ListOf(Number(0, 1e6), some_positive=True) | Choice(("labels",)) | NULL
RATE = Number(0, 100, above=True)
BETAS = ListOf(Number(0, 1, below=True), 2)
DECAY = Number(0, 100)
SHA256 = Text("the 64 hexadecimal digits of a SHA-256", r"[0-9a-f]{64}") | NULL
SEED = Integer(0, 2**32 - 1)

TARGETS: dict[str, dict[str, Kind]] = {
    "src.network.cgnet.CGNet": {
        "num_classes": Integer(1, 255),
        "num_blocks": ListOf(Integer(1, 128), 2),
        "channels": ListOf(Integer(1, 4096), 3),
        "dilations": ListOf(Integer(1, 4096), 2),
        "reductions": ListOf(Integer(1, 4096), 2),
        "norm_eps": Number(0, 1, above=True),
        "classifier_bias": SWITCH,
        "dropout": Number(0, 1, below=True),
        "surrounding": SWITCH,
        "global_context": SWITCH,
        "input_injection": SWITCH,
        "activation": Choice(("prelu", "relu")),
        "residual": Choice(("global", "local", "none")),
        "init": Choice(("authors", "torch", "mmsegmentation")),
        "preprocessing": Group(),
    },
    "src.network.pixelwise.PixelwiseClassifier": {
        "num_classes": Integer(1, 255),
        "channels": ListOf(Integer(1, 4096)),
        "preprocessing": Group(),
    },
    "src.data.augment.RandomScaledCrop": {
        "size": ListOf(SIDE, 2),
        "scale": ListOf(Number(0, 16, above=True), 2, ascending=True),
        "scale_step": Number(0, 16, above=True) | NULL,
        "max_category_ratio": Number(0, 1, above=True),
    },
    "albumentations.HorizontalFlip": {"p": SHARE},
    "src.data.augment.PhotometricDistortion": {
        "brightness": LEVEL,
        "contrast": ListOf(Number(0, 100), 2, ascending=True),
        "saturation": ListOf(Number(0, 100), 2, ascending=True),
        "hue": Integer(0, 90),
    },
    "albumentations.PadIfNeeded": {
        "min_height": SIDE,
        "min_width": SIDE,
        "position": Choice(("center", "top_left", "top_right", "bottom_left", "bottom_right", "random")),
        "fill": LEVEL | ListOf(LEVEL, 3),
        "fill_mask": Integer(0, 255),
    },
    "src.training.losses.WeightedCrossEntropy": {
        "class_weights": WEIGHTS,
        "label_smoothing": Number(0, 1, below=True),
        "divide_by": Choice(("weights", "pixels")),
    },
    "src.training.losses.OhemCrossEntropy": {
        "class_weights": WEIGHTS,
        "threshold": Number(0, 1, above=True),
        "min_kept": Integer(1, MANY),
    },
    "src.training.losses.Dice": {"smooth": Number(0, 10**6)},
    "src.training.losses.LovaszSoftmax": {},
    "src.training.losses.WeightedSum": {"parts": Group()},
    "torch.optim.Adam": {
        "lr": RATE,
        "betas": BETAS,
        "eps": Number(0, 1, above=True),
        "weight_decay": DECAY,
        "fused": SWITCH | NULL,
    },
    "torch.optim.AdamW": {
        "lr": RATE,
        "betas": BETAS,
        "eps": Number(0, 1, above=True),
        "weight_decay": DECAY,
        "fused": SWITCH | NULL,
    },
    "torch.optim.SGD": {
        "lr": RATE,
        "momentum": Number(0, 1, below=True),
        "nesterov": SWITCH,
        "weight_decay": DECAY,
    },
    "src.training.schedules.PolyLR": {"power": Number(0, 100, above=True), "min_lr": Number(0, 100)},
    "src.training.schedules.ConstantLR": {},
    "src.training.callbacks.best_checkpoint.RunCheckpoint": {
        "dirpath": Path(),
        # One name means one file: to keep more checkpoints, add a ModelCheckpoint beside this one.
        "filename": Choice(("best",)),
        "monitor": TEXT,
        "mode": Choice(("min", "max")),
        "save_top_k": Integer(1, 1),
        "auto_insert_metric_name": SWITCH,
        "enable_version_counter": OFF,
        "save_on_train_epoch_end": SWITCH | NULL,
    },
    "src.training.callbacks.last_checkpoint.LastCheckpoint": {
        "path": Path(),
        "every_n_train_steps": Integer(1, MANY) | NULL,
    },
    "src.training.callbacks.seeding.SeedEachBatch": {"seed": SEED},
    "src.training.callbacks.nan_guard.NanGuard": {},
    "pytorch_lightning.callbacks.LearningRateMonitor": {
        "logging_interval": Choice(("step", "epoch")) | NULL,
    },
    "src.training.callbacks.network_summary.NetworkSummary": {"max_depth": Integer(-1, 100)},
    "src.training.callbacks.epoch_lines.EpochLines": {"seconds": Number(0, 1e6)},
    "src.training.callbacks.picture_panel.PicturePanel": {
        "directory": Path(),
        "count": Integer(0, 1000),
        "every_n_epochs": Integer(1, 10**6),
        "width": Integer(16, 2**14),
        "keep": Integer(2, 10**6) | NULL,
    },
    "src.training.callbacks.image_ranking.BestAndWorstImages": {"path": Path(), "count": Integer(0, 100)},
    "hydra_plugins.cgnet.GridSweeper": {
        "params": Group() | NULL,
        "max_batch_size": Integer(1, 10**6) | NULL,
    },
    "hydra_plugins.cgnet.OptunaSweeper": {
        "params": Group() | NULL,
        "n_trials": Integer(1, 10**6),
        "direction": Choice(("minimize", "maximize")),
        "n_jobs": Integer(1, 1000),
        "storage": TEXT | NULL,
        "study_name": TEXT,
        "sampler": Group(),
    },
    "src.training.callbacks.ema.WarmedUpEMA": {"decay": Number(0, 1, above=True, below=True)},
}
"""The arguments of each `_target_`; those that are mappings have their own keys in PARTS."""

PARTS: dict[str, dict[str, Kind]] = {
    "model.preprocessing": {
        **STATISTICS,
        "channel_order": Choice(("rgb", "bgr")),
    },
}
"""The keys of arguments that are mappings."""
