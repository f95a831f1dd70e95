"""The README's tables of results are those of the committed CSV files."""

import csv
import re

import pytest
from front_doors import REPOSITORY

from scripts.results import table_of_file

README = (REPOSITORY / "README.md").read_text()
TABLES = re.findall(r"<!-- python -m scripts\.results (results/\w+\.csv) -->\n((?:\|.*\n)+)", README)


def test_there_are_tables():
    assert {file for file, _ in TABLES} == {"results/recipes.csv", "results/measured.csv"}


@pytest.mark.parametrize(("file", "table"), TABLES, ids=[file for file, _ in TABLES])
def test_a_table_is_that_of_its_file(file, table):
    assert table == table_of_file(REPOSITORY / file), f"run: python -m scripts.results {file}"


def test_what_the_recipes_reached_was_measured():
    rows = {
        file: list(csv.DictReader((REPOSITORY / "results" / file).open()))
        for file in ("recipes.csv", "measured.csv")
    }
    known = [float(row["mIoU, %"]) for row in rows["measured.csv"]]
    for row in rows["recipes.csv"]:
        said = re.match(r"[\d.]+", row["measured here"])
        assert said or row["measured here"] == "no", row
        assert not said or min(abs(float(said[0]) - value) for value in known) < 0.0501, row


@pytest.mark.parametrize("content", ["a,b\n1\n", 'a,"b\n'])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "x.csv").write_text(content)
    with pytest.raises(SystemExit, match=r"x\.csv: .*CSV file with a heading"):
        table_of_file(tmp_path / "x.csv")
