import pickle
import zipfile

import pytest
import torch

from src.errors import UserError
from src.weights.checkpoint_files import AtomicCheckpointIO, load_checkpoint

HYPER_PARAMETERS = {
    "model": {"_target_": "src.network.cgnet.CGNet", "channels": [32, 64]},
    "data": {
        "name": "street",
        "layout": "cityscapes",
        "labels": "cityscapes",
        "train_split": "train",
        "val_split": "val",
        "crop_size": [32, 64],
    },
    "classes": ["road", "sky"],
    "precision": "32-true",
}


def checkpoint(value=1.0):
    return {
        "state_dict": {"weight": torch.full((100, 100), value)},
        "hyper_parameters": HYPER_PARAMETERS,
        "epoch": 3,
        "global_step": 12,
        "loops": {},
        "callbacks": {},
        "optimizer_states": [],
        "lr_schedulers": [],
    }


def save(path, content=None):
    AtomicCheckpointIO().save_checkpoint(content or checkpoint(), path)
    return path


def test_round_trip(tmp_path):
    path = save(tmp_path / "checkpoints" / "last.ckpt")  # makes its folder
    loaded = load_checkpoint(path)
    assert torch.equal(loaded["state_dict"]["weight"], torch.ones(100, 100))
    assert loaded["hyper_parameters"] == HYPER_PARAMETERS
    assert loaded["epoch"] == 3
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]


def test_saving_replaces(tmp_path):
    path = save(tmp_path / "last.ckpt", checkpoint(1.0))
    save(path, checkpoint(2.0))
    assert load_checkpoint(path)["state_dict"]["weight"][0, 0] == 2


def test_lightning_can_read_it_back(tmp_path):
    loaded = AtomicCheckpointIO().load_checkpoint(save(tmp_path / "last.ckpt"), weights_only=True)
    assert loaded["epoch"] == 3


@pytest.mark.parametrize("failure", [OSError("No space left on device"), KeyboardInterrupt()])
def test_a_save_that_fails_half_way_leaves_the_previous_file(tmp_path, monkeypatch, failure):
    path = save(tmp_path / "last.ckpt")
    before = path.read_bytes()

    def half(content, file):
        file.write(before[:500])
        raise failure

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(type(failure)):
        save(path, checkpoint(2.0))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_home_is_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save(tmp_path / "last.ckpt")
    assert load_checkpoint("~/last.ckpt")["epoch"] == 3


class Bomb:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def truncated(path, keep):
    content = save(path).read_bytes()
    path.write_bytes(content[: int(keep * len(content))])


def foreign_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "text")


FOREIGN = {
    "missing": lambda path: None,
    "a folder": lambda path: path.mkdir(),
    "empty": lambda path: path.write_bytes(b""),
    "a tenth": lambda path: truncated(path, 0.1),
    "half": lambda path: truncated(path, 0.5),
    "all but the end": lambda path: truncated(path, 0.999),
    "text": lambda path: path.write_text("hello world\nthis is text"),
    "a git-lfs pointer": lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"),
    "noise": lambda path: path.write_bytes(bytes(range(0x62, 0xFF))),
    "a zip": foreign_zip,
    "a pickle": lambda path: path.write_bytes(pickle.dumps({"state_dict": 1})),
    "a list": lambda path: torch.save([1, 2], path),
    "weights alone": lambda path: torch.save({"weight": torch.ones(1)}, path),
    "weights in a state_dict": lambda path: torch.save({"state_dict": {"weight": torch.ones(1)}}, path),
    "another Lightning project": lambda path: torch.save({"state_dict": {}, "hyper_parameters": {}}, path),
    "odd hyperparameters": lambda path: torch.save({"state_dict": {}, "hyper_parameters": 1}, path),
    "a whole module": lambda path: torch.save(torch.nn.Linear(1, 1), path),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_no_checkpoint_is_named_with_a_way_on(tmp_path, kind):
    path = tmp_path / "some.ckpt"
    FOREIGN[kind](path)
    with pytest.raises(UserError) as error:
        load_checkpoint(path)
    text = error.value.text
    assert f"checkpoint={path}" in text
    assert "best.ckpt or last.ckpt of a run" in text
    assert "\x1b" not in text
    assert "weights_only" not in text  # torch's advice is to switch the protection off
    assert "()" not in text


@pytest.mark.parametrize("wrap", [lambda bomb: bomb, lambda bomb: {**checkpoint(), "extra": bomb}])
@pytest.mark.parametrize("write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_a_file_that_would_run_code_is_refused(tmp_path, wrap, write):
    path, trace = tmp_path / "some.ckpt", tmp_path / "trace"
    write(wrap(Bomb(trace)), path)
    with pytest.raises(UserError, match="nothing in the file was executed") as error:
        load_checkpoint(path)
    assert str(path) in error.value.text
    assert not trace.exists()
    pickle.loads(pickle.dumps(Bomb(trace))).close()
    assert trace.exists()  # the bomb was live


def test_a_lost_byte_is_noticed(tmp_path):
    path = save(tmp_path / "last.ckpt")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        load_checkpoint(path)


def test_an_unreadable_file(tmp_path, monkeypatch):
    path = save(tmp_path / "last.ckpt")

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr("io.open", refuse)
    with pytest.raises(UserError, match="Permission denied"):
        load_checkpoint(path)
