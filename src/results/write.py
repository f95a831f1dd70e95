"""Writes what a comparison of runs has to show into a folder: tables, a plot, a page."""

import logging
from pathlib import Path

from src.label_tables import table_of
from src.report.table import markdown
from src.results.differing_images import chosen_networks, most_different
from src.results.grouping import Comparison, compare
from src.results.plot import plot_png
from src.results.result_tables import caption, csv_text, latex, run_row, setting_cells
from src.results.runs import RunResult, read_runs
from src.results.sweep_page import render_sweep
from src.runs.atomic_files import write_bytes, write_text

log = logging.getLogger(__name__)

FILES = ("results.csv", "results.md", "results.tex", "results.png", "comparison.html")


def write_results(folder: Path, runs: list[RunResult], baseline: str | None = None) -> Comparison:
    """Writes FILES. Raises ValueError for a baseline that is none of the settings.

    Args:
        runs: of the comparison, one or more.
        baseline: see `compare`.
    """
    comparison = compare(runs, baseline)
    write_text(folder / "results.csv", csv_text(run_row(run) for run in runs))
    cells, note = setting_cells(comparison), caption(comparison)
    text = f"{note}\n\n{markdown(cells)}"
    write_text(folder / "results.md", text.lstrip())
    write_text(folder / "results.tex", latex(cells, note))
    if picture := plot_png(comparison):
        write_bytes(folder / "results.png", picture)
    else:
        (folder / "results.png").unlink(missing_ok=True)
    chosen = chosen_networks(comparison)
    pictures = most_different([run for _, run in chosen])
    page = render_sweep(
        folder.resolve().name, comparison, _colors(comparison), [setting for setting, _ in chosen], pictures
    )
    write_text(folder / "comparison.html", page)
    return comparison


def report_sweep(folder: Path) -> None:
    """Writes FILES into a sweep's directory, and says where. If that fails, it is a warning."""
    try:
        write_results(folder, read_runs([folder], inside=True))
    except Exception as error:
        log.warning("No comparison of the jobs could be written (%r).", error, exc_info=True)
        return
    print(f"Compared in {folder / 'comparison.html'}; tables and a plot: {folder / 'results.*'}", flush=True)


def _colors(comparison: Comparison) -> list[tuple[int, int, int]]:
    runs = [run for setting in comparison.settings for run in setting.finished if run.config.get("data")]
    table = table_of(runs[0].config["data"]) if runs else None
    if table is None or comparison.classes != list(table.class_names):
        return []
    return [entry.color for entry in table.train_labels]
