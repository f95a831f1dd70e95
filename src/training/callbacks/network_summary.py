"""The table of the network's parts at the start of a training."""

from typing import Any

from pytorch_lightning.callbacks import ModelSummary
from pytorch_lightning.utilities.model_summary.model_summary import get_human_readable_count
from rich import box, get_console
from rich.table import Table


class NetworkSummary(ModelSummary):
    """Lightning's ModelSummary as a table with one line per part, within 80 columns."""

    @staticmethod
    def summarize(
        summary_data: list[tuple[str, list[str]]],
        total_parameters: int,
        trainable_parameters: int,
        model_size: float,
        total_training_modes: dict[str, int],
        total_flops: int,
        **summarize_kwargs: Any,
    ) -> None:
        columns = dict(summary_data)
        outputs = columns.get("Out sizes", [""] * len(columns["Name"]))
        flops = get_human_readable_count(total_flops).strip()
        counts = f"{total_parameters:,} parameters, {flops} FLOPs for a crop"
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=counts, caption_justify="left")
        for title in ("part", "type"):
            table.add_column(title, no_wrap=True)
        for title in ("parameters", "FLOPs", "output"):
            table.add_column(title, justify="right", no_wrap=True)
        for name, *metrics, size in zip(
            *(columns[key] for key in ("Name", "Type", "Params", "FLOPs")), outputs, strict=True
        ):
            prefix, _, part = name.partition("segmenter.network.")
            if not prefix:  # loss and metrics have no parameters
                shape = str(size).strip("[]").split(", ")[1:]  # without the batch of 1
                table.add_row(part, *metrics, "x".join(shape))
        get_console().print(table)
