"""Compares runs: `python -m scripts.results [folder or file.csv ...]`.

Groups the runs below the folders (default: runs/train), also the jobs of sweeps, by what they varied, and
prints a table of mean and standard deviation over seeds. --write FOLDER also writes results.csv (a row for
each run), results.md, results.tex, results.png and comparison.html, a page with curves, classes and images.
--latency 50 measures on this machine how long each network takes for an image.
A sweep of trainings writes them itself when it ends. A file such as results.csv is printed in Markdown.
"""

import argparse
import csv
import sys
from pathlib import Path

from src.report.table import markdown
from src.results.grouping import compare
from src.results.result_tables import caption, csv_text, latex, run_row, setting_cells
from src.results.runs import read_runs


def table_of_file(path: Path) -> str:
    """A CSV file as a Markdown table. Raises SystemExit if it cannot be read."""
    try:
        with path.open(newline="") as file:
            rows = list(csv.reader(file, strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise SystemExit(f"{path}: cannot be read ({error}). Expected a CSV file with a heading.") from error
    if len({len(row) for row in rows}) != 1:
        raise SystemExit(f"{path}: its rows differ in length. Expected a CSV file with a heading.")
    return markdown(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("places", nargs="*", type=Path, default=[Path("runs/train")])
    parser.add_argument("--csv", action="store_true", help="print a row for each run, comma-separated")
    parser.add_argument("--latex", action="store_true", help="print LaTeX (booktabs)")
    parser.add_argument("--baseline", help="the setting to compare with: its name, or a part of it")
    parser.add_argument("--latency", type=int, metavar="N", help="time each network: median of N predictions")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="write all files into this folder")
    arguments = parser.parse_args()
    if arguments.latency is not None and arguments.latency < 1:
        parser.error(f"--latency {arguments.latency}: expected a number of predictions, 1 or more")
    files = [place for place in arguments.places if place.suffix == ".csv"]
    print("\n".join(table_of_file(file) for file in files), end="")
    if files and len(files) == len(arguments.places):
        return
    folders = [place for place in arguments.places if place not in files]
    runs = read_runs(folders)
    if not runs:
        raise SystemExit(f"No metrics.json below {', '.join(map(str, folders))}: no finished run.")
    if arguments.latency is not None:
        from src.results.latency import with_latency  # torch, which the tables do not need

        runs = with_latency(runs, arguments.latency)
    try:
        comparison = compare(runs, arguments.baseline)
    except ValueError as error:
        raise SystemExit(f"--baseline {error}") from error
    if arguments.csv:
        sys.stdout.write(csv_text(run_row(run) for run in runs))
    elif arguments.latex:
        sys.stdout.write(latex(setting_cells(comparison), caption(comparison)))
    else:
        print(f"{caption(comparison)}\n\n{markdown(setting_cells(comparison))}".lstrip(), end="")
    if arguments.write:
        from src.results.write import FILES, write_results  # torch, which the tables do not need

        arguments.write.mkdir(parents=True, exist_ok=True)
        write_results(arguments.write, runs, arguments.baseline)
        print(
            f"\n{arguments.write}: {', '.join(file for file in FILES if (arguments.write / file).exists())}"
        )


if __name__ == "__main__":
    main()
