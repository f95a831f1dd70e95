"""Which runs are one setting."""

import json

from src.results.grouping import compare, difference
from src.results.runs import read_runs


def test_runs_of_a_config_that_was_edited_in_between_are_two_settings(sweep):
    for number, (seed, lr) in enumerate([(1, 0.001), (2, 0.001), (3, 0.002)]):
        sweep(
            number,
            "x=1",
            seed,
            0.8,
            config=f"optimizer: {{lr: {lr}, of_older_code: false}}\nname: {number}\n",
        )
    sweep(3, "x=1", 4, 0.8, config="optimizer: {lr: 0.001}\n")
    comparison = compare(read_runs([sweep.folder]))
    found = {setting.label: {run.directory.name for run in setting.runs} for setting in comparison.settings}
    assert found == {"optimizer.lr=0.001": {"0", "1", "3"}, "optimizer.lr=0.002": {"2"}}


def test_evaluations_on_other_images_or_of_other_weights_are_other_settings(sweep):
    for number, facts in enumerate([{"root": "/clear"}, {"root": "/fog"}, {"root": "/fog"}]):
        directory = sweep(number, "x=1", 1, 0.8)
        path = directory / "config.yaml"
        path.write_text(path.read_text().replace("task: train", "task: eval"))
        metrics = json.loads((directory / "metrics.json").read_text())
        (directory / "metrics.json").write_text(json.dumps(metrics | facts | {"weights_sha256": "ab" * 32}))
    one, other = compare(read_runs([sweep.folder])).settings
    assert {(s.label, len(s.runs)) for s in (one, other)} == {("data.root=/clear", 1), ("data.root=/fog", 2)}
    assert difference(one, other) is None


def test_a_place_below_the_run_s_directory_is_no_difference(sweep):
    for seed in (1, 2):
        kept = f"run_dir: runs/x/{seed}\ncallbacks: {{all: {{dirpath: runs/x/{seed}/all}}}}\n"
        sweep(seed, "x=1", seed, 0.8, config=kept)
    (setting,) = compare(read_runs([sweep.folder])).settings
    assert len(setting.seeds) == 2


def test_trainings_that_were_judged_on_other_images_are_other_settings(sweep):
    for number in range(4):
        path = sweep(number, "x=1", number, 0.8, varied=("x",)) / "metrics.json"
        matrix = [[40, 2], [1, 7 if number == 2 else 6]]
        path.write_text(json.dumps(json.loads(path.read_text()) | {"confusion_matrix": matrix}))
    path.unlink()  # of a run that is not finished
    settings = compare(read_runs([sweep.folder])).settings
    assert {tuple(int(run.directory.name) for run in setting.runs) for setting in settings} == {
        (0, 1, 3),
        (2,),
    }
    assert all("images=" in setting.label for setting in settings)


def test_a_run_that_was_extended_by_its_own_config_keeps_its_setting(sweep):
    for seed in (1, 2):
        directory = sweep(seed, "--config-dir=x trainer.max_epochs=20", seed, 0.8, repeats="x")
        first = {"overrides": ["experiment=debug", "model.residual=local", "trainer.max_epochs=10"]}
        starts = [first | {"repeats": None}, {"repeats": str(directory)}]
        (directory / "record.json").write_text(json.dumps({"starts": starts}))
    (setting,) = compare(read_runs([sweep.folder])).settings
    assert len(setting.seeds) == 2
    assert {"model.residual=local", "trainer.max_epochs=20"} <= set(setting.runs[0].overrides)
