"""What data workers need: memory, and open files, whose limit they reach first."""

import resource

from src.errors import UserError, counted
from src.runs.machine import usable_cores, usable_memory

MORE_FILES = (
    "Each data worker and each batch in transit needs some. Raise the limit in the shell that starts the "
    "training (ulimit -n 65536), or use fewer workers (data.num_workers)."
)


def allow_open_files(workers: int) -> None:
    """Raise the soft limit if it is too low; UserError if the hard limit is, too: a worker without a file
    descriptor for its batch leaves the training waiting for ever."""
    needed = 64 + 16 * workers  # pipes and up to 4 tensors in transit, in training and in validation
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise UserError(f"Only {hard} files may be open at once, about {needed} are needed.\n{MORE_FILES}")
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


_WORKER_BYTES = 50e6  # its own memory; what it does not change it shares with its parent
_PER_CORE = 16  # workers; far more than is useful, even if they wait for a network disk


def check_workers(workers: int, loaders: int) -> None:
    """Raises UserError if so many workers need more memory than there is, or are far too many for the cores.

    Args:
        loaders: DataLoaders with so many workers each; those of validation stay alive during training.
    """
    needed, there, cores = workers * loaders * _WORKER_BYTES, usable_memory(), usable_cores()
    if workers > max(64, _PER_CORE * cores) or (there and needed > there):
        raise UserError(
            f"data.num_workers={workers}: {workers * loaders} processes for each device, which take about "
            f"{needed / 1e9:.0f} GB, on {counted(cores, 'core')} with {there / 1e9:.0f} GB of memory. Set "
            f"data.num_workers=auto, which follows the number of cores, or a number close to it."
        )
