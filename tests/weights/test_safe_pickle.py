"""Pickles from anywhere are noted, not obeyed: nothing runs, nothing is imported, no memory is made up."""

import collections
import os
import pickle
import random
import resource
import struct
import sys
import time
import zipfile

import numpy as np
import pytest
import torch
from published_networks import AuthorsNetwork, MmsegNetwork, paddle_arrays, randomized, save_pickle

from src.errors import UserError
from src.weights.checkpoint_files import read_weights_file
from src.weights.published import read_published
from src.weights.safe_pickle import read_pickle
from src.weights.unpickler import Asked


class Call:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call

    def __call__(self):
        """So that it may itself stand for a function in a pickle."""


class State:
    """A BUILD with a state of its own."""

    def __init__(self, state):
        self.state = state

    def __reduce__(self):
        return object, (), self.state


def bombs(trace):
    touch = f"open({str(trace)!r}, 'w')"
    yield "system", Call(os.system, f"touch {trace}")
    yield "eval", Call(eval, touch)
    yield "exec", Call(exec, touch)
    yield "open", Call(open, str(trace), "w")
    yield "getattr", Call(getattr, Call(__import__, "os"), "system")
    yield "chain", Call(Call(getattr, Call(__import__, "os"), "system"), f"touch {trace}")
    yield "as a key", {Call(eval, touch): 1}
    yield "in a state", State({"x": Call(eval, touch)})
    yield "in an array's place", Call(np.array, Call(eval, touch))
    yield (
        "in a tensor's place",
        Call(torch._utils._rebuild_tensor_v2, Call(eval, touch), 0, (1,), (1,), False, {}),
    )


WRITERS = {
    "archive": torch.save,
    "legacy": lambda content, path: torch.save(content, path, _use_new_zipfile_serialization=False),
    **{f"pickle {p}": lambda content, path, p=p: save_pickle(content, path, p) for p in (0, 2, 5)},
}


@pytest.mark.sampled(5)
@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("place", ["all", "beside the weights", "among the weights"])
def test_bombs_do_not_go_off(tmp_path, writer, place):
    trace, path = tmp_path / "trace", tmp_path / "weights"
    weights = MmsegNetwork(m=1, n=1).state_dict()
    for kind, bomb in bombs(trace):
        content = {
            "all": bomb,
            "beside the weights": {"meta": bomb, "state_dict": dict(weights)},
            "among the weights": {"state_dict": {**weights, "backbone.stem.0.bn.bias": bomb}},
        }[place]
        WRITERS[writer](content, path)
        if place == "beside the weights" and not writer.startswith("pickle"):
            assert read_published(read_weights_file(path)).family == "mmsegmentation", kind
        else:
            with pytest.raises(UserError):
                read_published(read_weights_file(path))
    assert not trace.exists()


def test_nothing_is_imported():
    name = "antigravity"
    assert name not in sys.modules
    read = read_pickle(f"c{name}\nfly\n)R.".encode())
    assert name not in sys.modules
    assert isinstance(read.root, Asked)
    assert read.root.path == f"{name}.fly"


def _limited(path):
    """Reads with 1 GB more than now, in a process of its own; returns its exit code."""
    child = os.fork()
    if child == 0:
        with open("/proc/self/statm") as file:  # noqa: PTH123
            now = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + 10**9, now + 10**9))
        try:
            read_published(read_weights_file(path))
        except UserError:
            os._exit(2)
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _tensor_of(size, stride, storage_elements=4):
    """A tensor whose shape its memory does not have."""
    storage = torch.FloatTensor(storage_elements).untyped_storage()

    class Lie:
        def __reduce__(self):
            typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
            return torch._utils._rebuild_tensor_v2, (typed, 0, size, stride, False, {})

    return Lie()


HUGE = {
    "a memo of 4 billion": b"\x80\x02}r\xff\xff\xff\xff.",
    "a bytearray": b"\x80\x05\x96" + struct.pack("<Q", 2**35) + b".",
    "bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b".",
    "a number": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b".",
}


@pytest.mark.parametrize("kind", HUGE)
def test_no_room_is_made_on_the_word_of_a_pickle(tmp_path, kind):
    path = tmp_path / "w"
    path.write_bytes(HUGE[kind])
    assert _limited(path) == 2


@pytest.mark.parametrize(
    ("size", "stride"), [((10**6, 10**6), (0, 0)), ((5,), (1,)), ((2, 2), (3, 3)), ((-1,), (1,))]
)
def test_no_tensor_is_larger_than_its_memory(tmp_path, size, stride):
    state = dict(MmsegNetwork(m=1, n=1).state_dict())
    state["backbone.stem.0.bn.bias"] = _tensor_of(size, stride)
    torch.save(state, tmp_path / "w")
    assert _limited(tmp_path / "w") == 2


def test_one_memory_under_many_names_is_refused(tmp_path):
    state = dict(MmsegNetwork(m=1, n=1).state_dict())
    large = torch.zeros(3 * 10**6)
    state |= {f"backbone.extra.{i}": large for i in range(200)}
    torch.save(state, tmp_path / "w")
    assert (tmp_path / "w").stat().st_size < 2 * 10**7
    assert _limited(tmp_path / "w") == 2


def test_dicts_that_hold_themselves(tmp_path):
    inner: dict = {"a": 1}
    for _ in range(60):
        inner = {str(i): inner for i in range(10)}
    inner["self"] = inner
    save_pickle(inner, tmp_path / "w", 2)
    with pytest.raises(UserError):
        read_published(read_weights_file(tmp_path / "w"))


@pytest.mark.parametrize("argument", [5, [5], [[{}, 1]], "text", [["a"]]])
def test_an_ordered_dict_of_anything(tmp_path, argument):
    save_pickle(Call(collections.OrderedDict, argument), tmp_path / "w", 2)
    with pytest.raises(UserError, match="no CGNet in it"):
        read_published(read_weights_file(tmp_path / "w"))


def test_one_dict_in_many_places_is_looked_at_once(tmp_path):
    inner = collections.OrderedDict((str(i), i) for i in range(20_000))
    for _ in range(2):
        inner = collections.OrderedDict((str(i), inner) for i in range(20_000))
    save_pickle(inner, tmp_path / "w", 2)
    began = time.perf_counter()
    with pytest.raises(UserError, match="no CGNet in it"):
        read_published(read_weights_file(tmp_path / "w"))
    assert time.perf_counter() - began < 20


def test_arrays_of_objects_are_refused(tmp_path):
    arrays = paddle_arrays(AuthorsNetwork(m=2, n=2))
    arrays["b1.bn.bias"] = np.array([print, {}], dtype=object)
    save_pickle(arrays, tmp_path / "w", 2)
    with pytest.raises(UserError, match=r"b1.bn.bias: an array of O8"):
        read_published(read_weights_file(tmp_path / "w"))


def test_a_name_has_nothing_for_the_terminal(tmp_path):
    torch.save({"\x1b]0;title\x07": torch.zeros(1)}, tmp_path / "w")
    with pytest.raises(UserError) as error:
        read_published(read_weights_file(tmp_path / "w"))
    assert error.value.text.replace("\n", "").isprintable()


@pytest.fixture(scope="module", params=WRITERS)
def damaged(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("damaged") / "w"
    if request.param.startswith("pickle"):
        content = paddle_arrays(randomized(AuthorsNetwork(m=1, n=1)))
    else:
        content = {"state_dict": randomized(MmsegNetwork(m=1, n=1)).state_dict()}
    WRITERS[request.param](content, path)
    return path


def test_cut_off_files_are_said(damaged, tmp_path):
    content, path = damaged.read_bytes(), tmp_path / "w"
    for length in [0, 1, 2, 5, *range(100, len(content) - 8, max(1, len(content) // 23)), len(content) - 9]:
        path.write_bytes(content[:length])
        with pytest.raises(UserError) as error:
            read_published(read_weights_file(path))
        assert "damaged" in error.value.text or "no CGNet" in error.value.text


@pytest.mark.sampled(1)
def test_changed_bytes_are_an_error_of_the_user_or_other_weights(damaged, tmp_path):
    content, path, draw = damaged.read_bytes(), tmp_path / "w", random.Random(0)
    for _ in range(60):
        changed = bytearray(content)
        for _ in range(4):
            changed[draw.randrange(min(len(content), 3000))] = draw.randrange(256)
        path.write_bytes(changed)
        try:
            read_published(read_weights_file(path))
        except UserError:
            continue


def test_other_archives_are_no_weights(tmp_path):
    with zipfile.ZipFile(tmp_path / "w", "w") as archive:
        archive.writestr("model/code/__torch__.py", "print(1)")
    with pytest.raises(UserError, match="an archive, but not PyTorch's"):
        read_weights_file(tmp_path / "w")


def test_plain_values_stay_what_they_are():
    content = {"a": [1, 2.5, "text", None, True, b"bytes"], "b": {"c": (1, 2)}}
    for protocol in range(6):
        assert read_pickle(pickle.dumps(content, protocol)).root.keys() == content.keys()
    assert read_pickle(pickle.dumps(content, 4)).root == content
