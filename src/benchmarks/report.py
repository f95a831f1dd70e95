"""The tables on the terminal."""

import logging
from collections.abc import Mapping
from io import StringIO
from typing import Any

from rich import box, get_console
from rich.console import Console
from rich.table import Table

from src.benchmarks.advice import rounded
from src.benchmarks.variants import TITLES, Frames, part_order

log = logging.getLogger(__name__)


def say(table: Table) -> None:
    """On the terminal, and as plain text in the run's log."""
    if get_console().is_terminal:
        get_console().print(table)
    else:
        text = StringIO()
        Console(file=text, width=160).print(table)
        log.info("\n%s", text.getvalue().rstrip())


def variants_table(
    measured: Mapping[str, Any], left_out: Mapping[str, str], frames: Frames, settings: Mapping[str, Any]
) -> Table:
    variants = measured["variants"]
    parts = part_order([part for variant in variants.values() for part in variant["parts"]])
    height, width = frames.sizes[0]
    table = Table(
        title=f"One core: samples per second, and milliseconds of each part\n{len(frames.pairs)} frames of "
        f"{width}x{height} from the page cache (not a cold disk), medians of {settings['rounds']} rounds of "
        f"{settings['samples']} samples",
        caption="".join(f"\nLeft out, {TITLES[name]}: {reason}" for name, reason in left_out.items()),
        caption_justify="left",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("", no_wrap=True)
    for heading in ("samples/s", "x OpenCV", *parts):
        table.add_column(heading.replace(" ", "\n"), justify="right")
    for name, variant in variants.items():
        ratio = variant["times_baseline"]
        table.add_row(
            TITLES[name],
            rounded(variant["samples_per_second"]["median"]),
            "" if ratio is None else f"{ratio:.2f}",
            *(f"{variant['parts'][p]['median']:.2f}" if p in variant["parts"] else "-" for p in parts),
        )
    return table


def loader_and_step_table(loaders: Mapping[str, Any], step: Mapping[str, Any]) -> Table:
    table = Table(title="What a run puts together", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("", "samples/s", "quartiles", "how"):
        table.add_column(heading, justify="right" if heading == "samples/s" else "left")
    for name, loader in loaders.items():
        how = f"{loader['workers']} workers, {loader['batches']} batches of {loader['batch']}"
        table.add_row(f"DataLoader, {TITLES[name]}", *_rate(loader), how)
    how = f"{step['device']}, {step['precision']}, {step['steps']} steps of {step['images']} images"
    if step["images"] != step["per_device"]:
        how += f" (of a batch's {step['per_device']})"
    table.add_row("training step", *_rate(step), how)
    return table


def _rate(figures: Mapping[str, Any]) -> tuple[str, str]:
    rate = figures["samples_per_second"]
    return rounded(rate["median"]), f"{rounded(rate['q1'])} - {rounded(rate['q3'])}"
