import pytest
import torch
from front_doors import FrontDoors


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Threads that wait for each other over tiny tensors make the tests up to six times slower on a busy
    machine; and sums are the same to the bit only for the same number of threads."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory):
    """The synthetic street and the class frequencies of all front-door tests: drawn and counted once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def doors(tmp_path, cache_dir):
    return FrontDoors(tmp_path, cache_dir)


@pytest.fixture(scope="module")
def module_doors(tmp_path_factory, cache_dir):
    """Front doors whose runs the tests of a module share."""
    return FrontDoors(tmp_path_factory.mktemp("runs"), cache_dir)
