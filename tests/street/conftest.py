import pytest

from src.street import write_street


@pytest.fixture(scope="session")
def dozen(tmp_path_factory):
    """A dozen scenes of 128x64 in each split."""
    root = tmp_path_factory.mktemp("street") / "synthetic"
    write_street(root, {"train": 12, "val": 12}, 128, 64, seed=3)
    return root
