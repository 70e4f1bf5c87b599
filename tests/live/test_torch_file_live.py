"""Files that torch and transformers 4.56.2 write, read without either: equal bit for bit.

OMP_NUM_THREADS=1 python -m pytest tests/live/test_torch_file_live.py
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.oracle import only, torch, transformers
from refgit import CheckpointError, GitForCausalLM, GitModel, GitVisionModel, testing
from refgit.checkpoint import open_torch, read_torch

only("4")

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore::FutureWarning")]
TWO_FORMATS = pytest.mark.parametrize("form", ["zip", "legacy"])
DTYPES = [
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool",
]  # fmt: skip


def save(content: Any, path: Path, form: str, **options: Any) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=form == "zip", **options)
    return path


def as_numpy(x: Any) -> np.ndarray:
    x = x.detach()
    return (x.float() if x.dtype == torch.bfloat16 else x).numpy()


def assert_same_bits(found: np.ndarray, wanted: np.ndarray) -> None:
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    assert found.tobytes() == wanted.tobytes()


def random(shape: tuple[int, ...], dtype: str) -> Any:
    """Any bits but those of other truths than 0 and 1: infinities and NaNs are among them."""
    count = int(np.prod(shape))
    kind = getattr(torch, dtype)
    size = torch.empty(0, dtype=kind).element_size()
    raw = np.random.default_rng(0).integers(0, 256, count * size, np.uint8)
    if dtype == "bool":
        return torch.from_numpy(raw % 2 == 0).reshape(shape)
    return torch.from_numpy(raw).view(kind).reshape(shape)


@TWO_FORMATS
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_view(dtype: str, protocol: int, form: str, tmp_path: Path) -> None:
    whole = random((6, 5, 4), dtype)
    content = OrderedDict(
        whole=whole,
        transposed=whole.permute(2, 0, 1),
        part=whole[1:4, ::2, 3],
        number=whole[2, 2, 2],
        expanded=whole[:1, :1].expand(3, 2, 4),
        empty=whole[:, :0],
        nothing=torch.empty(0, dtype=whole.dtype),
        other=random((3,), dtype),
    )
    if dtype.startswith(("float", "bfloat")):
        content["parameter"] = torch.nn.Parameter(random((2, 3), dtype))
        content["frozen"] = torch.nn.Parameter(random((2, 3), dtype), requires_grad=False)
    found = open_torch(save(content, tmp_path / "x.bin", form, pickle_protocol=protocol))
    assert list(found) == list(content)
    for name, x in content.items():
        assert_same_bits(found[name], as_numpy(x))
    assert np.shares_memory(found["whole"], found["transposed"])


@TWO_FORMATS
@pytest.mark.parametrize("checksums", [True, False])
def test_the_state_dict_of_a_module(checksums: bool, form: str, tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 2), torch.nn.BatchNorm2d(4))
    wanted = module.state_dict()
    torch.serialization.set_crc32_options(checksums)
    try:
        path = save(wanted, tmp_path / "x.bin", form)
    finally:
        torch.serialization.set_crc32_options(True)
    found = open_torch(path)
    assert list(found) == list(wanted)
    for name, x in wanted.items():
        assert_same_bits(found[name], as_numpy(x))


@TWO_FORMATS
def test_a_training_checkpoint_is_read_whole(form: str, tmp_path: Path) -> None:
    x = torch.arange(3.0)
    content = {"model": {"x": x}, "epoch": 3, "size": x.shape, "best": [0.5, None]}
    path = save(content, tmp_path / "x.bin", form)
    found = read_torch(path)
    assert_same_bits(found["model"].pop("x"), as_numpy(x))
    assert found == {"model": {}, "epoch": 3, "size": (3,), "best": [0.5, None]}
    with pytest.raises(CheckpointError, match="entry 'model' is a dict"):
        open_torch(path)


@TWO_FORMATS
def test_a_whole_module_is_refused_by_name(form: str, tmp_path: Path) -> None:
    path = save(torch.nn.Linear(2, 2), tmp_path / "x.bin", form)
    with pytest.raises(CheckpointError, match=r"torch\.nn\.modules\.linear\.Linear"):
        open_torch(path)
    path = save({"x": torch.zeros(2, dtype=torch.complex64)}, path, form)
    with pytest.raises(CheckpointError, match=r"torch\.ComplexFloatStorage"):
        open_torch(path)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("size", ["20KB", "1GB"])
def test_models_that_transformers_saved(size: str, dtype: str, tmp_path: Path) -> None:
    testing.tiny_model().save_pretrained(tmp_path / "ours")
    theirs = transformers.GitForCausalLM.from_pretrained(
        tmp_path / "ours", torch_dtype=getattr(torch, dtype)
    )
    folder = tmp_path / "theirs"
    theirs.save_pretrained(folder, safe_serialization=False, max_shard_size=size)
    sharded = size == "20KB"
    assert (folder / "pytorch_model.bin").is_file() != sharded
    assert (folder / "pytorch_model.bin.index.json").is_file() == sharded
    assert (len(list(folder.glob("pytorch_model-*.bin"))) > 1) == sharded
    assert not list(folder.glob("*.safetensors"))
    wanted = theirs.state_dict()
    for kind, prefix in (
        (GitForCausalLM, ""),
        (GitModel, "git."),
        (GitVisionModel, "git.image_encoder."),
    ):
        found = kind.from_pretrained(folder, dtype="float32").state_dict()
        for name, x in found.items():
            assert_same_bits(np.asarray(x), as_numpy(wanted[prefix + name].float()))
    model = GitForCausalLM.from_pretrained(folder, dtype="float32")
    inputs = {"input_ids": testing.tokens(), "pixel_values": testing.pixels()}
    with torch.no_grad():
        logits = theirs.float()(**{name: torch.from_numpy(x) for name, x in inputs.items()}).logits
    np.testing.assert_allclose(model(**inputs).logits, logits.numpy(), rtol=1e-4, atol=1e-4)
