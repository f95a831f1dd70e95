"""The machine: packages, devices, cores, memory, disks, and the room that data workers need."""

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
_PREFETCHED = 2  # batches that each worker of a DataLoader has ready: torch's default


def examine_machine(notes: Notes) -> None:
    """What any training on this machine meets."""
    notes.fact(MACHINE, "system", f"Python {platform.python_version()}, {platform.platform(terse=True)}")
    _packages(notes)
    _devices(notes)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 1024:
        notes.add(
            MACHINE, "remark", "open files",
            f"A process may open {soft} files at a time; data workers pass batches on as files. Should "
            f"training stop with 'Too many open files': ulimit -n 4096",
        )  # fmt: skip


def examine_disks(notes: Notes, runs_dir: str, cache_dir: str) -> None:
    """Room for runs; a cache that cannot be written costs time alone. Neither needs to exist yet."""
    for key, folder in (("runs_dir", runs_dir), ("cache_dir", cache_dir)):
        existing = nearest_existing(Path(folder))
        free = shutil.disk_usage(existing).free
        notes.fact(MACHINE, f"free in {key}", f"{_size(free)} at {existing}")
        if free < 2 * _GIB and key == "runs_dir":
            notes.add(
                MACHINE, "error" if free < _GIB // 10 else "remark", "disk space",
                f"{existing}: {_size(free)} free. Checkpoints, pictures and logs of a run take up to 1 GiB. "
                f"Make room, or set {key}=...",
            )  # fmt: skip
        if key == "cache_dir" and not os.access(existing, os.W_OK | os.X_OK):
            text = (
                f"{existing}: not writable, so classes are counted at every start and no frame is cached. "
                f"Set cache_dir=..."
            )
            notes.add(MACHINE, "remark", "no cache", text)


def examine_loading(notes: Notes, workers: int, devices: int, batch_bytes: int, cores: int) -> None:
    """Whether the data workers have cores, and shared memory for the batches that they have ready.

    Args:
        workers: for each of the `devices` of this machine.
        batch_bytes: of one device's training batch and its validation batch.
    """
    total = workers * devices
    notes.fact(MACHINE, "cores", f"{cores}, for {counted(total, 'data worker')} ({workers} per device)")
    if total > cores:
        notes.add(
            MACHINE, "remark", "more workers than cores",
            f"{total} data workers ({workers} per device) on {counted(cores, 'core')} wait for each "
            f"other. Ask for more cores, fewer devices, or fewer workers (data.num_workers=auto).",
        )  # fmt: skip
    if not SHARED_MEMORY.is_dir():  # macOS and Windows have other ways
        return
    free, needed = shutil.disk_usage(SHARED_MEMORY).free, total * _PREFETCHED * batch_bytes
    notes.fact(
        MACHINE, "shared memory", f"{_size(free)} free at {SHARED_MEMORY}, about {_size(needed)} needed"
    )
    if needed > free / 2:
        notes.add(
            MACHINE, "error" if needed > free else "remark", "shared memory",
            f"{SHARED_MEMORY}: {_size(free)} free, but {total} data workers with {_PREFETCHED} batches of "
            f"{_size(batch_bytes)} each hand over up to {_size(needed)} through it; training would end with "
            f"a bus error. In Docker: --shm-size=8g or --ipc=host (its default is 64 MB). Or fewer "
            f"workers: data.num_workers=0 needs none.",
        )  # fmt: skip


def _packages(notes: Notes) -> None:
    """The installed versions against those that pyproject.toml asks for."""
    installed = []
    for line in tomllib.loads(_PROJECT.read_text())["project"]["dependencies"]:
        wanted = Requirement(line)
        fix = f"Install it as pyproject.toml has it: pip install '{wanted}'"
        try:
            found = version(wanted.name)
        except PackageNotFoundError:  # another build of it may be there: it was imported before
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
            "No GPU: training runs on the CPU. Enough for experiment=demo; Cityscapes in full takes weeks.",
        )  # fmt: skip


def _describe(index: int) -> str:
    gpu = torch.cuda.get_device_properties(index)
    bf16 = "bf16" if gpu.major >= 8 else "no bf16"
    return f"{gpu.name}, {_size(gpu.total_memory)}, compute capability {gpu.major}.{gpu.minor}, {bf16}"


def _size(number: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"
