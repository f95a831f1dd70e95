"""The machine: packages, devices, cores, memory, disks, and the shared memory that data workers need."""

import os
import platform
import resource
import shutil
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from packaging.requirements import Requirement

from src.diagnosis.notes import MACHINE, Notes
from src.errors import counted
from src.runs.atomic_files import nearest_existing
from src.runs.machine import memory

SHARED_MEMORY = Path("/dev/shm")  # Linux only
_PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
_GIB = 2**30
_PREFETCHED = 2  # batches that each worker of a DataLoader prefetches: torch's default


def examine_machine(notes: Notes) -> None:
    """Checks that concern every training on this machine."""
    notes.fact(MACHINE, "system", f"Python {platform.python_version()}, {platform.platform(terse=True)}")
    _packages(notes)
    _devices(notes)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 1024:
        notes.add(
            MACHINE, "remark", "open files",
            f"A process may open {soft} files at a time, and data workers pass batches to it as files. If "
            f"training stops with 'Too many open files', run: ulimit -n 4096",
        )  # fmt: skip


def examine_disks(notes: Notes, runs_dir: str, cache_dir: str) -> None:
    """Disk space for runs, and a writable cache, which only saves time. Neither folder needs to exist yet."""
    for key, folder in (("runs_dir", runs_dir), ("cache_dir", cache_dir)):
        existing = nearest_existing(Path(folder))
        free = shutil.disk_usage(existing).free
        notes.fact(MACHINE, f"free in {key}", f"{_size(free)} at {existing}")
        if free < 2 * _GIB and key == "runs_dir":
            notes.add(
                MACHINE, "error" if free < _GIB // 10 else "remark", "disk space",
                f"{existing}: {_size(free)} free. Checkpoints, images and logs of a run take up to 1 GiB. "
                f"Free some space, or set {key}=...",
            )  # fmt: skip
        if key == "cache_dir" and not os.access(existing, os.W_OK | os.X_OK):
            text = (
                f"{existing}: not writable, so classes are counted at every start and no frame is cached. "
                f"Set cache_dir=..."
            )
            notes.add(MACHINE, "remark", "no cache", text)


def examine_loading(notes: Notes, workers: int, devices: int, batch_bytes: int, cores: int) -> None:
    """Whether there are enough cores for the data workers and shared memory for their prefetched batches.

    Args:
        workers: data workers for each of the `devices` of this machine.
        batch_bytes: of one device's training batch and validation batch together.
    """
    total = workers * devices
    notes.fact(MACHINE, "cores", f"{cores}, for {counted(total, 'data worker')} ({workers} per device)")
    if total > cores:
        notes.add(
            MACHINE, "remark", "more workers than cores",
            f"{total} data workers ({workers} per device) on {counted(cores, 'core')} wait for each "
            f"other. Ask for more cores, fewer devices, or fewer workers (data.num_workers=auto).",
        )  # fmt: skip
    if not SHARED_MEMORY.is_dir():  # macOS and Windows pass batches in another way
        return
    free, needed = shutil.disk_usage(SHARED_MEMORY).free, total * _PREFETCHED * batch_bytes
    notes.fact(
        MACHINE, "shared memory", f"{_size(free)} free at {SHARED_MEMORY}, about {_size(needed)} needed"
    )
    if needed > free / 2:
        notes.add(
            MACHINE, "error" if needed > free else "remark", "shared memory",
            f"{SHARED_MEMORY}: {_size(free)} free, but {total} data workers prefetch {_PREFETCHED} batches "
            f"of {_size(batch_bytes)} each, which may take {_size(needed)}. If it is full, training ends "
            f"with a bus error. In Docker, use --shm-size=8g or --ipc=host (the default is 64 MB). Or use "
            f"fewer workers: data.num_workers=0 needs no shared memory.",
        )  # fmt: skip


def _packages(notes: Notes) -> None:
    """Compare the installed versions with those that pyproject.toml requires."""
    installed = []
    for line in tomllib.loads(_PROJECT.read_text())["project"]["dependencies"]:
        wanted = Requirement(line)
        fix = f"Install it as pyproject.toml requires: pip install '{wanted}'"
        try:
            found = version(wanted.name)
        except PackageNotFoundError:  # another distribution may provide it: importing it worked
            notes.add(MACHINE, "remark", "package", f"{wanted.name}: not installed under this name. {fix}")
            continue
        installed.append(f"{wanted.name} {found}")
        if not wanted.specifier.contains(found, prereleases=True):
            notes.add(MACHINE, "remark", "package", f"{wanted.name} {found}: not tested. {fix}")
    notes.fact(MACHINE, "packages", ", ".join(installed))


def _devices(notes: Notes) -> None:
    notes.fact(MACHINE, "memory", _size(memory()))
    cuda = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    notes.fact(MACHINE, "PyTorch", f"{torch.__version__}, {cuda}")
    names = [_describe(index) for index in range(torch.cuda.device_count())]
    mps = torch.backends.mps.is_available()
    notes.fact(MACHINE, "GPU", "; ".join(names) or ("Apple's (mps)" if mps else "none"))
    if names or mps:
        return
    if shutil.which("nvidia-smi") or Path("/dev/nvidia0").exists():
        notes.add(
            MACHINE, "remark", "GPU not usable",
            f"There is an NVIDIA GPU, but PyTorch {torch.__version__} cannot use it, so training would run "
            f"on the CPU. Install a build of PyTorch for your driver's CUDA version (nvidia-smi shows it).",
        )  # fmt: skip
    else:
        notes.add(
            MACHINE, "remark", "no GPU",
            "No GPU: training runs on the CPU. That is enough for experiment=demo; Cityscapes takes weeks.",
        )  # fmt: skip


def _describe(index: int) -> str:
    gpu = torch.cuda.get_device_properties(index)
    bf16 = "bf16" if gpu.major >= 8 else "no bf16"
    return f"{gpu.name}, {_size(gpu.total_memory)}, compute capability {gpu.major}.{gpu.minor}, {bf16}"


def _size(number: float) -> str:
    """A number of bytes as text with a unit."""
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"
