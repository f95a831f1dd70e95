"""`hydra/sweeper=optuna`: a search that is stored, resumes, and says what it found. Stand-ins train."""

import json
import sys

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from src.runs.jobs import Job, read_jobs
from src.sweep.optuna_search import distribution

optuna = pytest.importorskip("optuna", reason='pip install -e ".[optuna]"')
SEARCH = ("hydra/sweeper=optuna", "optimizer.lr=tag(log,interval(1e-5,1e-1))")


def _study(folder):
    backend = optuna.storages.journal.JournalFileBackend(str(folder / "optuna.journal"))
    return optuna.load_study(study_name="run", storage=optuna.storages.JournalStorage(backend))


def _values(folder):
    return [trial.params for trial in _study(folder).trials]


def test_a_search_finds_prints_and_keeps_the_best(sweep):
    found = sweep(*SEARCH, "hydra.sweeper.n_trials=3", "seed=1")
    assert found.code == 0, found.err
    trials = _study(found.directory).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 3
    assert all(1e-5 <= trial.params["optimizer.lr"] <= 1e-1 for trial in trials)
    assert [job.score for job in read_jobs(found.directory)] == [trial.value for trial in trials]
    best = json.loads((found.directory / "best.json").read_text())
    assert best["value"] == max(trial.value for trial in trials)
    job = Job.read(found.directory / best["job"])
    assert f"optimizer.lr={best['params']['optimizer.lr']}" in job.overrides
    assert "Best of 3 finished trials" in found.out
    for picture in ("history.png", "importances.png"):
        assert (found.directory / picture).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_started_again_only_the_missing_trials_run_and_they_are_those_of_one_go(sweep, doors):
    assert sweep(*SEARCH, "hydra.sweeper.n_trials=2", "seed=1").started == {0, 1}
    assert sweep(*SEARCH, "hydra.sweeper.n_trials=2", "seed=1").started == set()
    folder = doors.folder / "train/run"
    assert sweep(*SEARCH, "hydra.sweeper.n_trials=4", "seed=1").started == {2, 3}
    in_parts = _values(folder)
    folder.rename(doors.folder / "in_parts")
    sweep(*SEARCH, "hydra.sweeper.n_trials=4", "seed=1")
    assert _values(folder) == in_parts
    assert len({values["optimizer.lr"] for values in in_parts}) == 4


@pytest.mark.slow
def test_an_interrupted_trial_is_taken_up_with_its_values_in_its_directory(sweep, doors):
    """Interrupted in its second trial, and in the choice of a third trial's values."""
    search = (*SEARCH, "hydra.sweeper.n_trials=3", "seed=choice(1,130)", "hydra.sweeper.sampler.seed=5")
    stopped = sweep(*search)
    assert stopped.code == 130
    before = _study(stopped.directory).trials
    assert before[-1].state.name == "RUNNING"
    _study(stopped.directory).ask()

    goes_on = sweep(*search)
    assert goes_on.code == 0, goes_on.err
    after = _study(goes_on.directory).trials
    assert [trial.params for trial in after[: len(before)]] == [trial.params for trial in before]
    assert after[len(before)].state.name == "FAIL", "a trial without values cannot run"
    assert before[-1].number in goes_on.started
    assert (goes_on.directory / str(before[-1].number) / "starts").read_text() == "**"
    assert len(after) == 3 + 1, "one that never ran does not count"
    assert not [trial for trial in after if trial.state.name == "RUNNING"]


def test_a_failed_trial_is_recorded_and_the_search_goes_on(sweep):
    search = (
        "hydra/sweeper=optuna",
        "hydra.sweeper.n_trials=3",
        "seed=choice(1,13)",
        "optimizer.lr=2e-4,1e-3",
    )
    found = sweep(*search, "hydra.sweeper.sampler.seed=3")
    states = [trial.state.name for trial in _study(found.directory).trials]
    assert set(states) == {"FAIL", "COMPLETE"}, "choose another sampler.seed for this test"
    assert len(states) == 3
    assert found.code == 2
    assert "trials failed" in found.err


@pytest.mark.slow
def test_failed_trials_count_and_are_retried_by_the_next_command(sweep):
    search = (*SEARCH, "hydra.sweeper.n_trials=3", "seed=13")
    first = sweep(*search)
    assert first.code == 2
    assert "3 of 3 trials failed. None has finished, so there is no best one." in first.err
    assert "exit code" in first.err
    assert "with name=run retries them" in first.err
    assert "n_trials=6 also runs 3 more" in first.err
    assert [(first.directory / str(job) / "starts").read_text() for job in range(3)] == ["*"] * 3

    again = sweep(*search)
    assert (again.code, again.started) == (2, {0, 1, 2})
    assert "3 of 3 trials failed" in again.err
    trials = _study(again.directory).trials
    assert [trial.params for trial in trials[3:]] == [trial.params for trial in trials[:3]]
    assert [job.trial for job in read_jobs(again.directory)] == [3, 4, 5]


def test_a_retried_trial_that_finishes_is_one_trial(sweep):
    """Its cause was outside: a file that is there the second time."""
    search = (*SEARCH, "hydra.sweeper.n_trials=2", "seed=14")
    assert sweep(*search).code == 2
    again = sweep(*search)
    assert (again.code, again.started) == (0, {0, 1}), again.err
    assert [trial.state.name for trial in _study(again.directory).trials] == ["FAIL"] * 2 + ["COMPLETE"] * 2
    assert sweep(*search).started == set()


def test_a_trial_that_falls_behind_is_pruned_and_stays_so(sweep, monkeypatch):
    monkeypatch.setattr("src.sweep.pruning._SECONDS", 0.05)
    search = ("hydra/sweeper=optuna", "seed=10", "optimizer.lr=1e-3,1e-5", "hydra.sweeper.sampler.seed=2")
    search = (*search, "+hydra.sweeper.pruner.n_startup_trials=1")
    found = sweep(*search, "hydra.sweeper.n_trials=2")
    assert found.code == 0, found.err
    study = _study(found.directory)
    states = [trial.state.name for trial in study.trials]
    assert states == ["COMPLETE", "PRUNED"], "choose another sampler.seed for this test"
    assert list(study.trials[0].intermediate_values) == list(range(10))
    assert study.trials[1].value == pytest.approx(0.7)
    job = read_jobs(found.directory)[1]
    assert (job.status, job.exit_code, job.score) == ("pruned", 143, None)
    assert "run/1: falls behind after 10 validations, val mIoU 0.7000" in found.out
    assert "1  pruned " in found.out
    assert "Best of 1 finished trial (1 more were pruned)" in found.out
    assert (found.directory / "history.png").read_bytes().startswith(b"\x89PNG")
    assert not (found.directory / "importances.png").exists()

    # A process that ended before it told the study.
    study.add_trial(
        optuna.create_trial(
            state=optuna.trial.TrialState.RUNNING,
            params=study.trials[1].params,
            distributions=study.trials[1].distributions,
        )
    )
    again = sweep(*search, "hydra.sweeper.n_trials=3")
    assert (again.code, again.started) == (0, set()), again.err
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED", "PRUNED"]


def test_a_trial_is_not_pruned_after_its_last_validation(sweep, monkeypatch):
    monkeypatch.setattr("src.sweep.pruning._SECONDS", 0.05)
    search = ("hydra/sweeper=optuna", "seed=10", "optimizer.lr=1e-3,1e-5", "hydra.sweeper.sampler.seed=2")
    search = (*search, "+hydra.sweeper.pruner.n_startup_trials=1", "trainer.max_epochs=10")
    found = sweep(*search, "hydra.sweeper.n_trials=2")
    assert [trial.state.name for trial in _study(found.directory).trials] == ["COMPLETE"] * 2, found.out


@pytest.mark.slow
def test_a_study_that_cannot_be_read_prunes_nothing(sweep, monkeypatch):
    def broken(*_):
        raise RuntimeError("the database is away")

    monkeypatch.setattr("src.sweep.pruning._trial", broken)
    found = sweep(*SEARCH, "hydra.sweeper.n_trials=1", "seed=1")
    assert found.code == 0
    assert "cannot be pruned, and runs to its end (RuntimeError('the database is away'))" in found.out


@pytest.mark.parametrize(
    ("pruner", "said"),
    [
        ("{_target_: optuna.pruners.Medain}", "optuna.pruners has no Medain"),
        (
            "{n_startup: 3}",
            "MedianPruner has no such argument. Did you mean n_startup_trials?",
        ),
    ],
)
@pytest.mark.sampled(1)
def test_a_pruner_that_does_not_exist(sweep, pruner, said):
    swept = sweep(*SEARCH, "seed=1", f"+hydra.sweeper.pruner={pruner}")
    assert (swept.code, swept.started) == (2, set())
    assert said in swept.err


def test_another_recipe_under_the_name_of_a_search_is_refused(sweep):
    sweep(*SEARCH, "hydra.sweeper.n_trials=1", "seed=1")
    assert sweep(*SEARCH, "hydra.sweeper.n_trials=1", "seed=1", "trainer.devices=2").code == 0
    other = sweep(*SEARCH, "hydra.sweeper.n_trials=2", "seed=2")
    assert other.code == 2
    assert "was started with seed=1, and now it is seed=2" in other.err


def test_other_choices_under_the_name_of_a_search_are_refused(sweep):
    first = sweep("hydra/sweeper=optuna", "hydra.sweeper.n_trials=1", "seed=1", "optimizer.lr=1e-3,1e-4")
    assert first.code == 0, first.err
    other = sweep("hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "seed=1", "optimizer.lr=1e-3,1e-4,1e-5")
    assert (other.code, other.started) == (2, set())
    assert "optimizer.lr has other choices" in other.err
    assert len(_study(first.directory).trials) == 1


def test_a_search_from_conf_on_sqlite(sweep, doors):
    storage = f"sqlite:///{doors.folder}/study.db"
    found = sweep("sweep=optuna", "seed=1", "hydra.sweeper.n_trials=2", f"hydra.sweeper.storage={storage}")
    assert found.code == 0, found.err
    study = optuna.load_study(study_name="run", storage=storage)
    assert set(study.trials[1].params) == {"optimizer.lr", "optimizer.weight_decay"}


@pytest.mark.parametrize(
    ("override", "wanted"),
    [
        ("a=interval(0,1)", optuna.distributions.FloatDistribution(0.0, 1.0)),
        ("a=tag(log,interval(1e-4,1e-2))", optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True)),
        ("a=int(interval(1,8))", optuna.distributions.IntDistribution(1, 8)),
        ("a=range(1,8)", optuna.distributions.IntDistribution(1, 7)),
        ("a=range(1,8,2)", optuna.distributions.IntDistribution(1, 7, step=2)),
        ("a=tag(log,range(1,9))", optuna.distributions.IntDistribution(1, 8, log=True)),
        ("a=range(0.1,0.5,0.1)", optuna.distributions.FloatDistribution(0.1, 0.4, step=0.1)),
        ("a=choice(1,x,[1,2])", optuna.distributions.CategoricalDistribution(["1", "x", "[1,2]"])),
        ("a=adam,sgd", optuna.distributions.CategoricalDistribution(["adam", "sgd"])),
    ],
)
def test_hydra_s_words_for_values(override, wanted):
    assert distribution(OverridesParser.create().parse_override(override)) == wanted


def test_nothing_to_search_is_said(sweep):
    swept = sweep("hydra/sweeper=optuna", "seed=1")
    assert (swept.code, swept.started) == (2, set())
    assert "Nothing to search" in swept.err


def test_without_the_package_the_message_says_how_to_get_it(sweep, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    swept = sweep(*SEARCH)
    assert (swept.code, swept.started) == (2, set())
    assert 'pip install -e ".[optuna]"' in swept.err
