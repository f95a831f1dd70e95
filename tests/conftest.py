import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Threads that wait for each other over tiny tensors make these tests up to six times slower on a busy
    machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
