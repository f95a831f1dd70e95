"""Replays the step in which a training became NaN: `python -m scripts.replay runs/train/NAME`.

The run has left the batch, the state before the step and the random states in its folder nan/. The step is
computed again with anomaly detection, and all its operations are watched: the first one is named whose result
is NaN or infinite though all that it was given is finite, forward, backward or in the optimizer. Give the run
directory, or one of several files nan/step_*.pt in it.

Exit code 0: the step was not finite again; 1: it was finite this time; 2: it cannot be replayed.
"""

import argparse
import math
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from src.errors import UserError, counted
from src.labels import IGNORE
from src.training.replay.replay import Replayed, replay, silence_lightning


def report(result: Replayed) -> str:
    """At most 80 columns wide, but for names and code."""
    kept = result.kept
    number, bad = kept["step"], kept["bad_step"]
    title = f"Step {number} (epoch {kept['epoch']}), replayed on {result.device} in {result.precision}"
    facts = [
        ("why", f"step {bad} was not finite, because this step spoilt the weights" if number < bad else ""),
        ("images", _images(kept["batches"])),
        ("labels", _labels(kept["batches"])),
        ("devices", f"{kept['world_size']} in the run, their batches joined here" * (kept["world_size"] > 1)),
        ("weights before", _weights(result.before)),
        ("loss", _loss(result.loss, kept["losses"].get(number))),
        ("gradients", _gradients(result.gradients)),
        ("weights after", _weights(result.after)),
    ]
    if result.found:
        found = result.found
        facts += [
            ("FIRST", f"{found.operation}, {found.phase}"),
            ("module", found.module),
            ("code", found.place),
            *(("given", text) for text in found.inputs[:4]),
            ("gives", found.output),
        ]
    lines = [title]
    for name, value in facts:
        first, *more = textwrap.wrap(value, 62, break_long_words=False, break_on_hyphens=False) or [""]
        lines += [f"  {name:<16}{first}", *(f"{'':18}{line}" for line in more)] if value else []
    return "\n".join([*lines, _conclusion(result)])


def _images(batches: list[dict[str, Any]]) -> str:
    images = torch.cat([batch["image"] for batch in batches])
    height, width = images.shape[-2:]
    flat = sum(bool(image.min() == image.max()) for image in images)
    text = f"{counted(len(images), 'image')} of {width}x{height}, values {images.min()} to {images.max()}"
    return text + (f", {flat} of them of one colour" if flat else "")


def _labels(batches: list[dict[str, Any]]) -> str:
    targets = torch.cat([batch["target"].flatten() for batch in batches])
    classes = len(set(targets.unique().tolist()) - {IGNORE})
    return f"{classes} classes, {float((targets == IGNORE).float().mean()):.1%} of the pixels ignored"


def _weights(largest: Mapping[str, float]) -> str:
    """Args: largest: absolute value of each weight."""
    if bad := _not_finite(largest):
        return bad
    name = max(largest, key=lambda name: largest[name])
    return f"finite, up to {largest[name]:.4g} ({name})"


def _loss(loss: float, of_run: float | None) -> str:
    if of_run is None:
        return f"{loss:.7g}"
    here, there = f"{loss:.7g}", f"{of_run:.7g}"
    return f"{here}, the same as in the run" if here == there else f"{here}, in the run {there}"


def _gradients(norms: Mapping[str, float]) -> str:
    if bad := _not_finite(norms):
        return bad
    name = max(norms, key=lambda name: norms[name])
    return f"finite, norm {math.hypot(*norms.values()):.4g}, largest {norms[name]:.4g} ({name})"


def _not_finite(values: Mapping[str, float]) -> str:
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    more = ", ..." if len(bad) > 3 else ""
    return f"{len(bad)} of {len(values)} are not finite: {', '.join(bad[:3])}{more}" if bad else ""


def _conclusion(result: Replayed) -> str:
    if result.is_finite:
        return (
            "All is finite this time. So the values were changed by a callback, which is not\n"
            "replayed, by rounding that differs from run to run on a GPU, or by the hardware."
        )
    if result.found is None:
        return "The step is not finite again. Its weights, or its input, were not finite before it."
    return "The step is not finite again. FIRST is where it begins."


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="a run directory, or a file nan/step_*.pt in it")
    parser.add_argument("--accelerator", choices=["auto", "cpu", "gpu"], help="default: that of the run")
    given = parser.parse_args(arguments)
    silence_lightning()
    try:
        result = replay(given.run, given.accelerator)
    except UserError as error:
        print(error.text, file=sys.stderr)
        return 2
    print(report(result))
    return int(result.is_finite)


if __name__ == "__main__":
    sys.exit(main())
