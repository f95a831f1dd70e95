"""Runs grouped by what they varied: means, intervals, tables, plot and page, from made-up run directories."""

import csv
import io
import json

import cv2
import numpy as np
import pytest

from src.report.table import markdown
from src.results.grouping import Spread, compare, difference
from src.results.result_tables import caption, csv_text, latex, run_row, setting_cells
from src.results.runs import read_runs
from src.results.write import FILES, write_results
from src.runs.jobs import Job


def test_settings_are_what_differs_besides_the_seed_best_first(four, sweep):
    sweep(10, "model.residual=none", 1, 0.7)
    runs = read_runs([four])
    assert [run.directory.name for run in runs] == ["0", "1", "2", "3", "10"]
    comparison = compare(runs)
    labels = [f"model.residual={residual}" for residual in ("global", "local", "none")]
    assert [setting.label for setting in comparison.settings] == labels
    assert comparison.common == ("experiment=debug",)
    assert comparison.baseline.label == "model.residual=global"
    assert [len(s.runs) for s in comparison.settings] == [2, 2, 1]
    first, *_ = comparison.settings
    values = [run.last for run in first.runs]
    assert first.last == Spread(pytest.approx(np.mean(values)), pytest.approx(np.std(values, ddof=1)))
    assert comparison.settings[2].last.deviation is None
    assert first.best.mean == pytest.approx(np.mean(values) + 0.01)
    assert runs[0].hours == 1.5, "the time between two starts is not counted"


def test_the_baseline_can_be_named(four):
    runs = read_runs([four])
    assert compare(runs, "local").baseline.label == "model.residual=local"
    with pytest.raises(ValueError, match="several settings have this"):
        compare(runs, "residual")
    with pytest.raises(ValueError, match=r"no setting has this.*model\.residual=global; "):
        compare(runs, "nothing")


def test_a_difference_is_paired_over_seeds_and_images(four):
    best, other = compare(read_runs([four])).settings
    change = difference(other, best)
    each = [b.last - a.last for a, b in zip(best.runs, other.runs, strict=True)]
    assert change.mean == pytest.approx(np.mean(each))
    half = 12.706 * np.std(each, ddof=1) / np.sqrt(2)
    assert change.over_seeds == pytest.approx((np.mean(each) - half, np.mean(each) + half))
    low, high = change.over_images
    assert low < change.mean < high < 0
    assert high - low < 0.05
    assert difference(best, best) is None


def test_equal_networks_do_not_differ_over_images(sweep):
    for number, seed in enumerate((1, 2)):
        sweep(number, f"x={number}", seed, 0.8)
    for run in sweep.folder.glob("*/config.yaml"):  # the same seed, so that they are a pair
        run.write_text(run.read_text().replace("seed: 2", "seed: 1"))
    one, other = compare(read_runs([sweep.folder])).settings
    change = difference(one, other)
    assert change.over_images[0] <= 0 <= change.over_images[1]
    assert change.over_seeds is None
    assert not change.is_clear


def test_other_images_are_not_compared(four):
    path = four / "2/metrics.json"
    path.write_text(path.read_text().replace('"val"', '"test"'))
    best, other = compare(read_runs([four])).settings
    assert difference(other, best) is None


def test_an_unfinished_run_is_named_and_not_averaged(four):
    overrides = ["experiment=debug", "model.residual=local", "seed=3"]
    job = {"overrides": overrides, "status": "failed", "exit_code": 2}
    (four / "4").mkdir()
    (four / "4/job.json").write_text(json.dumps(job))
    head, _, local = setting_cells(compare(read_runs([four])))
    assert local[:2] == ["model.residual=local", "2 of 3 (failed (exit code 2))"]
    assert "±" in local[head.index("mIoU, last epoch")]


def test_a_repetition_is_no_other_seed(sweep):
    for number, (x, seed, quality) in enumerate([(1, 1, 0.9), (1, 1, 0.9), (2, 1, 0.8), (2, 1, 0.8)]):
        sweep(number, f"x={x}", seed, quality)
    comparison = compare(read_runs([sweep.folder]))
    head, *rows = setting_cells(comparison)
    assert [row[1] for row in rows] == ["1 (2 runs)"] * 2
    assert all("±" not in cell for row in rows for cell in row)
    change = difference(*comparison.settings)
    assert change.over_seeds is None
    assert change.over_images is not None
    assert "95 %, seeds" not in head


def test_a_run_that_is_named_twice_counts_once(four):
    assert len(read_runs([four, four.parent, four / "1"])) == 4


def test_other_weights_are_another_setting_and_another_order_is_not(sweep):
    sweep(0, "x=1 checkpoint=a.ckpt", 1, 0.9)
    sweep(1, "checkpoint=a.ckpt x=1", 2, 0.9)
    sweep(2, "x=1 checkpoint=b.ckpt", 1, 0.8)
    settings = compare(read_runs([sweep.folder])).settings
    assert {s.label: len(s.runs) for s in settings} == {"checkpoint=a.ckpt": 2, "checkpoint=b.ckpt": 1}


def test_what_a_sweep_varies_are_settings_even_if_it_decides_nothing_elsewhere(sweep):
    for number, root in enumerate(("/clean", "/noisy")):
        sweep(
            number, f"data.root={root} data.num_workers={number}", 1, 0.9 - 0.1 * number, varied=["data.root"]
        )
    labels = [setting.label for setting in compare(read_runs([sweep.folder])).settings]
    assert labels == ["data.root=/clean", "data.root=/noisy"]
    for job in sweep.folder.glob("*/job.json"):
        job.unlink()
    (setting,) = compare(read_runs([sweep.folder])).settings
    assert len(setting.runs) == 2, "without a sweep: the same data at two places"


def test_a_removed_part_is_another_setting(sweep):
    sweep(0, "x=1", 1, 0.9)
    sweep(1, "x=1 ~augment.flip", 1, 0.8)
    assert [s.label for s in compare(read_runs([sweep.folder])).settings] == ["(no changes)", "~augment.flip"]


def test_a_run_that_repeats_another_by_its_directory_is_a_seed_of_its_setting(sweep):
    sweep(0, "x=1", 1, 0.9, config="model: {x: 1}\nname: sweep/0\n")
    sweep(1, "x=2", 1, 0.8, config="model: {x: 2}\nname: sweep/1\n")
    for number, x in ((2, 1), (3, 2)):
        config = f"model: {{x: {x}}}\nname: sweep/{number}\n"
        command = sweep(number, "", 2, 0.9, config=config, repeats="anywhere") / "config.yaml"
        command.write_text(command.read_text().replace("experiment=debug ", ""))
    settings = compare(read_runs([sweep.folder])).settings
    assert {s.label: sorted(run.seed for run in s.runs) for s in settings} == {"x=1": [1, 2], "x=2": [1, 2]}
    (alone,) = compare(read_runs([sweep.folder / "3"])).settings
    assert alone.runs[0].overrides == ("--config-dir=anywhere",)


def test_evaluations_of_two_files_are_not_seeds_of_one_setting(sweep):
    """Though one repeats the other's config, with another checkpoint."""
    for number, name in enumerate(("a", "b")):
        config = f"task: eval\ncheckpoint: {name}.ckpt\n"
        path = sweep(number, f"checkpoint={name}.ckpt", 1, 0.9, repeats="0" if number else None)
        command = (path / "config.yaml").read_text().splitlines()[0]
        (path / "config.yaml").write_text(f"{command.replace('src.train', 'src.eval')}\n{config}")
    assert len(compare(read_runs([sweep.folder])).settings) == 2


def test_no_difference_to_a_network_that_was_trained_on_the_images(sweep):
    sweep(0, "x=1", 1, 0.8)
    path = sweep(1, "x=2", 1, 0.9) / "metrics.json"
    seen = {"trained_on": [{"data": "x", "split": "val"}]}
    path.write_text(json.dumps(json.loads(path.read_text()) | seen))
    best, other = compare(read_runs([sweep.folder])).settings
    assert best.label == "x=2 (trained on some of these images)"
    assert other.label == "x=1"
    assert difference(best, other) is None


def test_a_failed_first_job_is_not_the_baseline(four):
    for number in ("0", "1"):
        (four / number / "metrics.json").unlink()
        Job(four / number, ["experiment=debug", "model.residual=global", f"seed={number}"], "failed").write()
    comparison = compare(read_runs([four]))
    assert comparison.baseline.label == "model.residual=local"


def test_the_best_epoch_does_not_stand_for_a_last_one_without_validation(four):
    path = four / "3/metrics.json"
    metrics = json.loads(path.read_text())
    path.write_text(json.dumps(metrics | {"last": {"mIoU": None}}))
    head, _, local = setting_cells(compare(read_runs([four])))
    assert local[1] == "1 of 2 (no validation after the last epoch)"
    assert "±" not in local[head.index("mIoU, last epoch")]


def test_a_job_that_never_began_belongs_to_its_setting(four):
    (four / "4").mkdir()
    overrides = ["experiment=debug", "sweep=residual", "name=x", "model.residual=local", "seed=3"]
    (four / "4/job.json").write_text(json.dumps({"overrides": overrides, "status": "not started"}))
    _, *rows = setting_cells(compare(read_runs([four])))
    assert [row[1] for row in rows] == ["2", "2 of 3 (not started)"]


@pytest.mark.parametrize("file", ["config.yaml", "job.json"])
def test_a_damaged_directory_is_left_out_and_named(four, caplog, file):
    (four / "0" / file).write_text('# python -m src.train "x\n{')
    assert len(read_runs([four])) == 3
    assert f"{four / '0'} is left out: " in caplog.text


def test_tables(four):
    comparison = compare(read_runs([four]))
    text = markdown(setting_cells(comparison))
    lines = [line.strip("| ").split(" | ") for line in text.splitlines()]
    assert lines[0][:4] == ["setting", "seeds", "mIoU, last epoch", "difference"]
    assert lines[2][3] == "baseline"
    assert lines[3][3].startswith("-")
    assert caption(comparison) == "All runs: experiment=debug. Differences are to: model.residual=global."
    rows = list(csv.DictReader(io.StringIO(csv_text(run_row(run) for run in read_runs([four])))))
    assert [row["seed"] for row in rows] == ["1", "2", "1", "2"]
    assert rows[0]["overrides"] == "experiment=debug model.residual=global"
    assert (rows[0]["epochs"], rows[0]["hours"]) == ("3", "1.5")
    table = latex(setting_cells(comparison))
    assert r"model.residual=local & 2 & " in table
    assert r"\textbf{" in table
    assert r"95 \%, seeds" in table
    assert table.count(r"\\") == 3


def test_all_files_are_written_and_the_page_has_every_part(four):
    write_results(four, read_runs([four]))
    assert {path.name for path in four.iterdir() if path.is_file()} == set(FILES)
    picture = cv2.imread(str(four / "results.png"))
    assert picture.shape[1] > 900
    assert picture.shape[0] < 400, "no run has curves"
    for number in range(4):
        (four / f"{number}/metrics.csv").write_text("step,epoch,val/mIoU\n40,0,0.3\n80,1,0.4\n")
    write_results(four, read_runs([four]))
    assert cv2.imread(str(four / "results.png")).shape[0] > 600, "curves below"
    assert picture.std() > 10
    page = (four / "comparison.html").read_text()
    for part in ("Settings", "IoU per class", "model.residual=local", "Student's t"):
        assert part in page.replace("&#x27;", "'")
    assert "Images on which" not in page, "there are no checkpoints to draw them with"


def test_hostile_names_add_no_markup(sweep):
    sweep(0, "'model.x=<script>alert(1)</script>'", 1, 0.8)
    sweep(1, "'model.x=a&b_c'", 1, 0.8)
    comparison = write_results(sweep.folder, read_runs([sweep.folder]))
    assert "<script>alert" not in (sweep.folder / "comparison.html").read_text()
    assert r"a\&b\_c" in latex(setting_cells(comparison))
