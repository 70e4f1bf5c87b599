"""The files that traces are in: safetensors, .npz, directories of .npy files."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refgit.errors import TraceError
from refgit.testing import CONFIG, pixels, tiny_model, tokens
from refgit.traces.container import Trace
from refgit.traces.recorder import record


def recorded(**options: Any) -> Trace:
    return record(tiny_model(), pixels(2), tokens(2), **options)


NAMES = st.text(st.characters(categories=["L", "N"], include_characters="._/"), min_size=1)
ARRAYS = hnp.arrays(
    st.sampled_from([np.float16, np.float32, np.float64, np.int32, np.int64, np.uint8, np.bool_]),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)


@given(tensors=st.dictionaries(NAMES, ARRAYS, min_size=1, max_size=5), data=st.data())
def test_a_trace_comes_back_from_its_file_in_its_order(
    tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, Any], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(sorted(tensors)))
    path = tmp_path_factory.mktemp("trace") / "t.safetensors"
    Trace(tensors, order=order, meta={"producer": "a test"}).save(path)
    found = Trace.load(path)
    assert found.order == list(order)
    assert found.order_known
    assert found.meta["producer"] == "a test"
    for name, x in tensors.items():
        assert found[name].dtype == x.dtype
        np.testing.assert_array_equal(found[name], x)


def test_a_recorded_trace_comes_back_whole(tmp_path: Path) -> None:
    whole = recorded(tokens=1)
    whole.save(tmp_path / "t.safetensors")
    found = Trace.load(tmp_path / "t.safetensors")
    assert found.order == whole.order
    assert found.config == CONFIG
    assert found.meta["producer"].startswith("refgit ")
    assert found.meta["format"] == "refgit-trace/1"
    assert list(found.inputs) == list(whole.inputs)
    assert "tensors" in repr(found)


def test_a_file_may_be_read_by_whoever_the_umask_says(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        recorded(select=["output"]).save(tmp_path / "t.safetensors")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "t.safetensors").stat().st_mode) == 0o644
    assert [file.name for file in tmp_path.iterdir()] == ["t.safetensors"]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"written as \.safetensors; found t\.npz"):
        recorded(select=["output"]).save(tmp_path / "t.npz")
    with pytest.raises(TraceError, match=r"no/t\.safetensors cannot be written"):
        recorded(select=["output"]).save(tmp_path / "no" / "t.safetensors")


def three() -> dict[str, np.ndarray]:
    return {name: np.full((2, 2), i, np.float32) for i, name in enumerate(("b.10", "b.9", "a"))}


def test_an_npz_file_keeps_the_order_it_was_written_in(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", **three())
    found = Trace.load(tmp_path / "t.npz")
    assert (found.order, found.order_known) == (["b.10", "b.9", "a"], True)


def test_an_npz_file_may_say_its_order_and_metadata(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", **three(), order=["a", "b.9", "b.10"], producer="rust")
    found = Trace.load(tmp_path / "t.npz")
    assert found.order == ["a", "b.9", "b.10"]
    assert found.meta == {"producer": "rust"}
    np.savez(tmp_path / "u.npz", **three(), order=np.arange(3.0))  # a tensor of that name
    assert Trace.load(tmp_path / "u.npz").order == ["b.10", "b.9", "a", "order"]


def in_directory(path: Path) -> Path:
    for name, x in three().items():
        np.save(path / f"{name}.npy", x)
    return path


def test_a_directory_without_order_is_sorted_with_numbers_counted(tmp_path: Path) -> None:
    found = Trace.load(in_directory(tmp_path))
    assert (found.order, found.order_known) == (["a", "b.9", "b.10"], False)
    assert found["b.10"].shape == (2, 2)


@pytest.mark.parametrize(
    ("file", "text"), [("order.json", '["b.9", "a", "b.10"]'), ("names.txt", "b.9\n\na\nb.10\n")]
)
def test_a_directory_may_say_its_order(tmp_path: Path, file: str, text: str) -> None:
    (in_directory(tmp_path) / file).write_text(text)
    (tmp_path / "metadata.json").write_text('{"producer": "mlx", "config": {"a": 1}}')
    found = Trace.load(tmp_path)
    assert (found.order, found.order_known) == (["b.9", "a", "b.10"], True)
    assert found.meta == {"producer": "mlx", "config": '{"a": 1}'}


def test_files_in_folders_are_named_by_their_path(tmp_path: Path) -> None:
    (tmp_path / "encoder").mkdir()
    np.save(tmp_path / "encoder" / "layer.0.npy", np.zeros(3))
    assert Trace.load(tmp_path).order == ["encoder/layer.0"]


def test_an_order_that_leaves_tensors_out_is_completed_and_not_trusted(tmp_path: Path) -> None:
    (in_directory(tmp_path) / "names.txt").write_text("b.10\n")
    found = Trace.load(tmp_path)
    assert (found.order, found.order_known) == (["b.10", "a", "b.9"], False)


def test_bfloat16_is_read_as_float32_and_remembered(tmp_path: Path) -> None:
    header = json.dumps({"x": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    header += b" " * (-len(header) % 8)
    bits = np.array([1.0, -2.5], np.float32).view(np.uint16)[1::2]
    (tmp_path / "t.safetensors").write_bytes(
        len(header).to_bytes(8, "little") + header + bits.tobytes()
    )
    found = Trace.load(tmp_path / "t.safetensors")
    np.testing.assert_array_equal(found["x"], np.array([1.0, -2.5], np.float32))
    assert found.dtype_of("x") == "bfloat16"
    assert not found.order_known


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def npy_as(path: Path, x: Any) -> Path:
    with path.open("wb") as file:
        np.save(file, x)
    return path


def npz_of(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


BROKEN: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda d: d / "no.safetensors", "does not exist; expected a .safetensors or .npz"),
    "empty directory": (lambda d: d, "directory without .npy files"),
    "no safetensors": (lambda d: written(d / "t.safetensors", b"x"), "not a complete safetensors"),
    "no npz": (lambda d: written(d / "t.npz", b"PK\3\4 not"), "not a complete .npz file"),
    "empty npz": (lambda d: written(d / "t.npz", b""), "not a complete .npz file"),
    "a lone array": (lambda d: npy_as(d / "t.npz", np.zeros(2)), "it is a single .npy array"),
    "objects": (lambda d: npz_of(d / "t.npz", a=np.array([{}, 1])), "file of plain numbers"),
    "words": (lambda d: npz_of(d / "t.npz", a=np.array(["x"])), "tensor a is of dtype <U1"),
    "complex": (lambda d: npz_of(d / "t.npz", a=np.array([1j])), "tensor a is of dtype complex128"),
    "unknown order": (
        lambda d: npz_of(d / "t.npz", a=np.zeros(2), order=["a", "c"]),
        "the order names 'c', which is not one of its 1 tensors",
    ),
    "no npy": (lambda d: written(d / "a.npy", b"x").parent, "a.npy is not a complete .npy file"),
    "no list": (
        lambda d: written(in_directory(d) / "order.json", b'{"a": 1}').parent,
        "not a JSON list of names",
    ),
    "no JSON": (lambda d: written(in_directory(d) / "order.json", b"[").parent, "not valid JSON"),
    "no text": (
        lambda d: written(in_directory(d) / "names.txt", b"\xff").parent,
        "names.txt cannot be read",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_that_is_no_trace_is_named_with_the_reason(tmp_path: Path, kind: str) -> None:
    make, reason = BROKEN[kind]
    with pytest.raises(TraceError, match=reason.replace(".", r"\.")) as error:
        Trace.load(make(tmp_path))
    assert str(tmp_path) in str(error.value)


def test_a_truncated_trace_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    recorded(select=["output"]).save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(TraceError, match="cut short"):
        Trace.load(path)
