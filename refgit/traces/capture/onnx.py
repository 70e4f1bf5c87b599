"""Run an ONNX graph with every value an output, and write down what refgit would call each.

`capture_graph` finds out which value is which. onnx and onnxruntime, the extra `onnx`, are imported
when they are needed and not before.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refgit.errors import TraceError
from refgit.traces.capture.call import assembled, tokens_last
from refgit.traces.capture.graph import Graph
from refgit.traces.container import FORMAT, Tensor, Trace
from refgit.traces.names import TensorName, is_wanted

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(bool)": "bool",
}


def capture_onnx(
    path: str | Path,
    inputs: Mapping[str, Any],
    select: Sequence[str] | None = None,
    *,
    prefix: str = "",
) -> Trace:
    """Run an ONNX file on the CPU and keep every intermediate.

    Parameters
    ----------
    path : str or path
        The .onnx file; weights beside it are found.
    inputs : mapping of str to array
        What the graph reads, by the names that it has there: ``pixel_values``, ``input_ids``.
        Numbers are cast to the types of the graph.
    select : sequence of str, optional
        Patterns of what to keep, see `Trace.select`; nothing else is kept in memory.
    prefix : str
        Put before every name: "step.1." for a graph that does a decode step, of whose text the
        last token is kept. Traces of two graphs join as ``Trace({**encoder, **decoder})``.

    Returns
    -------
    Trace
        In the order of the nodes, floating point only. Values that have a name in refgit are
        called so, the others as in the file: `refgit compare` matches those by shape and order.

    Raises
    ------
    ImportError
        onnx or onnxruntime is not installed.
    TraceError
        The file is missing, is not an ONNX graph or cannot be run; or the inputs are not those of
        the graph.

    Notes
    -----
    onnxruntime's optimisations are off, so that the nodes of the file are those that run.
    """
    onnx, runtime = _import("onnx"), _import("onnxruntime")
    path = Path(path)
    proto = _read(onnx, path)
    graph = Graph(onnx, proto)
    kept = {
        value: known
        for value in graph.floats
        if (known := [n for n in graph.names.get(value, [value]) if is_wanted(prefix + n, select)])
    }
    for value in kept:
        if value not in graph.results:
            proto.graph.output.append(onnx.ValueInfoProto(name=value))
    arrays, given = _run(runtime, proto, path, inputs, list(kept))
    is_step = TensorName.parse(prefix).step is not None
    found: dict[str, list[Tensor]] = {f"input.{name}": [x] for name, x in given.items()}
    for value, x in arrays.items():
        for name in kept[value] if x.dtype.kind == "f" else ():
            found.setdefault(name, []).append(tokens_last(name, x))
    is_git = graph.modules.is_git
    joined = assembled(found, is_git=is_git, new_tokens=1 if is_step else None)
    return Trace({prefix + name: x for name, x in joined.items()}, meta=_meta(proto, path, joined))


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"capture_onnx needs onnx and onnxruntime, and {name} is not installed: "
            "pip install onnx onnxruntime."
        ) from error


def _read(onnx: Any, path: Path) -> Any:
    if not path.is_file():
        raise TraceError(f"{path} is not there; expected an .onnx file.")
    try:
        proto = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # of google.protobuf, which is not a dependency
        raise TraceError(f"{path} is not an ONNX file: {error}.") from error
    if not proto.graph.node:
        raise TraceError(f"{path} holds no graph; expected an .onnx file.")
    return proto


def _run(
    runtime: Any, proto: Any, path: Path, inputs: Mapping[str, Any], values: list[str]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the values that a graph computes, and its inputs as it read them."""
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3  # errors
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(path.resolve().parent)
    )
    try:
        session = runtime.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime has many kinds, none of them public
        raise TraceError(f"onnxruntime cannot load {path}: {error}.") from error
    given = _given(session, path, inputs)
    try:
        arrays = session.run(values, given)
    except Exception as error:
        raise TraceError(f"onnxruntime cannot run {path}: {error}.") from error
    return {v: np.asarray(x) for v, x in zip(values, arrays, strict=True)}, given


def _given(session: Any, path: Path, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the inputs in the types of the graph."""
    expected = {x.name: x.type for x in session.get_inputs()}
    if set(expected) != set(inputs):
        raise TraceError(
            f"{path} reads {', '.join(sorted(expected)) or 'nothing'}; inputs has "
            f"{', '.join(sorted(inputs)) or 'nothing'}. Give each by the graph's name for it."
        )
    found = {}
    for name, kind in expected.items():
        x = np.asarray(inputs[name])
        dtype = np.dtype(_DTYPES.get(kind, x.dtype))
        if (x.dtype.kind == "f") != (dtype.kind == "f"):
            raise TraceError(f"inputs[{name!r}] is of dtype {x.dtype}; {path} reads {dtype}.")
        found[name] = np.ascontiguousarray(x.astype(dtype))
    return found


def _meta(proto: Any, path: Path, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), "?")
    floats = [str(x.dtype) for name, x in tensors.items() if not name.startswith("input.")]
    ids = tensors.get("input.input_ids")
    maker = f"{proto.producer_name} {proto.producer_version}".strip() or "unknown"
    return {
        "format": FORMAT,
        "producer": f"onnx opset {opset} by {maker}",
        "dtype": max(set(floats), key=floats.count) if floats else "float32",
        "model": str(path),
        "calls": "0",
        "prompt_length": str(ids.shape[1] if ids is not None and ids.ndim > 1 else 0),
    }
