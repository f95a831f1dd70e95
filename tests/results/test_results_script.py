"""`python -m scripts.results`, and what a sweep of real trainings writes when it ends."""

import re

import pytest
from front_doors import TINY

from scripts.results import main
from src.results.write import FILES

SHORT = (*TINY, "trainer.max_epochs=3", "optimizer.lr=0.01")


@pytest.mark.slow
def test_a_sweep_ends_with_its_comparison(doors, monkeypatch, capsys):
    swept = doors(
        "train", "-m", *SHORT, "model.residual=global,local", "seed=1,2", name="sweep", own_process=True
    )
    assert swept.code == 0, swept.err
    folder = doors.folder / "train/sweep"
    assert f"Compared in {folder}/comparison.html" in swept.out
    assert {path.name for path in folder.iterdir() if path.is_file()} == {*FILES, ".lock", "multirun.yaml"}
    page = (folder / "comparison.html").read_text()
    assert "Images on which they differ most" in page
    assert page.count("data:image/jpeg") == 4
    monkeypatch.setattr("sys.argv", ["results", str(folder)])
    main()
    assert capsys.readouterr().out == (folder / "results.md").read_text()
    monkeypatch.setattr("sys.argv", ["results", str(folder), "--latency", "3"])
    main()
    with_times = capsys.readouterr().out
    assert "Milliseconds on " in with_times
    assert re.search(r"\| ms an image .*\n\|.*\n.*\| \d+\.\d \|", with_times), with_times
    monkeypatch.setattr("sys.argv", ["results", str(folder / "results.csv")])
    main()
    assert len(capsys.readouterr().out.splitlines()) == 6


def test_no_run_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["results", str(tmp_path)])
    with pytest.raises(SystemExit, match="no finished run"):
        main()
