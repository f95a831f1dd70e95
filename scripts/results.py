"""A table of runs, best first, to read or to paste: `python -m scripts.results [folder ...] [--csv]`.

Reads metrics.json and config.yaml of every run below the folders (default: runs/train), also of the jobs of
a sweep. Also lists the jobs of a sweep that failed, were interrupted, are running or have not started.
"""

import argparse
import csv
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import yaml

from src.sweep.jobs import FILE, Job

COLUMNS = (
    "run",
    "mIoU",
    "status",
    "epoch",
    "epochs",
    "data",
    "split",
    "images",
    "precision",
    "network",
    "overrides",
)
_WHERE = ("name=", "runs_dir=", "cache_dir=", "hydra.")  # overrides that say where a run is, not what it does


def rows(folders: list[Path]) -> list[dict[str, Any]]:
    """One row per run that is finished or belongs to a sweep. Raises SystemExit if there is none."""
    found = [_row(path) for folder in folders for path in sorted(folder.rglob("metrics.json"))]
    jobs = [Job.read(path.parent) for folder in folders for path in sorted(folder.rglob(FILE))]
    found += [_unfinished(job) for job in jobs if job and not (job.directory / "metrics.json").exists()]
    if not found:
        raise SystemExit(f"No metrics.json below {', '.join(map(str, folders))}: no finished run.")
    return sorted(found, key=lambda row: -(row["mIoU"] or 0))


def _unfinished(job: Job) -> dict[str, Any]:
    status = job.status_now + (f" (exit code {job.exit_code})" if job.exit_code else "")
    return dict.fromkeys(COLUMNS, "") | {
        "run": job.directory.as_posix(),
        "status": status,
        "overrides": " ".join(o for o in job.overrides if not o.startswith(_WHERE)),
    }


def _row(path: Path) -> dict[str, Any]:
    metrics = json.loads(path.read_text())
    text = (path.parent / "config.yaml").read_text()
    config = yaml.safe_load(text)
    command = shlex.split(text.partition("\n")[0].removeprefix("#"))[3:]  # python -m src.train ...
    return {
        "run": path.parent.as_posix(),
        "mIoU": metrics["mIoU"],
        "status": "finished",
        "epoch": metrics["epoch"],
        "epochs": config["trainer"]["max_epochs"] if config["task"] == "train" else "",
        "data": config["data"]["name"],
        "split": metrics["split"],
        "images": metrics["num_images"],
        "precision": metrics["precision"],
        "network": metrics.get("network") or config.get("model", {}).get("_target_", "").rpartition(".")[2],
        "overrides": " ".join(o for o in command if not o.startswith(_WHERE)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="*", type=Path, default=[Path("runs/train")])
    parser.add_argument("--csv", action="store_true", help="comma-separated instead of Markdown")
    arguments = parser.parse_args()
    table = rows(arguments.folders)
    if arguments.csv:
        writer = csv.DictWriter(sys.stdout, COLUMNS)
        writer.writeheader()
        writer.writerows(table)
        return
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + " --- |" * len(COLUMNS))
    for row in table:
        cells = [f"{row[c]:.4f}" if isinstance(row[c], float) else str(row[c]) for c in COLUMNS]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
