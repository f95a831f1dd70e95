"""The code that a run is made with can be restored from what is recorded of it."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from src.runs import revision
from src.runs.revision import code_state

SOURCES = ("src", "conf", "scripts")


def git(folder, *arguments):
    name = ("-c", "user.name=a", "-c", "user.email=a@b")
    done = subprocess.run(["git", *name, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A repository with one commit."""
    for variable in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(variable)
    folder = tmp_path / "project"
    for place in SOURCES:
        (folder / place).mkdir(parents=True)
    (folder / "src/train.py").write_text("print(1)\n")
    (folder / "src/old.py").write_text("print(2)\n")
    (folder / "conf/train.yaml").write_text("seed: 1\n")
    (folder / "picture.bin").write_bytes(bytes(range(256)))
    (folder / ".gitignore").write_text("*.log\n")
    git(folder, "init", "--initial-branch=main")
    git(folder, "add", "--all")
    git(folder, "commit", "--message=first")
    return folder


def files(folder: Path) -> dict[str, tuple[bytes, bool]]:
    """Content and executable bit of every file."""
    found = (path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts)
    return {str(p.relative_to(folder)): (p.read_bytes(), os.access(p, os.X_OK)) for p in found}


def restore(project, state, patch, folder):
    git(folder.parent, "clone", "--quiet", str(project), str(folder))
    git(folder, "checkout", "--quiet", state["revision"])
    if patch:
        (folder.parent / "code.diff").write_bytes(patch)
        git(folder, "apply", str(folder.parent / "code.diff"))


def test_a_clean_checkout(project):
    state, patch = code_state(project)
    assert state == {
        "revision": git(project, "rev-parse", "HEAD"),
        "branch": "main",
        "dirty": False,
        "left_out": [],
        "problem": None,
    }
    assert patch == b""


def test_revision_and_patch_restore_the_code(project, tmp_path):
    (project / "src/train.py").write_text("print(3)\n")
    (project / "src/old.py").unlink()
    (project / "conf/train.yaml").chmod(0o755)
    (project / "picture.bin").write_bytes(bytes(range(255, -1, -1)) * 20)
    (project / "src/new name 'ü\".py").write_text("print('new')")  # and no newline at its end
    (project / "conf/experiment").mkdir()
    (project / "conf/experiment/mine.yaml").write_text("seed: 2\n")
    (project / "mylab").mkdir()
    (project / "mylab/unet.py").write_text("print('a network of the user')\n")
    (project / "scripts").mkdir(exist_ok=True)
    (project / "scripts/run.sh").write_text("#!/bin/sh\n")
    (project / "scripts/run.sh").chmod(0o755)
    (project / "src/staged.py").write_text("print('staged')\n")
    git(project, "add", "src/staged.py")
    (project / "src/notes.log").write_text("ignored")
    (project / "data.txt").write_text("not code")
    git(project, "config", "diff.noprefix", "true")  # settings of the user's own do not spoil the patch
    git(project, "config", "color.ui", "always")
    before, listed = git(project, "status", "--porcelain"), files(project / ".git")

    state, patch = code_state(project)

    assert state["dirty"]
    assert git(project, "status", "--porcelain") == before
    assert sorted(set(files(project / ".git")) - set(listed)) == []  # nothing was written into the repository
    restore(project, state, patch, tmp_path / "restored")
    wanted = {k: v for k, v in files(project).items() if k not in ("src/notes.log", "data.txt")}
    assert files(tmp_path / "restored") == wanted


def test_a_large_new_file_is_named_and_left_out(project, monkeypatch):
    monkeypatch.setattr(revision, "_LARGEST_FILE", 100)
    (project / "src/weights.py").write_text("x" * 101)
    state, patch = code_state(project)
    assert (state["left_out"], state["dirty"], patch) == (["src/weights.py"], True, b"")


def test_a_large_patch_is_not_kept(project, monkeypatch):
    monkeypatch.setattr(revision, "_LARGEST_PATCH", 2**20)
    (project / "picture.bin").write_bytes(os.urandom(2**21))
    state, patch = code_state(project)
    assert patch == b""
    assert (state["dirty"], state["revision"]) == (True, git(project, "rev-parse", "HEAD"))
    assert "MiB is not kept" in state["problem"]


def unknown(project) -> str:
    state, patch = code_state(project)
    assert (state["revision"], state["branch"], state["dirty"], patch) == (None, None, None, b"")
    return state["problem"]


def test_an_unpacked_archive(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src/train.py").touch()
    assert "not a git repository" in unknown(tmp_path)


def test_inside_a_foreign_repository(project):
    """Its revision would be a lie."""
    inner = project / "unpacked"
    (inner / "src").mkdir(parents=True)
    (inner / "src/train.py").touch()
    assert "src/train.py" in unknown(inner)


def test_a_repository_without_a_commit(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src/train.py").touch()
    git(tmp_path, "init")
    git(tmp_path, "add", "--all")
    assert unknown(tmp_path)


def test_a_hook_s_environment_does_not_lead_elsewhere(project, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    state, _ = code_state(project)
    assert state["revision"] is not None


def test_no_git(project, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert "git" in unknown(project)


def test_a_git_that_hangs_is_not_waited_for(project, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "bin/git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(revision, "_SECONDS", 0.2)
    start = time.monotonic()
    assert "timed out" in unknown(project)
    assert time.monotonic() - start < 10


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
def test_a_checkout_of_another_user(project):
    """Git refuses it until its safe.directory is set."""
    for path in [project, *project.rglob("*")]:
        os.chown(path, 54321, 54321)
    assert "dubious ownership" in unknown(project)
