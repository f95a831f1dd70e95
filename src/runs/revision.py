"""The code that a run is made with: its git revision, and a patch with all that differs from it."""

import logging
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

PROJECT = Path(__file__).resolve().parents[2]
# Untracked files belong to the code if they lie in one of these folders, or are of one of these kinds.
_FOLDERS, _SUFFIXES = ("src/", "conf/", "scripts/"), (".py", ".yaml", ".yml")
_LARGEST_FILE, _LARGEST_PATCH = 2**20, 10 * 2**20  # bytes: a record is not a backup of data
_SECONDS = 30.0  # limit for one git command; on a local disk it takes milliseconds


def code_state(project: Path = PROJECT) -> tuple[dict[str, Any], bytes]:
    """What to record of the code, and its patch against its revision (empty if nothing differs).

    `git checkout <revision>` and `git apply <patch>` restore the code. Nothing is changed here. Without git
    or a repository `revision` is None and `problem` says why; that is never an error.
    """
    state: dict[str, Any] = {"revision": None, "branch": None, "dirty": None, "left_out": [], "problem": None}
    patch = b""
    try:
        # If the code was unpacked inside another repository, git would name that repository's revision.
        _git(project, "ls-files", "--error-unmatch", "--", "src/train.py")
        found = _git(project, "rev-parse", "HEAD", "--abbrev-ref", "HEAD").decode().split()
        state["revision"], state["branch"] = found
        patch, state["left_out"] = _patch(project)
        state["dirty"] = bool(patch or state["left_out"])
    except subprocess.CalledProcessError as error:  # also if git refuses by its setting safe.directory
        state["problem"] = error.stderr.decode(errors="replace").strip().partition("\n")[0]
    except subprocess.TimeoutExpired as error:
        state["problem"] = str(error)
        log.warning("record.json lacks the state of the code: git took more than %.0f s.", _SECONDS)
    except OSError as error:
        state["problem"] = str(error)
    if len(patch) > _LARGEST_PATCH:
        state["problem"], patch = f"the patch of {len(patch) / 2**20:.0f} MiB is not kept", b""
    return state, patch


def _patch(project: Path) -> tuple[bytes, list[str]]:
    """The patch of tracked changes and new source files; the names of new files too large for it."""
    listed = _git(project, "ls-files", "-z", "--others", "--exclude-standard")
    names = [os.fsdecode(name) for name in listed.split(b"\0") if name]
    new = [name for name in names if name.startswith(_FOLDERS) or name.endswith(_SUFFIXES)]
    large = [name for name in new if (project / name).lstat().st_size > _LARGEST_FILE]
    # `git diff` ignores untracked files: they are added to a copy of the index, with its own object folder.
    paths = _git(project, "rev-parse", "--git-path", "index", "--git-path", "objects").splitlines()
    index, objects = (project / os.fsdecode(path) for path in paths)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(index, f"{folder}/index")
        aside = {
            "GIT_INDEX_FILE": f"{folder}/index",
            "GIT_OBJECT_DIRECTORY": folder,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(objects),
        }
        small = [name for name in new if name not in large]
        if small:
            _git(project, "add", "--intent-to-add", "--", *small, **aside)
        patch = _git(
            project, "diff", "HEAD", "--binary", "--full-index", "--no-color", "--no-ext-diff",
            "--no-textconv", "--no-relative", "--src-prefix=a/", "--dst-prefix=b/", **aside,
        )  # fmt: skip
    return patch, large


def _git(project: Path, *arguments: str, **variables: str) -> bytes:
    """Output of a git command in the project's own repository, even within a git hook, which sets GIT_DIR."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"} | variables
    command = ["git", "-c", "core.fsmonitor=false", "--literal-pathspecs", *arguments]
    done = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, check=True, timeout=_SECONDS
    )
    return done.stdout
