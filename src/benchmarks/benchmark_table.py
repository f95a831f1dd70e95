"""The tables on the terminal."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

from src.benchmarks.advice import rounded
from src.benchmarks.variants import TITLES, Frames, part_order
from src.errors import counted

_STYLE: dict[str, Any] = {"box": box.SIMPLE_HEAD, "title_justify": "left", "pad_edge": False}


def variants_table(
    measured: Mapping[str, Any], left_out: Mapping[str, str], frames: Frames, settings: Mapping[str, Any]
) -> Table:
    """A column for each variant, a row for each part."""
    variants = measured["variants"]
    height, width = frames.sizes[0]
    table = Table(
        title=f"One core, medians of {settings['rounds']} rounds of {settings['samples']} samples\n"
        f"{len(frames.pairs)} frames of {width}x{height}, out of the page cache: no cold disk",
        caption="\n".join(f"Left out, {TITLES[name]}: {reason}" for name, reason in left_out.items()),
        caption_justify="left",
        **_STYLE,
    )
    table.add_column("")
    for name in variants:
        table.add_column(TITLES[name], justify="right")
    rates = [variant["samples_per_second"]["median"] for variant in variants.values()]
    table.add_row("samples/s", *map(rounded, rates), style="bold")
    ratios = [variant["times_baseline"] for variant in variants.values()]
    table.add_row("x OpenCV", *("" if r is None else f"{r:.2f}" for r in ratios), end_section=True)
    for part in part_order([part for variant in variants.values() for part in variant["parts"]]):
        times = [variant["parts"].get(part) for variant in variants.values()]
        table.add_row(f"{part}, ms", *("-" if t is None else f"{t['median']:.2f}" for t in times))
    wholes = [variant["milliseconds"]["median"] for variant in variants.values()]
    table.add_row("whole, ms", *(f"{ms:.2f}" for ms in wholes))
    return table


def loader_and_step_table(loaders: Mapping[str, Any], step: Mapping[str, Any]) -> Table:
    table = Table(title="What a run puts together", **_STYLE)
    for heading in ("", "samples/s", "quartiles", "how"):
        right = heading == "samples/s"
        table.add_column(heading, justify="right" if right else "left", no_wrap=heading != "how")
    for name, loader in loaders.items():
        how = f"{loader['workers']} workers, {loader['batches']} batches of {loader['batch']}"
        table.add_row(f"DataLoader, {TITLES[name]}", *_rate(loader), how)
    how = f"{step['device']}, {step['precision']}, {step['steps']} steps of {step['images']} images"
    if step["images"] != step["per_device"]:
        how += f" (a batch has {step['per_device']})"
    if step["compiled_graphs"]:
        how += f", compiled into {counted(step['compiled_graphs'], 'graph')}"
    table.add_row("training step", *_rate(step), how)
    return table


def _rate(results: Mapping[str, Any]) -> tuple[str, str]:
    rate = results["samples_per_second"]
    return rounded(rate["median"]), f"{rounded(rate['q1'])} - {rounded(rate['q3'])}"
