"""Reports made of invented metrics, and a reader of pages, for the tests of report.html."""

from html.parser import HTMLParser

import numpy as np
import torch

from src.labels import CITYSCAPES
from src.metrics.confusion import scores
from src.report.page import Report

COLORS = [label.color for label in CITYSCAPES.train_labels]
HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>\x00\u202e\udcff"
PIXEL = "data:image/png;base64,iVBORw0KGgo="


def metrics(names=CITYSCAPES.class_names, seed=0, **more):
    """As in metrics.json; most pixels are right."""
    number = len(names)
    matrix = np.random.default_rng(seed).integers(1, 1000, (number, number)) + 20_000 * np.eye(
        number, dtype=int
    )
    about = {"num_images": 500, "epoch": 7, "split": "val", "precision": "32-true", "data": "cityscapes"}
    return scores(torch.from_numpy(matrix), names) | about | more


def report(**values):
    given = {
        "name": "a run",
        "task": "eval",
        "metrics": metrics(),
        "data": {"name": "cityscapes"},
        "colors": COLORS,
    }
    return Report(**(given | values))


def rows(number=30):
    return [
        {
            "epoch": str(i // 10),
            "step": str(i),
            "train/loss_step": f"{3 - i / 20}",
            "lr-Adam": f"{1e-3 / (i + 1)}",
        }
        | ({"val/mIoU": f"{i / 100}", "val/loss": "1.5"} if i % 10 == 9 else {})
        for i in range(number)
    ]


def entry(name="berlin", **values):
    pictures = dict.fromkeys(("image", "truth", "prediction", "errors"), PIXEL)
    return {"name": name, "mIoU": 0.5, "wrong": 0.1, "confused": ["road", "car"]} | pictures | values


class Page(HTMLParser):
    """Elements with their attributes, the text outside of style and script, and headings."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self.headings, self._open = [], "", [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if not {"style", "script"} & set(self._open):
            self.text += data
        if self._open and self._open[-1] == "h2":
            self.headings.append(data)

    def of(self, tag, **wanted):
        return [a for t, a in self.elements if t == tag and wanted.items() <= a.items()]
