"""`python -m src.train` and `python -m src.eval`, whole: what they leave behind and that it is true."""

import csv
import json
import math
from pathlib import Path

import cv2
import pytest
import torch
from front_doors import TINY
from resumed import TIMES

from src.results.write import FILES
from src.weights.checkpoint_files import load_checkpoint


@pytest.fixture(scope="module")
def trained(module_doors):
    return module_doors("train", *TINY, name="trained")


def test_a_run_leaves_what_design_promises(trained):
    assert trained.code == 0, trained.err
    assert trained.files >= {
        "config.yaml",
        "train.log",
        "metrics.csv",
        "metrics.json",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "pictures/epoch_0001.jpg",
        "pictures/epoch_0002.jpg",
        "pictures/best_and_worst.json",
        "report.html",
    }
    assert not [name for name in trained.files if name.endswith(".tmp")]
    assert "IoU per class" in trained.out
    assert "epoch 2/2" in trained.out


def test_metrics_json_holds_best_and_last(trained):
    metrics = trained.metrics
    rows = _rows(trained.directory)
    miou_by_epoch = {int(row["epoch"]): float(row["val/mIoU"]) for row in rows if row.get("val/mIoU")}
    best_epoch = max(miou_by_epoch, key=lambda epoch: miou_by_epoch[epoch])
    assert metrics["epoch"] == best_epoch + 1
    assert metrics["mIoU"] == pytest.approx(miou_by_epoch[best_epoch], abs=1e-12)
    assert metrics["last"]["epoch"] == 2
    assert metrics["last"]["mIoU"] == pytest.approx(miou_by_epoch[1], abs=1e-12)
    assert metrics["num_images"] == 7
    assert len(metrics["classes"]) == len(metrics["confusion_matrix"]) == 19
    assert (metrics["split"], metrics["precision"]) == ("val", "32-true")


def test_metrics_csv_logs_loss_rate_and_every_class(trained):
    columns = set(_rows(trained.directory)[-1])
    assert columns >= {"epoch", "step", "train/loss_step", "train/loss_epoch", "lr-Adam"}
    assert columns >= {"val/loss", "val/mIoU", "val/pixel_accuracy", "val/mean_accuracy"}
    assert {f"val_IoU/{name}" for name in trained.metrics["classes"]} >= {"val_IoU/road", "val_IoU/bicycle"}
    rates = [float(row["lr-Adam"]) for row in _rows(trained.directory) if row.get("lr-Adam")]
    steps = 8  # 2 epochs of 16 // 4
    wanted = [(1e-3 - 1e-4) * (1 - t / steps) ** 0.9 + 1e-4 for t in range(steps)]
    assert rates == pytest.approx(wanted)


def test_checkpoints_are_plain_data_that_says_what_it_is(trained):
    checkpoint = torch.load(trained.directory / "checkpoints/last.ckpt", weights_only=True)
    hparams = checkpoint["hyper_parameters"]
    assert hparams["data"]["name"] == "street_tiny"
    assert hparams["data"]["train_split"] == "train"
    assert hparams["model"]["preprocessing"]["mean"] == [110.0, 110.0, 110.0]
    assert all(key.startswith("segmenter.network.") for key in checkpoint["state_dict"])
    assert checkpoint["scores"]["mIoU"] == trained.metrics["last"]["mIoU"]


def test_the_panel_shows_image_truth_and_prediction(trained):
    panel = cv2.imread(str(trained.directory / "pictures/epoch_0001.jpg"))
    assert panel.shape[1] >= 3 * 128
    assert panel.std() > 20


def test_eval_from_the_checkpoint_alone_gives_training_s_figures(trained, module_doors):
    checkpoint = trained.directory / "checkpoints/best.ckpt"
    judged = module_doors("eval", f"checkpoint={checkpoint}", "trainer.accelerator=cpu")
    assert judged.code == 0, judged.err
    assert judged.metrics["confusion_matrix"] == trained.metrics["confusion_matrix"]
    assert judged.metrics["mIoU"] == trained.metrics["mIoU"]
    assert judged.files >= {
        "config.yaml",
        "eval.log",
        "metrics.json",
        "confusion.png",
        "pictures/panel.png",
        "report.html",
    }


def test_eval_takes_another_split_and_warns_of_training_images(trained, module_doors):
    checkpoint = trained.directory / "checkpoints/best.ckpt"
    judged = module_doors(
        "eval", f"checkpoint={checkpoint}", "data.split=trainval", "trainer.accelerator=cpu", name="other"
    )
    assert judged.metrics["num_images"] == 16 + 7
    assert judged.metrics["split"] == "trainval"
    assert "trained on 'train'" in judged.out


def test_a_training_on_its_own_validation_images_says_so(doors):
    run = doors("train", *TINY, "callbacks.pictures=null", "data.train_split=trainval")
    assert run.code == 0, run.err
    assert "WARNING: data.train_split=trainval has images of data.val_split=val" in run.out
    assert run.metrics["mIoU"] is not None
    assert run.metrics["val_mIoU"] is None  # what other files would carry as the network's quality


def test_a_finished_run_started_again_does_nothing(trained, module_doors):
    before = {name: (trained.directory / name).stat().st_mtime_ns for name in trained.files}
    again = module_doors("train", *TINY, name="trained")
    assert again.code == 0
    assert "finished" in again.out
    assert {name: (again.directory / name).stat().st_mtime_ns for name in again.files} == before


def test_another_config_under_the_same_name_is_refused(trained, module_doors):
    other = module_doors("train", *TINY, "optimizer.lr=0.5", name="trained")
    assert other.code == 2
    assert "optimizer.lr: 0.001 before, 0.5 now" in other.err


def test_a_dry_run_leaves_nothing_to_resume_from(doors):
    keys = (*TINY, "callbacks.pictures=null", "schedule=warmup_cosine", "schedule.warmup=500")
    for _ in range(2):
        run = doors("train", *keys, "trainer.fast_dev_run=true")
        assert run.code == 0, run.err
        assert "Resuming" not in run.out
    assert not list((run.directory / "checkpoints").glob("*.ckpt"))


@pytest.mark.slow
def test_a_checkpoint_has_no_scores_of_other_weights(doors):
    """The validation after three of four steps is that of best.ckpt, not of last.ckpt."""
    keys = ("callbacks.pictures=null", "trainer.max_epochs=1", "trainer.val_check_interval=3")
    run = doors("train", *TINY, *keys)
    assert run.code == 0, run.err
    assert run.metrics["val_mIoU"] == run.metrics["mIoU"] is not None
    assert run.metrics["last"]["mIoU"] is None


@pytest.mark.slow
def test_the_metrics_are_those_of_last_ckpt_where_best_ckpt_was_not_validated(doors):
    """It is picked by the loss of an epoch without a validation."""
    best = ("monitor=train/loss_epoch", "mode=max", "save_on_train_epoch_end=true")
    keys = (*(f"callbacks.best.{key}" for key in best), "trainer.max_epochs=2", "callbacks.pictures=null")
    run = doors("train", *TINY, *keys, "trainer.check_val_every_n_epoch=2")
    assert run.code == 0, run.err
    assert load_checkpoint(run.directory / "checkpoints/best.ckpt")["scores"] is None
    assert run.metrics["checkpoint"].endswith("last.ckpt")
    assert run.metrics["mIoU"] == run.metrics["last"]["mIoU"]


@pytest.mark.slow
def test_framework_features_together(doors):
    """bf16, EMA, accumulation, clipping and another network in one run."""
    run = doors(
        "train",
        *TINY,
        "trainer.precision=bf16-mixed",
        "trainer.accumulate_grad_batches=2",
        "trainer.gradient_clip_val=1.0",
        "callbacks=ema",
        "model.activation=relu",
        "loss=cross_entropy",
        "optimizer=sgd",
    )
    assert run.code == 0, run.err
    assert all(math.isfinite(float(r["val/loss"])) for r in _rows(run.directory) if r.get("val/loss"))
    checkpoint = load_checkpoint(run.directory / "checkpoints/last.ckpt")
    assert checkpoint["global_step"] == 8  # accumulated batches are parts of a step, not more of it
    averaged, trained = checkpoint["state_dict"], checkpoint["current_model_state"]
    assert any(not torch.equal(averaged[key], trained[key]) for key in averaged)
    judged = doors("eval", f"checkpoint={run.directory}/checkpoints/last.ckpt", "trainer.accelerator=cpu")
    assert judged.metrics["precision"] == "bf16-mixed"
    assert judged.metrics["confusion_matrix"] == run.metrics["last"]["confusion_matrix"]


def test_two_devices_agree_leave_one_run_directory_and_judge_every_image_once(doors, tmp_path):
    own = tmp_path / "conf/callbacks"
    own.mkdir(parents=True)
    spy = f"defaults: [default, _self_]\nspy: {{_target_: spy.RankSpy, folder: '{tmp_path}'}}\n"
    (own / "spy.yaml").write_text(spy)
    run = doors(
        "train",
        f"--config-dir={own.parent}",
        *TINY,
        "trainer.devices=2",
        "trainer.strategy=ddp",
        "loss=dice",
        "callbacks=spy",
        own_process=True,
    )
    assert run.code == 0, run.err
    assert [p.name for p in (doors.folder / "train").iterdir()] == ["run"]
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    ranks = [{key: value for key, value in of_rank.items() if key not in TIMES} for of_rank in ranks]
    assert ranks[0] == ranks[1]
    assert ranks[0]["val/mIoU"] == run.metrics["last"]["mIoU"]
    assert run.metrics["num_images"] == 7
    judged = doors("eval", f"checkpoint={run.directory}/checkpoints/best.ckpt", "trainer.accelerator=cpu")
    assert judged.metrics["confusion_matrix"] == run.metrics["confusion_matrix"]
    best_and_worst = [
        json.loads((directory / "pictures/best_and_worst.json").read_text()) | {"epoch": None}
        for directory in (run.directory, judged.directory)
    ]
    assert best_and_worst[0] == best_and_worst[1]


@pytest.mark.slow
def test_a_sweep_has_one_directory_and_survives_a_failing_job(doors):
    swept = doors(
        "train",
        "-m",
        *TINY,
        "trainer.max_epochs=1",
        "model.num_blocks=[1,1],[1,0]",
        "seed=1",
        own_process=True,
    )
    folder = doors.folder / "train/run"
    assert swept.code == 2, "a job failed, and the command says so"
    assert "model.num_blocks=[1,0]" in swept.out
    assert "run/1 (exit code 2)" in swept.err
    assert {p.name for p in folder.iterdir()} == {".lock", "0", "1", "multirun.yaml", *FILES}
    assert (folder / "0/metrics.json").exists()
    left = [p.name for p in (folder / "1").iterdir()]
    assert left == ["job.json"], "a job that was refused leaves nothing half-written"


def _rows(directory: Path) -> list[dict[str, str]]:
    with (directory / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))
