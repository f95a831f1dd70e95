"""The table of all keys of conf/: what type and range the value of each has.

conf/ has the defaults and says what a key means. A key below an entry with a `_target_` is an argument of
that class and is in TARGETS; every other key is in KEYS. What a single command allows differently is in
OF_TASK. Classes that are not in the table check their arguments themselves.
"""

from src.schema.data_keys import DATA_KEYS, SIDE, SPLIT, STATISTICS, WEIGHTS
from src.schema.kinds import (
    Choice,
    Group,
    Integer,
    Kind,
    ListOf,
    Null,
    Number,
    Path,
    Switch,
    Table,
    Text,
)
from src.schema.training_keys import DECAY, OF_TRAINING, SEED

_NULL, _SWITCH, _TEXT = Null(), Switch(), Text()
_MANY = 10**9
_LEVEL = Number(0, 255)  # value of a pixel
_SHARE = Number(0, 1)
_SHA256 = Text("the 64 hexadecimal digits of a SHA-256", r"[0-9a-f]{64}") | _NULL
_ENGINE = Text(
    "an engine and a precision, such as 'openvino bf16'",
    r"(torch|compile|onnxruntime|openvino) (float32|bf16|fp16)",
)
_OUTPUT = Choice(("train_ids", "label_ids", "color", "overlay", "panel", "probabilities"))
_FORMAT = Choice(("onnx", "openvino", "torch"))
_LIMIT = _NULL | Integer(0, _MANY) | _SHARE

KEYS: dict[str, Kind] = {
    "name": Path("a name for the run"),
    "runs_dir": Path(),
    "run_dir": Path(),
    "cache_dir": Path(),
    "seed": SEED,
    "report": Group(),
    "report.images": Integer(0, 100),
    "report.baseline": Path() | _NULL,
    # the training
    "checkpoint": Path() | _NULL,
    "checkpoint_sha256": _SHA256,
    "trust": ListOf(_TEXT, may_be_empty=True) | _TEXT | _NULL,
    "auxiliary_weight": Number(0, 1000) | Group(),
    "teacher": Group(),
    "teacher.checkpoint": Path() | _NULL,
    "teacher.sha256": _SHA256,
    "teacher.model": Group() | _NULL,
    "teacher.unlabelled_split": SPLIT | _NULL,
    "teacher.temperature": Number(0, 1000, above=True),
    "teacher.weight": Number(0, 10**6),
    "extend": _SWITCH,
    "compile": _SWITCH,
    "channels_last": _SWITCH,
    "model": Group(),
    "augment": Group(),
    "loss": Group(),
    "optimizer": Group(),
    "optimizer.groups": Table({"lr_factor": Number(0, 1000), "weight_decay": DECAY}) | _NULL,
    "schedule": Group(),
    "schedule.interval": Choice(("step", "epoch")),
    "schedule.monitor": _TEXT | _NULL,
    "callbacks": Group(),
    "data": Group(),
    **DATA_KEYS,
    # https://lightning.ai/docs/pytorch/stable/common/trainer.html#trainer-class-api
    "trainer": Group(),
    "trainer.accelerator": Choice(("auto", "gpu", "cuda", "cpu", "mps")),
    "trainer.devices": Integer(1, 1024)
    | Integer(-1, -1)
    | ListOf(Integer(0, 1023))
    | Text("a text such as 'auto' or '0,1'", r"auto|-1|\d{1,4}(,\d{1,4})*,?"),
    "trainer.num_nodes": Integer(1, 1024),
    "trainer.strategy": Choice(("auto", "ddp")),
    "trainer.precision": Choice(("32-true", "bf16-mixed", "16-mixed", "64-true")),
    "trainer.fp32_precision": Choice(("ieee", "tf32")),
    "trainer.sync_batchnorm": _SWITCH,
    "trainer.max_epochs": Integer(1, 10**6) | Integer(-1, -1) | _NULL,
    "trainer.min_epochs": Integer(1, 10**6) | _NULL,
    "trainer.max_steps": Integer(1, _MANY) | Integer(-1, -1),
    "trainer.min_steps": Integer(1, _MANY) | _NULL,
    "trainer.max_time": Text("a time as DD:HH:MM:SS", r"\d{1,4}:\d\d?:\d\d?:\d\d?") | _NULL,
    "trainer.limit_train_batches": _LIMIT,
    "trainer.limit_val_batches": _LIMIT,
    "trainer.overfit_batches": Integer(0, _MANY) | _SHARE,
    "trainer.fast_dev_run": _SWITCH | Integer(0, _MANY),
    "trainer.val_check_interval": Integer(1, _MANY) | Number(0, 1, above=True) | _NULL,
    "trainer.check_val_every_n_epoch": Integer(1, 10**6) | _NULL,
    "trainer.num_sanity_val_steps": Integer(-1, _MANY),
    "trainer.reload_dataloaders_every_n_epochs": Integer(0, 10**6),
    "trainer.accumulate_grad_batches": Integer(1, 2**16),
    "trainer.gradient_clip_val": Number(0, 1e9, above=True) | _NULL,
    "trainer.gradient_clip_algorithm": Choice(("norm", "value")) | _NULL,
    "trainer.log_every_n_steps": Integer(1, _MANY),
    "trainer.enable_checkpointing": _SWITCH,
    "trainer.enable_progress_bar": _SWITCH,
    "trainer.enable_model_summary": _SWITCH,
    "trainer.default_root_dir": Path(),
    "trainer.deterministic": _SWITCH | Choice(("warn",)) | _NULL,
    "trainer.benchmark": _SWITCH | _NULL,
    "trainer.inference_mode": _SWITCH,
    "trainer.profiler": Choice(("simple", "advanced", "pytorch")) | _NULL,
    "trainer.detect_anomaly": _SWITCH,
    "logger": Group(),
    # the doctor and the benchmark
    "samples": Integer(0, 100),
    "target": Choice(("data", "step", "inference")),
    "measure": Group(),
    "measure.frames": Integer(1, 10**6),
    "measure.rounds": Integer(1, 1000),
    "measure.warmup": Integer(0, 1000),
    "measure.seconds": Number(0, 3600),
    "measure.step_batch": Integer(1, 2**12) | Choice(("auto",)),
    "measure.variants": ListOf(_TEXT),
    "measure.sizes": ListOf(ListOf(SIDE, 2)),
    "measure.engines": ListOf(_ENGINE),
    # the evaluation
    "pictures": Integer(0, 1000),
    "input_scale": Number(0, 4, above=True),
    "window": ListOf(SIDE, 2) | _NULL,
    "stride": ListOf(Integer(1, 2**14), 2) | _NULL,
    "submission": _SWITCH,
    "latency": Integer(0, 10**4),
    "tta": Group() | _NULL,
    "tta.scales": ListOf(Number(0, 4, above=True)),
    "tta.flip": _SWITCH,
}

OF_TASK: dict[str, dict[str, Kind]] = {
    **{task: {"task": Choice((task,))} for task in ("train", "doctor", "benchmark")},
    "predict": {
        "task": Choice(("predict",)),
        "checkpoint": Path(),
        "source": Path(),
        "output": _OUTPUT | ListOf(_OUTPUT),
        "overwrite": _SWITCH,
        "frame_step": Integer(1, 10**6),
        "engine": Choice(("auto", "torch", "compile", "onnxruntime", "openvino")),
        "precision": Choice(("float32", "bf16", "fp16")),
        "device": Text("auto, cpu, mps, cuda or cuda:1", r"auto|cpu|mps|cuda(:\d{1,3})?"),
    },
    "eval": {
        "task": Choice(("eval",)),
        "checkpoint": Path(),
        "trainer.precision": KEYS["trainer.precision"] | _NULL,
        "trainer.fp32_precision": KEYS["trainer.fp32_precision"] | _NULL,
    },
    "export": {
        "task": Choice(("export",)),
        "checkpoint": Path(),
        "format": _FORMAT | ListOf(_FORMAT),
        "precision": Choice(("float32", "fp16", "int8")),
        "max_drop": _SHARE,
        "size": ListOf(SIDE, 2) | _NULL,
        "output": Choice(("class_map", "logits")),
        "images": Path("the path of a folder") | _NULL,
        "parity": Group(),
        "parity.equal": _SHARE | _NULL,
        "parity.difference": _SHARE | _NULL,
    },
}

OPEN = ("callbacks", "augment", "logger")
"""Groups whose entries are objects that users add (with a `_target_`) or switch off (null)."""
TARGETED = ("model", "loss", "optimizer", "schedule")
"""Groups that are one object, with a `_target_`. Their keys in KEYS are not arguments of its class."""

TARGETS: dict[str, dict[str, Kind]] = {
    "src.network.cgnet.CGNet": {
        "num_classes": Integer(1, 255),
        "num_blocks": ListOf(Integer(1, 128), 2),
        "channels": ListOf(Integer(1, 4096), 3),
        "dilations": ListOf(Integer(1, 4096), 2),
        "reductions": ListOf(Integer(1, 4096), 2),
        "norm_eps": Number(0, 1, above=True),
        "classifier_bias": _SWITCH,
        "dropout": Number(0, 1, below=True),
        "surrounding": _SWITCH,
        "global_context": _SWITCH,
        "input_injection": _SWITCH,
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
        "scale_step": Number(0, 16, above=True) | _NULL,
        "max_category_ratio": Number(0, 1, above=True),
    },
    "albumentations.HorizontalFlip": {"p": _SHARE},
    "src.data.augment.PhotometricDistortion": {
        "brightness": _LEVEL,
        "contrast": ListOf(Number(0, 100), 2, ascending=True),
        "saturation": ListOf(Number(0, 100), 2, ascending=True),
        "hue": Integer(0, 90),
    },
    "albumentations.PadIfNeeded": {
        "min_height": SIDE,
        "min_width": SIDE,
        "position": Choice(("center", "top_left", "top_right", "bottom_left", "bottom_right", "random")),
        "fill": _LEVEL | ListOf(_LEVEL, 3),
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
        "min_kept": Number(0, 1),
    },
    "src.training.losses.Dice": {"smooth": Number(0, 10**6)},
    "src.training.losses.LovaszSoftmax": {},
    "src.training.losses.WeightedSum": {"parts": Group()},
    "hydra_plugins.cgnet.GridSweeper": {
        "params": Group() | _NULL,
        "max_batch_size": Integer(1, 10**6) | _NULL,
    },
    "hydra_plugins.cgnet.OptunaSweeper": {
        "params": Group() | _NULL,
        "n_trials": Integer(1, 10**6),
        "direction": Choice(("minimize", "maximize")),
        "n_jobs": Integer(1, 1000) | _NULL,
        "storage": _TEXT | _NULL,
        "study_name": _TEXT,
        "sampler": Group(),
        "pruner": Group() | _NULL,
    },
    "hydra_plugins.cgnet.LocalLauncher": {"jobs": Integer(1, 1000) | _NULL},
    **OF_TRAINING,
}
"""The arguments of each `_target_`; those that are mappings have their own keys in PARTS."""

PARTS: dict[str, dict[str, Kind]] = {
    "model.preprocessing": {
        **STATISTICS,
        "channel_order": Choice(("rgb", "bgr")),
    },
}
"""The keys of arguments that are mappings."""
