"""Label tables of one's own: labels that share a train id are one class, everywhere."""

from dataclasses import replace

import numpy as np
import pytest
from front_doors import TINY

from src.errors import UserError
from src.evaluation.submission import check_can_submit
from src.labels import CITYSCAPES, IGNORE, LABEL_TABLES, Label, LabelTable
from src.metrics.cityscapes import by_label_id, official_scores
from src.metrics.instances import InstanceCounter


def merged(name: str = "merged", **names: str) -> LabelTable:
    """Cityscapes with trucks among the cars, and what comes after them one id lower."""

    def change(label: Label) -> Label:
        moved = 13 if label.name == "truck" else label.train_id - (14 < label.train_id < IGNORE)
        return replace(label, train_id=moved, name=names.get(label.name, label.name))

    return LabelTable(name, tuple(change(label) for label in CITYSCAPES.labels))


def test_labels_with_one_train_id_are_one_class():
    table = merged()
    assert table.num_classes == len(table.class_names) == len(table.train_labels) == 18
    assert table.class_names[12:15] == ("rider", "car + truck", "bus")
    assert table.colors[13].tolist() == [0, 0, 142]
    assert table.to_label_id[[13, 14]].tolist() == [26, 28]
    assert table.to_train_id[[26, 27, 28]].tolist() == [13, 13, 14]
    assert [label.name for label in table.categories["vehicle"]] == [
        *("car + truck", "bus", "caravan", "trailer", "train", "motorcycle", "bicycle"),
    ]
    assert table.has_categories
    assert table.has_instances


def test_a_class_is_called_what_all_its_labels_are_called():
    assert merged(car="motor", truck="motor").class_names[13] == "motor"


def test_a_class_of_very_many_labels_has_a_short_name():
    rest = [replace(label, train_id=int(label.name == "road")) for label in CITYSCAPES.labels]
    assert LabelTable("binary", tuple(rest)).class_names == ("unlabeled + 32 more", "road")


def test_a_class_in_several_categories_leaves_no_figures_of_categories():
    labels = [
        replace(e, train_id=0) if e.train_id == 1 or e.name == "sky" else replace(e, train_id=IGNORE)
        for e in CITYSCAPES.labels
    ]
    assert not LabelTable("odd", tuple(labels)).has_categories


def _table(*train_ids: int, ids: tuple[int, ...] | None = None, names: str = "abcdef") -> LabelTable:
    numbers = ids or tuple(range(len(train_ids)))
    rows = zip(names, numbers, train_ids, strict=False)
    return LabelTable("mine", tuple(Label(n, i, t, n, False, (0, 0, 0)) for n, i, t in rows))


@pytest.mark.parametrize(
    ("train_ids", "options", "said"),
    [
        ((0, 1, 3), {}, "[0, 1, 3]"),
        ((1, 2), {}, "[1, 2]"),
        ((0, -1), {}, "[-1, 0]"),
        ((IGNORE, IGNORE), {}, "no label is learned"),
        ((0, 1), {"ids": (7, 7)}, "the label id 7 occurs twice"),
        ((0, 1), {"ids": (7, 300)}, "the label id 300"),
        ((0, 1), {"names": "aa"}, "'a' is the name of two classes"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(train_ids, options, said):
    with pytest.raises(UserError) as refused:
        _table(*train_ids, **options)
    assert "'mine'" in refused.value.text
    assert said in refused.value.text


@pytest.mark.parametrize("names", [{}, {"truck": "car"}])
def test_an_instance_is_right_in_any_label_of_its_class(names):
    import torch

    table = merged(**names)
    learned = [label.id for label in table.train_labels]
    instances = torch.tensor([[27001, 27001, 26001, 28001]], dtype=torch.int32)
    prediction = torch.tensor([[13, 14, 13, 13]], dtype=torch.uint8)  # car + truck, bus, ...
    found = InstanceCounter(table, learned)(prediction, instances, 0)
    assert [(i.instance, i.hits, i.category_hits) for i in found] == [
        (26001, 1, 1), (27001, 1, 2), (28001, 0, 1),
    ]  # fmt: skip
    figures = official_scores(by_label_id(np.eye(18, dtype=np.int64), table), found, table)
    assert figures["category_mIoU"] == 1
    if names:  # of one name, which has an average size
        assert 0 < figures["iIoU"]["car"] < 1
    else:
        assert figures["iIoU"]["car + truck"] is None


def test_cityscapes_server_takes_no_merged_classes():
    with pytest.raises(UserError, match="submission=true"):
        check_can_submit(merged("cityscapes"), [])


@pytest.mark.slow
def test_training_and_evaluation_with_merged_classes(doors, monkeypatch):
    monkeypatch.setitem(LABEL_TABLES, "merged", merged())
    quiet = ("callbacks.summary=null", "trainer.max_epochs=1")
    trained = doors("train", *TINY, *quiet, "data.labels=merged")
    assert trained.code == 0, trained.err
    assert len(trained.metrics["IoU"]) == 18
    assert "car + truck" in trained.metrics["IoU"]
    best = trained.directory / "checkpoints/best.ckpt"
    judged = doors("eval", f"checkpoint={best}", "trainer.accelerator=cpu", "pictures=1", name="judged")
    assert judged.code == 0, judged.err
    assert judged.metrics["mIoU"] == trained.metrics["mIoU"]
    assert len(judged.metrics["IoU"]) == 18
    assert judged.metrics["category_mIoU"] is not None
    assert (judged.directory / "report.html").exists()
