"""Callbacks of a user's own, for tests of the front doors."""

import json
import signal
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger


class RankSpy(pl.Callback):
    """What each rank thinks the metrics are."""

    def __init__(self, folder: str):
        self.folder = Path(folder)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
        (self.folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(metrics))


class GraphSpy(pl.Callback):
    """How many graphs torch.compile has made on each rank by the end."""

    def __init__(self, folder: str):
        self.folder = Path(folder)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        counters = torch._dynamo.utils.counters
        counts = {
            "graphs": counters["stats"]["unique_graphs"],
            "forward and backward": counters["aot_autograd"]["ok"],
            "breaks": counters["graph_break"].total(),
        }
        (self.folder / f"graphs{trainer.global_rank}.json").write_text(json.dumps(counts))


class Crash(BaseException):
    """As sudden as a kill: nothing here catches it."""


class Fault(pl.Callback):
    """At the `at`-th call of `hook`, from 1, on `rank`: the signal `what`, or a Crash.

    Args:
        orders: a JSON file with these keys; without it nothing happens, and a fault removes it.
    """

    def __init__(self, orders: str):
        self.orders = Path(orders)
        if self.orders.exists():
            vars(self).update(json.loads(self.orders.read_text()))
            setattr(self, self.hook, self._strike)

    def _strike(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        self.at -= 1
        if self.at or trainer.global_rank != self.rank:
            return
        self.orders.unlink()
        if self.what == "Crash":
            raise Crash
        signal.raise_signal(signal.Signals[self.what])


class Chat(pl.Callback):
    """Would tell a chat of the run."""

    def __init__(self, chat_token: str):
        self.chat_token = chat_token


class Notebook(Logger):
    """A logger of a user's own: a line for all that it is given. `fails`: what raises."""

    name, version = "notebook", "1"

    def __init__(self, path: str, fails: str = ""):
        super().__init__()
        self.path, self.fails = Path(path), fails

    def log_hyperparams(self, params: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        self._note("hyperparameters", {"seed": params["seed"], "lr": params["optimizer"]["lr"]})

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._note("metrics", metrics)

    def _note(self, what: str, values: dict[str, Any]) -> None:
        if what == self.fails:
            raise ConnectionError("no server at http://notebook")
        with self.path.open("a") as file:
            file.write(json.dumps({what: values}) + "\n")


class FirstWeights(pl.Callback):
    """The weights before the first step."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        torch.save(pl_module.state_dict(), Path(trainer.default_root_dir) / "first_weights.pt")


class FirstStep(pl.Callback):
    """How far the first step moves all parameters: the norm of the difference."""

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        self.before = [p.detach().clone() for p in pl_module.parameters()]

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        moved = [after - before for after, before in zip(pl_module.parameters(), self.before, strict=True)]
        norm = torch.stack([difference.detach().norm() for difference in moved]).norm()
        (Path(trainer.default_root_dir) / "first_step.txt").write_text(str(float(norm)))


class Notes(Notebook):
    """In an evaluation, whose config has no optimizer: its metrics, in a file of the run directory."""

    def __init__(self) -> None:
        super().__init__(path="")

    def log_hyperparams(self, params: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        self.path = Path(params["run_dir"]) / "notes"
