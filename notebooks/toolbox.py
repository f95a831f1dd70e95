"""What the notebooks share: a folder to work in, commands, configs, and the look of their pictures."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.patches import Patch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
# runs/ and .cache/ are below the working directory: the repository's root; in tests a temporary folder.
os.chdir(os.environ.get("CGNET_NOTEBOOK_FOLDER", ROOT))

from src.config import CONF_DIR, plain, register_resolvers  # noqa: E402 (needs the path above)
from src.labels import LabelTable  # noqa: E402

plt.rcParams |= {
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "legend.frameon": False,
}
WIDTH = 11.0  # of a figure, in inches


def run(command: str, show: str = "") -> None:
    """Run a command as in a terminal.

    Args:
        command: such as "python -m src.train name=first".
        show: regular expression for the lines of its output to print.

    Raises RuntimeError with the whole output if the command fails.
    """
    words = [sys.executable, *shlex.split(command)[1:]]
    environment = os.environ | {"COLUMNS": "100", "PYTHONUNBUFFERED": "1"}
    lines = []
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if re.search(show, line):
                print(line, end="", flush=True)
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}: {command}\n{''.join(lines)}")


def read_config(arguments: Iterable[str]) -> dict[str, Any]:
    """The config that `python -m src.train` makes of these arguments, `--config-dir=...` included."""
    from hydra import compose, initialize_config_dir

    folder = "--config-dir="
    own = [Path(a.removeprefix(folder)).absolute() for a in arguments if a.startswith(folder)]
    search = [f"hydra.searchpath=['file://{path}']" for path in own]
    register_resolvers()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return plain(compose("train", [*search, *(a for a in arguments if not a.startswith(folder))]))


def color(table: LabelTable, train_id: int) -> tuple[float, float, float]:
    """The colour of a class, as matplotlib takes it."""
    red, green, blue = table.colors[train_id] / 255
    return (red, green, blue)


def grid(rows: Sequence[Sequence[np.ndarray]], titles: Sequence[Sequence[str]]) -> tuple[Figure, np.ndarray]:
    """Pictures of one size, RGB (H, W, 3), in rows and columns, each with its title."""
    height, width = rows[0][0].shape[:2]
    columns = len(rows[0])
    tall = len(rows) * (WIDTH / columns * height / width + 0.25)
    figure, axes = plt.subplots(len(rows), columns, figsize=(WIDTH, tall), squeeze=False)
    for row, pictures, names in zip(axes, rows, titles, strict=True):
        for place, picture, name in zip(row, pictures, names, strict=True):
            place.imshow(picture, interpolation="nearest")
            place.set_title(name, loc="left", pad=3)
            place.axis("off")
    return figure, axes


def add_classes(figure: Figure, table: LabelTable, train_ids: Iterable[int]) -> None:
    """A legend of these classes, below the figure."""
    patches = [
        Patch(facecolor=color(table, i), edgecolor="0.6", linewidth=0.5, label=table.class_names[i])
        for i in sorted(set(train_ids))
        if i < table.num_classes
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=10, fontsize=8.5, handlelength=1.2)


def class_bars(axes: Axes, table: LabelTable, values: Sequence[float], order: Sequence[int]) -> BarContainer:
    """A horizontal bar for each class, in the class's colour; the first of `order` is at the top."""
    bars = axes.barh(
        [table.class_names[i] for i in order],
        [values[i] for i in order],
        color=[color(table, i) for i in order],
        edgecolor="0.4",
        linewidth=0.5,
    )
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    return bars
