"""An exported network as an ONNX file, for ONNX Runtime and all that reads ONNX."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.export import ExportedProgram

from src.inference.engines.engine import Engine
from src.inference.engines.graph_engine import needs
from src.inference.engines.onnx_engine import OnnxEngine, onnx_model

SUFFIX = ".onnx"
PRECISIONS = ("float32",)
_AXES = ("batch", "channel", "height", "width")


def versions() -> dict[str, str]:
    """Raises UserError without the packages."""
    try:
        import onnx
        import onnxruntime
        import onnxscript
    except ImportError as error:
        raise needs("onnx, onnxscript and onnxruntime", "format=onnx") from error
    return {package.__name__: package.__version__ for package in (onnx, onnxscript, onnxruntime)}


def write(program: ExportedProgram, output: str, path: Path, texts: Mapping[str, str], _: str) -> None:
    """Write the graph, whose result gets the name `output`, with the metadata `texts`."""
    model = onnx_model(program)
    graph = model.graph
    # The exporter's notes on each node are as large as a small network, and name files of this machine.
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del graph.value_info[:]
    for value, name in ((graph.input[0], "image"), (graph.output[0], output)):
        _rename(graph, value.name, name)
        del value.metadata_props[:]
        dims = value.type.tensor_type.shape.dim
        axes = _AXES if len(dims) == len(_AXES) else (_AXES[0], *_AXES[2:])
        for dim, axis in zip(dims, axes, strict=True):
            if not dim.HasField("dim_value"):
                dim.dim_param = axis
    model.producer_name = "cgnet-lightning"
    for kept in (model.metadata_props, graph.metadata_props):
        del kept[:]
    for key, text in texts.items():
        model.metadata_props.add(key=key, value=text)
    path.write_bytes(model.SerializeToString())


def _rename(graph: Any, old: str, new: str) -> None:
    for value in (*graph.input, *graph.output):
        value.name = new if value.name == old else value.name
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]


def read(path: Path) -> dict[str, str]:
    """The metadata. Raises an exception of any type for what is no ONNX file."""
    try:
        import onnxruntime
    except ImportError as error:
        raise needs("onnxruntime", f"checkpoint={path}") from error
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    return dict(session.get_modelmeta().custom_metadata_map)


def engine(path: Path, output: str, precision: str) -> Engine:
    """
    Args:
        output: of the graph. precision: of the arithmetic.
    """
    return OnnxEngine(str(path), output, precision)
