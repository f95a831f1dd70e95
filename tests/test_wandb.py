"""A W&B run without a login: read back what it wrote, byte by byte, since no server is there to ask."""

import json

from front_doors import TINY

from src.training.loggers.wandb_file import read_records


def test_an_offline_run_holds_metrics_config_and_pictures_with_masks(doors):
    run = doors("train", *TINY, "logger=wandb", "logger.wandb.offline=true", "seed=7", own_process=True)
    assert run.code == 0, run.err
    (file,) = run.directory.glob("wandb/offline-run-*/run-*.wandb")
    assert f"wandb sync {file.parent}\n" in run.out
    assert "anonymous" not in run.out + run.err
    records = list(read_records(file))

    config = {e.key or ".".join(e.nested_key): e.value_json for r in records for e in r.run.config.update}
    config |= {e.key or ".".join(e.nested_key): e.value_json for r in records for e in r.config.update}
    assert json.loads(config["seed"]) == 7
    assert json.loads(config["optimizer"])["lr"] == 1e-3

    history = [
        {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in r.history.item}
        for r in records
        if r.HasField("history")
    ]
    logged = {key for row in history for key in row}
    assert {"train/loss_step", "val/mIoU", "val_IoU/road", "lr-Adam", "val/loss"} <= logged
    miou = [row["val/mIoU"] for row in history if "val/mIoU" in row]
    assert max(miou) == run.metrics["mIoU"]
    assert {"train/gradient_norm", "train/images_per_second", "train/data_wait"} <= logged
    steps = [row["trainer/global_step"] for row in history if "trainer/global_step" in row]
    assert steps == sorted(steps)

    metrics = {r.metric.name: r.metric for r in records if r.HasField("metric")}
    assert metrics["val/mIoU"].summary.max
    assert metrics["val/mIoU"].summary.last
    assert metrics["val_IoU/road"].step_metric == "epoch"
    assert len([name for name in metrics if name.startswith("val_IoU/")]) == 19
    summary = {u.key or ".".join(u.nested_key): u.value_json for r in records for u in r.summary.update}
    assert json.loads(summary["val/mIoU"])["max"] == run.metrics["mIoU"]
    assert json.loads(summary["results/mIoU"]) == run.metrics["mIoU"]
    assert json.loads(summary["results/mIoU_of_the_last_epoch"]) == run.metrics["last"]["mIoU"]
    assert json.loads(config["revision"]) == json.loads(summary["revision"])

    (begun,) = [r.run for r in records if r.HasField("run")]
    assert (begun.display_name, begun.run_group, begun.job_type, list(begun.tags)) == (
        *("run", "run", "train"),
        ["debug"],
    )
    (classes,) = [row["results/classes.path"] for row in history if "results/classes.path" in row]
    table = json.loads((file.parent / "files" / classes).read_text())
    assert table["columns"] == ["class", "IoU", "recall", "precision", "share of the pixels"]
    assert [row[0] for row in table["data"]] == run.metrics["classes"]
    matrix = next(v for row in history for k, v in row.items() if k == "results/confusion_matrix_table.path")
    cells = json.loads((file.parent / "files" / matrix).read_text())["data"]
    assert sum(count for *_, count in cells) == sum(map(sum, run.metrics["confusion_matrix"]))
    chart = json.loads(config["_wandb.visualize.results/confusion_matrix"])
    assert chart["panel_config"]["panelDefId"] == "wandb/confusion_matrix/v1"
    assert {"results/best_images.count", "results/worst_images.count"} <= logged
    assert (file.parent / "files/report.html").read_text().startswith("<!doctype html>")

    (row, *_) = [row for row in history if "val/panel.count" in row]
    panel = {
        key.removeprefix("val/panel."): value for key, value in row.items() if key.startswith("val/panel.")
    }
    assert panel["count"] == 2
    masks = panel["all_masks"][0]
    assert set(masks) == {"prediction", "ground_truth"}
    media = file.parent / "files"
    assert (media / masks["prediction"]["path"]).is_file()
    assert (media / panel["filenames"][0]).is_file()

    kept = (run.directory / "wandb_id.txt").read_text().strip()
    assert kept in file.name
    assert any(r.HasField("exit") and r.exit.exit_code == 0 for r in records)
