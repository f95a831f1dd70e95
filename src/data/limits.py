"""The system's limit on open files, which data workers meet first."""

import resource

from src.errors import UserError

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
