"""The extension guide, tried: everything is in a folder of its own, and no file of this project changes."""

import textwrap

import pytest
import torch
from faults import ALL_IS_WELL, fault
from front_doors import REPOSITORY
from own_lab import FILES, QUICK

from src.network import trust
from src.results.runs import read_runs
from src.weights.checkpoint_files import load_checkpoint
from src.weights.trained_network import restore


def last(run):
    return load_checkpoint(run.directory / "checkpoints/last.ckpt")


SMALL = "model.num_blocks=[1,1]"
EXTENSIONS = {
    "a network": ("model=unet",),
    "a backbone with pretrained weights and its own learning rate": ("model=backbone",),
    "a loss": (SMALL, "loss=focal"),
    "two losses": (SMALL, "loss=dice"),
    "a schedule": (SMALL, "schedule=one_cycle"),
    "an augmentation": (SMALL, "+augment.noise={_target_: albumentations.GaussNoise, p: 0.5}"),
    "a logger": (
        SMALL,
        "+logger.own={_target_: pytorch_lightning.loggers.CSVLogger, save_dir: '${run_dir}', name: own}",
    ),
    "a dataset": (SMALL, "data=parts"),
}
TRUSTED = "trust=[mylab.unet.UNet,mylab.backbone.Backbone]"


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", EXTENSIONS)
def test_it_trains_resumes_and_evaluates(train, doors, lab, monkeypatch, name):
    """After kill -9 it resumes, and ends to the bit as if nothing had happened."""
    root = (f"data.root={lab / 'parts'}",) if name == "a dataset" else ()
    keys = (*EXTENSIONS[name], *root)
    whole = train(*keys, name="whole")
    assert whole.code == 0, whole.err
    steps = last(whole)["global_step"]
    killed = (*keys, *fault("Die", step=steps - 1))
    assert train(*killed, name="run", own_process=True).code == -9
    monkeypatch.setenv(ALL_IS_WELL, "1")
    run = train(*killed, name="run")
    assert run.code == 0, run.err
    assert "Resuming from" in run.out
    one, other = last(run), last(whole)
    assert one["global_step"] == steps >= 2
    assert all(torch.equal(one["state_dict"][k], other["state_dict"][k]) for k in other["state_dict"])
    assert one["optimizer_states"][0]["param_groups"] == other["optimizer_states"][0]["param_groups"]
    best = f"checkpoint='{whole.directory}/checkpoints/best.ckpt'"
    evaluated = doors("eval", best, TRUSTED, "trainer.accelerator=cpu", "latency=0", name="eval")
    assert evaluated.code == 0, evaluated.err
    assert evaluated.metrics["mIoU"] == whole.metrics["mIoU"]
    assert f"{whole.metrics['mIoU']:.2%}"[:-1] in (whole.directory / "report.html").read_text()
    assert {run.name: run.best for run in read_runs([doors.folder / "train"])} == {
        f"{doors.folder}/train/{name}": whole.metrics["mIoU"] for name in ("whole", "run")
    }


def test_help_shows_files_of_one_s_own(train):
    shown = train("model=unet", "--help")
    assert shown.code == 0, shown.err
    assert "mylab.unet.UNet" in shown.out


def test_a_new_training_alone_begins_with_pretrained_weights(train, lab, doors):
    run = train("model=backbone", "optimizer.lr=1e-9", "schedule=constant", "trainer.max_epochs=1")
    assert "Beginning with the pretrained weights of Backbone" in run.out, run.err
    given = torch.load(lab / "mylab/pretrained.pt", weights_only=True)
    weights = last(run)["state_dict"]
    torch.testing.assert_close(weights["segmenter.network.encoder.0.0.weight"], given["0.0.weight"])
    assert [group["lr"] for group in last(run)["optimizer_states"][0]["param_groups"]] == [1e-10, 1e-9]
    (lab / "mylab/pretrained.pt").rename(lab / "mylab/gone.pt")
    try:
        best = f"checkpoint='{run.directory}/checkpoints/best.ckpt'"
        assert doors("eval", best, TRUSTED, "trainer.accelerator=cpu", "latency=0").code == 0
        failed = train("model=backbone", name="new")
        assert failed.code == 2
        assert "Backbone.load_pretrained fails: FileNotFoundError" in failed.err
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


def test_a_network_that_needs_values_of_tensors_is_trained_too(train):
    run = train("model=wrong", "trainer.max_epochs=1")
    assert run.code == 0, run.err
    assert "Wrong, 76 parameters" in run.out


@pytest.mark.slow
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
    content = file.read_bytes()
    file.write_bytes((teacher.directory / "checkpoints/best.ckpt").read_bytes() + b" ")
    other = train(*student, name="student")
    assert other.code == 2
    assert "teacher.sha256" in other.err
    file.write_bytes(content)
    other = train(*student, "data.labels=camvid", name="other")
    assert other.code == 2
    assert "a network for 19 other classes, or in another order, than the 11 of this training" in other.err


@pytest.mark.slow
def test_images_without_labels_are_learned_from_the_teacher(doors, cityscapes_root):
    """The test split's 5 images are in the batches, and no label of theirs counts."""
    small = (
        *("trainer.accelerator=cpu", "callbacks.pictures=null", "report.images=0", "data=cityscapes"),
        *(f"data.root={cityscapes_root}", "data.crop_size=[64,64]", "data.batch_size=4"),
        *("model.num_blocks=[1,1]", "trainer.max_epochs=1", "data.num_workers=0"),
    )
    teacher = doors("train", *small, name="teacher")
    assert teacher.code == 0, teacher.err
    file = f"teacher.checkpoint='{teacher.directory}/checkpoints/last.ckpt'"
    run = doors("train", *small, file, "teacher.unlabelled_split=test", "data.class_weights=labels")
    assert run.code == 0, run.err
    assert "17 training and 7 validation images" in run.out
    assert "The 5 images of 'test' are learned from the teacher alone" in run.out
    alone = doors("train", *small, "teacher.unlabelled_split=test", name="other")
    assert "teacher.unlabelled_split=test: without labels" in alone.err
    seen = doors("train", *small, file, "teacher.unlabelled_split=val", name="other")
    assert "teacher.unlabelled_split=val: it has images of the validation" in seen.err
    again = doors("train", *small, file, "teacher.unlabelled_split=train", name="other")
    assert "is a training image of the split 'train' already" in again.err
    assert [seen["split"] for seen in restore(f"{run.directory}/checkpoints/last.ckpt").trained_on] == [
        "train",
        "test",
    ]


@pytest.mark.slow
def test_all_heads_start_anew_for_other_classes(train, doors, lab):
    """Also if there are as many classes as before."""
    first = train("model=backbone", "trainer.max_epochs=1", name="first")
    best = f"checkpoint='{first.directory}/checkpoints/last.ckpt'"
    slow = ("model=backbone", "optimizer.lr=1e-9", "schedule=constant", "trainer.max_epochs=1")
    tuned = train(*slow, "data=parts", f"data.root={lab / 'parts'}", best, name="tuned")
    assert tuned.code == 0, tuned.err
    assert "The classifier (network.head, network.side) starts anew, for 3 classes" in tuned.out
    before, after = last(first)["state_dict"], last(tuned)["state_dict"]
    encoder = "segmenter.network.encoder.0.0.weight"
    torch.testing.assert_close(after[encoder], before[encoder])
    renamed = (
        "data.classes=[{name: a, colors: [[10, 20, 30]]}, {name: b, colors: [[128, 64, 128], [0, 0, 142]]}, "
    )
    renamed += "{name: c, colors: [[255, 255, 0]]}]"
    again = f"checkpoint='{tuned.directory}/checkpoints/last.ckpt'"
    other = train(*slow, "data=parts", f"data.root={lab / 'parts'}", renamed, again, "seed=7", name="other")
    assert other.code == 0, other.err
    heads = [last(run)["state_dict"]["segmenter.network.head.weight"] for run in (tuned, other)]
    assert (heads[0] - heads[1]).abs().max() > 0.01


def test_the_page_s_example_is_the_one_tested_here():
    page = (REPOSITORY / "docs/extending.md").read_text()
    assert textwrap.dedent(FILES["conf/model/unet.yaml"]).strip() in page
    for name in ("mylab/unet.py", "mylab/focal.py", "conf/loss/focal.yaml"):
        assert name.replace("conf/", "my_conf/") in page
        assert name in FILES
