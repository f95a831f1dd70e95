"""What data workers take: memory, and open files, whose limit they meet first."""

import resource

from src.errors import UserError, counted
from src.runs.machine import usable_cores, usable_memory

MORE_FILES = (
    "Each data worker and each batch on its way takes some. Raise the limit in the shell that starts the "
    "training (ulimit -n 65536), or use fewer workers (data.num_workers)."
)


def allow_open_files(workers: int) -> None:
    """Raises UserError where the hard limit is too low: a worker without a file descriptor for its batch
    leaves the training waiting for ever."""
    needed = 64 + 16 * workers  # pipes and up to 4 tensors on their way, in training and in validation
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise UserError(f"Only {hard} files may be open at once, about {needed} are needed.\n{MORE_FILES}")
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


_WORKER_BYTES = 50e6  # of a process that shares with its parent what it does not change
_PER_CORE = 16  # already far more than pays, also where they wait for a network disk


def check_workers(workers: int, loaders: int) -> None:
    """Raises UserError where so many take more memory than there is, or wait for each other for ever.

    Args:
        loaders: that have so many each; those of the validation stay beside those of the training.
    """
    needed, there, cores = workers * loaders * _WORKER_BYTES, usable_memory(), usable_cores()
    if workers > max(64, _PER_CORE * cores) or (there and needed > there):
        raise UserError(
            f"data.num_workers={workers}: {workers * loaders} processes for each device, which take about "
            f"{needed / 1e9:.0f} GB, on {counted(cores, 'core')} with {there / 1e9:.0f} GB of memory. Set "
            f"data.num_workers=auto, which goes by the cores, or a number near theirs."
        )
