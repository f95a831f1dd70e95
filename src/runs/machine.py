"""The machine that a program runs on: without it a throughput says nothing, and no result is reproducible."""

import os
import platform
import re
import stat
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any

_PACKAGES = ("torch", "pytorch-lightning", "opencv-python-headless", "numpy", "albumentations", "kornia-rs")
_MEMORY_LIMITS = (  # of cgroups, versions 2 and 1
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


def usable_cores() -> int:
    """Number of cores that this process may use; in a cluster job often fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores_of_a_device(devices: int) -> int:
    """A device's share of this machine's cores; under srun the cores that SLURM bound its task to."""
    cores, bound = usable_cores(), os.environ.get("SLURM_CPUS_PER_TASK", "")
    if os.environ.get("SLURM_STEP_NUM_TASKS", "1") != "1" and bound.isdigit() and cores <= int(bound):
        return cores
    return max(1, cores // max(1, devices))


def machine() -> dict[str, Any]:
    """The facts about this machine that throughput depends on."""
    import torch

    return {
        "cpu": _cpu_model(),
        "cores": usable_cores(),
        "memory_gb": round(memory() / 1e9, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.platform(),
    }


def hardware() -> dict[str, Any]:
    """What results depend on: the machine, the GPUs, their driver and libraries, PyTorch's CPU threads."""
    import torch

    here = machine()
    del here["gpu"]
    gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return here | {
        "threads": torch.get_num_threads(),
        "gpus": [{"name": gpu.name, "memory_gb": round(gpu.total_memory / 1e9, 1)} for gpu in gpus],
        "nvidia_driver": _nvidia_driver(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def memory() -> int:
    """Memory of the machine in bytes; 0 if the system does not report it."""
    names: Any = os.sysconf_names
    if "SC_PHYS_PAGES" not in names:
        return 0
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def usable_memory() -> int:
    """Bytes that this process may use; in a container or a cluster job often fewer than the machine has."""
    limits = [memory()] if memory() else []
    for path in _MEMORY_LIMITS:
        with suppress(OSError, ValueError):  # no such file (another version of cgroups), or "max"
            limits.append(int(path.read_text()))
    return min(limits, default=0)


def versions(*extras: str) -> dict[str, str]:
    """Versions of Python and of the packages that throughput depends on; of extras, those installed."""
    found = {"python": platform.python_version()} | {package: version(package) for package in _PACKAGES}
    for package in extras:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


@cache
def installed_packages() -> dict[str, str]:
    """Name and version of everything that can be imported, by name."""
    found: dict[str, str] = {}
    for distribution in distributions():
        about = distribution.metadata  # the file is read once for both
        if about["Name"]:  # what an interrupted pip leaves has no name
            found.setdefault(about["Name"], about["Version"])  # the first one on the path is imported
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _nvidia_driver() -> str | None:
    try:
        found = re.search(r"\d+\.\d+(\.\d+)*", _NVIDIA_DRIVER.read_text().partition("Kernel Module")[2])
    except OSError:
        return None
    return found.group() if found else None


def let_go_of_closed_terminal() -> None:
    """Send output to /dev/null if the terminal was closed: else the next print would end the program."""
    for descriptor in (1, 2):
        with suppress(OSError):  # the descriptor itself is closed
            if stat.S_ISCHR(os.fstat(descriptor).st_mode) and not os.isatty(descriptor):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, descriptor)
                os.close(nowhere)
