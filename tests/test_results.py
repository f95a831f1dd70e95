"""`python -m scripts.results`: a table that tells apart what a sweep varied."""

import pytest
from front_doors import TINY

from scripts.results import main, rows


@pytest.mark.slow
def test_runs_are_listed_best_first_with_what_they_varied(module_doors, monkeypatch, capsys):
    runs = [
        module_doors("train", *TINY, "trainer.max_epochs=1", f"seed={seed}", name=f"s{seed}")
        for seed in (1, 2)
    ]
    folder = module_doors.folder / "train"
    table = rows([folder])
    assert [row["mIoU"] for row in table] == sorted((run.metrics["mIoU"] for run in runs), reverse=True)
    assert {row["run"]: "seed=1" in row["overrides"] for row in table} == {
        f"{folder}/s1": True,
        f"{folder}/s2": False,
    }
    monkeypatch.setattr("sys.argv", ["results", str(folder), "--csv"])
    main()
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_no_run_is_said(tmp_path):
    with pytest.raises(SystemExit, match="no finished run"):
        rows([tmp_path])
