"""The extension guide, tried: everything is in a folder of its own, and no file of this project changes."""

import textwrap

import pytest
import torch
from faults import ALL_IS_WELL, fault

from src.network import trust
from src.weights.checkpoint_files import load_checkpoint

QUICK = (
    "experiment=debug",
    "data.street.val=7",
    "data.val_batch_size=3",
    "trainer.accelerator=cpu",
    "trainer.detect_anomaly=false",
    "callbacks.pictures=null",
    "callbacks.last.every_n_train_steps=3",
)

FILES = {
    # A network of one's own: one class, one YAML. The auxiliary head is for training only.
    "mylab/unet.py": """
        import torch
        import torch.nn.functional as F
        from torch import nn


        def block(inputs, outputs):
            return nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
                nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            )


        class UNet(nn.Module):
            min_size = 16

            def __init__(self, num_classes, width=8):
                super().__init__()
                self.down = nn.ModuleList(block(i * width or 3, 2 * i * width or width) for i in (0, 1, 2))
                self.up = nn.ModuleList([block(6 * width, 2 * width), block(3 * width, width)])
                self.head = nn.Conv2d(width, num_classes, 1)
                self.deep = nn.Conv2d(4 * width, num_classes, 1)

            def forward(self, image):
                x, kept = image, []
                for stage in self.down:
                    x = stage(F.max_pool2d(x, 2) if kept else x)
                    kept.append(x)
                deep = self.deep(kept.pop())
                for stage in self.up:
                    side = kept.pop()
                    x = stage(torch.cat([F.interpolate(x, side.shape[-2:], mode="bilinear"), side], 1))
                return {"logits": self.head(x), "auxiliary": {"deep": deep}}
        """,
    "conf/model/unet.yaml": """
        _target_: mylab.unet.UNet
        num_classes: ${data.num_classes}
        width: 4
        preprocessing: {mean: "${data.mean}", std: "${data.std}"}
        """,
    # A network that begins with pretrained weights: a new training alone calls load_pretrained.
    "mylab/pretrained.py": """
        from pathlib import Path

        import torch

        from mylab.unet import UNet

        FILE = Path(__file__).with_name("pretrained.pt")  # instead of a download


        class Pretrained(UNet):
            def load_pretrained(self):
                self.down.load_state_dict(torch.load(FILE, weights_only=True))
        """,
    # A loss of one's own: (logits, target) -> a mean, or a sum and its weight.
    "mylab/focal.py": """
        import torch.nn.functional as F
        from torch import nn


        class Focal(nn.Module):
            def __init__(self, gamma=2.0):
                super().__init__()
                self.gamma = gamma

            def forward(self, logits, target):
                entropy = F.cross_entropy(logits, target.long(), ignore_index=255, reduction="none")
                return ((1 - (-entropy).exp()) ** self.gamma * entropy)[target != 255].mean()
        """,
    "conf/loss/focal.yaml": """
        _target_: mylab.focal.Focal
        gamma: 2.0
        """,
    # Something that a class of one's own may do wrong.
    "mylab/wrong.py": """
        import torch
        from torch import nn


        class Wrong(nn.Module):
            def __init__(self, num_classes, mistake="", width=4):
                super().__init__()
                self.mistake = mistake
                self.levels = torch.linspace(0, 1, 4).tolist()  # no values on the device meta
                channels = num_classes + (mistake == "channels")
                self.head = nn.Conv2d(3, channels, 1)
                if mistake == "init":
                    raise KeyError("width")

            def forward(self, image):
                if self.mistake == "forward":
                    return self.head(image[:, :2])
                logits = self.head(image)
                if self.mistake == "tuple":
                    return logits, logits
                if self.mistake == "out":
                    return {"out": logits}
                return logits


        def loss(logits, target):
            return logits.sum((1, 2, 3))


        class WrongLoss(nn.Module):
            def __init__(self, mistake=""):
                super().__init__()
                self.mistake = mistake

            def forward(self, logits, target):
                if self.mistake == "index":
                    return nn.functional.cross_entropy(logits, target.long() + 1)
                return logits.sum() / 0
        """,
    "conf/model/wrong.yaml": """
        _target_: mylab.wrong.Wrong
        num_classes: ${data.num_classes}
        mistake: ""
        preprocessing: {mean: "${data.mean}", std: "${data.std}"}
        """,
    "conf/loss/wrong.yaml": """
        _target_: mylab.wrong.WrongLoss
        mistake: ""
        """,
    "mylab/broken.py": "import nothing_of_this_name\n",
    "mylab/__init__.py": "",
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A folder outside of this project; in PYTHONPATH, as a user's own would be."""
    folder = tmp_path_factory.mktemp("lab")
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        from mylab.unet import UNet

        torch.manual_seed(1)
        torch.save(UNet(19, width=4).down.state_dict(), folder / "mylab/pretrained.pt")
        yield folder


@pytest.fixture
def train(doors, lab):
    doors.paths.append(lab)
    return lambda *overrides, **how: doors(
        "train", "--config-dir", str(lab / "conf"), *QUICK, *overrides, **how
    )


def last(run):
    return load_checkpoint(run.directory / "checkpoints/last.ckpt")


EXTENSIONS = {
    "network": ("model=unet",),
    "pretrained network": ("model=unet", "model._target_=mylab.pretrained.Pretrained"),
    "loss": ("model.num_blocks=[1,1]", "loss=focal"),
    "two losses": ("model.num_blocks=[1,1]", "loss=dice"),
}


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", EXTENSIONS)
def test_it_trains_resumes_and_evaluates(train, doors, monkeypatch, name):
    """After kill -9 it resumes, and ends to the bit as if nothing had happened."""
    keys = EXTENSIONS[name]
    whole = train(*keys, name="whole")
    assert whole.code == 0, whole.err
    killed = (*keys, *fault("Die", step=5))
    assert train(*killed, name="run", own_process=True).code == -9
    monkeypatch.setenv(ALL_IS_WELL, "1")
    run = train(*killed, name="run", own_process=True)
    assert run.code == 0, run.err
    assert "Resuming from" in run.out
    one, other = last(run), last(whole)
    assert one["global_step"] == other["global_step"] == 8
    assert all(torch.equal(one["state_dict"][k], other["state_dict"][k]) for k in other["state_dict"])
    best = f"checkpoint='{whole.directory}/checkpoints/best.ckpt'"
    named = [f"trust={keys[-1].partition('=')[2]}"] if "_target_" in keys[-1] else ["trust=mylab.unet.UNet"]
    evaluated = doors("eval", best, *named, "trainer.accelerator=cpu", "latency=0", name="eval")
    assert evaluated.code == 0, evaluated.err
    assert evaluated.metrics["mIoU"] == whole.metrics["mIoU"]
    assert one["hyper_parameters"]["model"]["_target_"].rpartition(".")[2] in (
        (evaluated.directory / "report.html").read_text()
    )


def test_a_new_training_alone_begins_with_pretrained_weights(train, lab, doors):
    run = train(
        *EXTENSIONS["pretrained network"], "optimizer.lr=1e-9", "schedule=constant", "trainer.max_epochs=1"
    )
    assert "Beginning with the pretrained weights of Pretrained" in run.out, run.err
    given = torch.load(lab / "mylab/pretrained.pt", weights_only=True)
    weights = last(run)["state_dict"]
    torch.testing.assert_close(weights["segmenter.network.down.0.0.weight"], given["0.0.weight"])
    (lab / "mylab/pretrained.pt").rename(lab / "mylab/gone.pt")
    try:
        best = f"checkpoint='{run.directory}/checkpoints/best.ckpt'"
        trusted = "trust=[mylab.pretrained.Pretrained]"
        assert doors("eval", best, trusted, "trainer.accelerator=cpu", "latency=0").code == 0
        failed = train(*EXTENSIONS["pretrained network"], name="new")
        assert failed.code == 2
        assert "Pretrained.load_pretrained fails: FileNotFoundError" in failed.err
    finally:
        (lab / "mylab/gone.pt").rename(lab / "mylab/pretrained.pt")


def test_a_checkpoint_may_only_name_what_the_user_trusts(train, doors, lab):
    trained = train("model=unet", "trainer.max_epochs=1")
    best = f"checkpoint='{trained.directory}/checkpoints/best.ckpt'"
    refusals = [
        doors("eval", best),
        doors("eval", best, "trust=mylab.unet.Unet"),
        doors("train", best, *QUICK, name="tuned"),
    ]
    for refused in refusals:
        assert refused.code == 2
        assert "_target_='mylab.unet.UNet' is not allowed" in refused.err
        assert "trust=mylab.unet.UNet" in refused.err
        assert not refused.directory.exists()
    assert not trust.is_trusted("mylab.unet.UNet"), "each command trusts only what it names"
    tuned = train(best, "model=unet", "trainer.max_epochs=1", name="tuned")  # the config names it
    assert tuned.code == 0, tuned.err


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("model=wrong", "model.mistake=init"), ["mylab.wrong.Wrong: KeyError: 'width' (wrong.py, line "]),
        (("model=wrong", "model.mistake=forward"), ["Wrong.forward fails on 2 images", "RuntimeError"]),
        (("model=wrong", "model.mistake=channels"), ["logits has shape (2, 20, 64, 64)", "expected (2, 19,"]),
        (("model=wrong", "model.mistake=tuple"), ["Wrong returns a tuple: expected logits, or a dict"]),
        (("model=wrong", "model.mistake=out"), ["Wrong returns a dict with out: expected logits, or a dict"]),
        (("model=wrong", "+model.with=3"), ["model.with"]),
        (("model=wrong", "model._target_=mylab.wrong.Wong"), ["Did you mean mylab.wrong.Wrong?"]),
        (
            ("model=wrong", "model._target_=mylab.wrung.Wrong"),
            ["No module named 'mylab.wrung'"],
        ),
        (("model=wrong", "model._target_=mylab.broken.Net"), ["No module named 'nothing_of_this_name'"]),
        (("model=wrong", "model._target_=math.gcd"), ["math.gcd"]),
        (
            ("model=unet", "auxiliary_weight={side: 0.4}"),
            ["has the heads side, but UNet has deep"],
        ),
        (("loss=wrong",), ["loss: WrongLoss gives", "not finite"]),
        (("loss=wrong", "loss.mistake=index"), ["loss: WrongLoss fails", "IndexError", "a mean, or a sum"]),
        (("loss=focal", "+loss.gama=1"), ["loss.gama", "loss.gamma"]),
    ],
    ids=str,
)
def test_mistakes_are_named_before_anything_is_made(train, overrides, said):
    run = train(*overrides)
    assert run.code == 2, run.out + run.err
    assert all(text in run.err for text in said), run.err
    assert not run.directory.exists()


def test_a_network_that_needs_values_of_tensors_is_trained_too(train):
    run = train("model=wrong", "trainer.max_epochs=1")
    assert run.code == 0, run.err
    assert "Wrong, 76 parameters" in run.out


def test_a_teacher(train, doors):
    """Neither its weights nor its gradients become the student's; its file is kept in mind by its content."""
    teacher = train("model.num_blocks=[1,1]", "trainer.max_epochs=1", name="teacher")
    file = teacher.directory / "checkpoints/last.ckpt"
    student = ("model=unet", f"teacher.checkpoint='{file}'", "teacher.temperature=2")
    run = train(*student, name="student")
    assert run.code == 0, run.err
    assert "Teacher: CGNet" in run.out
    assert "train/loss_distillation" in (run.directory / "metrics.csv").read_text().splitlines()[0]
    weights = last(run)["state_dict"]
    assert not any("stage2" in key for key in weights)
    alone = train("model=unet", name="alone")
    assert not torch.equal(
        weights["segmenter.network.head.weight"], last(alone)["state_dict"]["segmenter.network.head.weight"]
    )
    (run.directory / "metrics.json").unlink()
    file.write_bytes((teacher.directory / "checkpoints/best.ckpt").read_bytes() + b" ")
    other = train(*student, name="student")
    assert other.code == 2
    assert "teacher" in other.err
    other = train(*student, "data.labels=camvid", name="other")
    assert other.code == 2
