"""The notebooks run from top to bottom and find what they say; they are kept without their outputs."""

import nbclient
import nbformat
import pytest
from front_doors import REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))

# By the notebook: the number of its pictures, and what must hold for its variables at its end.
FOUND = {
    "data": (
        6,
        [
            "same and cut",  # the crops are those of the training, and come from the windows that are drawn
            "table.class_names[most] == 'road' and share[most] > 10 * share[least] > 0",
            "weights[least] > 2 * weights[most]",
        ],
    ),
    "network": (
        8,
        [
            "miou > 0.65",
            "abs(results['own weights'] - miou) < 1e-3 and results['all 0.5'] < miou - 0.02",
            "reach['f_loc and f_sur'][0] > 1.5 * reach['f_loc alone'][0]",  # f_sur widens the receptive field
            "found.max() > by_chance",
            "wrong_at[0] / all_at[0] > 4 * wrong_at[5] / all_at[5]",
        ],
    ),
    "results": (
        4,
        [
            "len(runs) == 4 and all(run['status'] == 'finished' for run in runs)",
            "min(run['last']['mIoU'] for run in runs) > 0.1",
            "equal",  # the pixel counts of single images add up to the mIoU of metrics.json
            "abs(together.mean() - mean[0]) < 1 and low < mean[0] < high",
        ],
    ),
    "your_network": (
        2,
        [
            "all(one['mIoU'] > 0.1 for one in metrics.values())",
            "abs(evaluated - metrics['SeparableUNet']['mIoU']) < 1e-6",
        ],
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """For the runs and caches of all notebooks, in place of the user's own."""
    return tmp_path_factory.mktemp("notebooks")


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, folder, monkeypatch):
    monkeypatch.setenv("CGNET_NOTEBOOK_FOLDER", str(folder))
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    pictures, found = FOUND[path.stem]
    notebook = nbformat.read(path, as_version=4)
    notebook.cells += [nbformat.v4.new_code_cell(f"assert {expression}") for expression in found]
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": path.parent}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == pictures


def test_each_notebook_has_its_checks():
    assert {path.stem for path in NOTEBOOKS} == set(FOUND)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_kept_without_outputs(path):
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
