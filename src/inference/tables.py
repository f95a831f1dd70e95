"""The classes of a network, for its class maps."""

from src.label_tables import default_color, table_of
from src.labels import Label, LabelTable
from src.weights.recorded_network import DATASETS
from src.weights.trained_network import TrainedNetwork


def table_for(trained: TrainedNetwork) -> LabelTable:
    """The classes of a network; numbers are their names where nobody recorded any."""
    if trained.data is not None:
        return table_of(trained.data)
    if trained.classes is not None and trained.num_classes in DATASETS:
        return DATASETS[trained.num_classes]
    names = numbered(trained.num_classes)
    return LabelTable(
        "unknown",
        tuple(Label(name, i, i, name, False, default_color(i + 1)) for i, name in enumerate(names)),
    )


def numbered(classes: int) -> list[str]:
    """Names of classes that nobody has recorded."""
    return [f"class {number}" for number in range(classes)]
