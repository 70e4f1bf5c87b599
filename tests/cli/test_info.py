"""`refgit info`, and its counts: held against models that exist and runs that are made."""

from __future__ import annotations

import json
import math
import struct
import subprocess
import sys
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.command_line import ROOT, environment
from helpers.torch_files import dense, write
from refgit import GitConfig, GitForCausalLM, testing
from refgit.checkpoint import open_safetensors
from refgit.checkpoint.headers import read_headers, safetensors_header
from refgit.cli import main as cli
from refgit.demo import demo_path
from refgit.errors import CheckpointError
from refgit.sizes import (
    caption_flops,
    caption_memory,
    parameters_by_part,
    read_stored,
)
from refgit.sizes.products import Product, operations

PRUNED = {"pruned_heads": {"0": [1], "2": [0, 3]}}
CONFIGS = {
    "image": testing.CONFIG,
    "video": testing.CONFIG.replace(num_image_with_embedding=3),
    "relative_key": testing.CONFIG.replace(position_embedding_type="relative_key"),
    "relative_key_query": testing.CONFIG.replace(position_embedding_type="relative_key_query"),
    "pruned": testing.CONFIG.replace(extra=PRUNED),
    "tied": testing.CONFIG.replace(tie_word_embeddings=True),
    "one layer": testing.CONFIG.replace(num_hidden_layers=1),
    "all at once": testing.CONFIG.replace(
        num_image_with_embedding=2,
        position_embedding_type="relative_key_query",
        extra=PRUNED,
        tie_word_embeddings=True,
    ),
}
Run = Callable[..., tuple[int, str, list[str]]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run_it(*arguments: object) -> tuple[int, str, list[str]]:
        code = cli.main(["info", *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, err.split("\n")[:-1]

    return run_it


def found(run: Run, *arguments: object) -> dict[str, Any]:
    code, out, err = run(*arguments, "--json")
    assert (code, err) == (0, [])
    entries: dict[str, Any] = json.loads(out)
    return entries


def pixels(config: GitConfig) -> np.ndarray:
    frames = config.num_image_with_embedding
    shape = (1, 3, 8, 8) if frames is None else (1, frames, 3, 8, 8)
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


# ---- parameters


@pytest.mark.parametrize("kind", CONFIGS)
def test_parts_add_up_to_the_parameters_of_the_model(kind: str) -> None:
    config = CONFIGS[kind]
    model = GitForCausalLM(config)
    arrays = {id(x): x for x in model.state_dict().values()}  # a tied one once
    parts = parameters_by_part(config)
    assert sum(part.parameters for part in parts) == sum(x.size for x in arrays.values())
    assert sum(part.tensors for part in parts) == len(arrays)
    assert all(part.tensors > 0 for part in parts)
    assert caption_memory(config).weights == sum(x.nbytes for x in arrays.values())


def test_parts_of_git_base_are_what_its_size_leads_one_to_expect() -> None:
    parts = parameters_by_part(GitConfig())
    assert sum(p.parameters for p in parts) == 176_619_066
    layers = next(p for p in parts if p.name == "image encoder: layers")
    assert layers.parameters == 12 * (4 * (768 * 768 + 768) + 2 * 768 * 3072 + 3072 + 5 * 768)


def test_a_tied_matrix_is_counted_once_and_said_to_be(run: Run, tmp_path: Path) -> None:
    GitForCausalLM(CONFIGS["tied"]).save_pretrained(tmp_path / "tied")
    GitForCausalLM(CONFIGS["image"]).save_pretrained(tmp_path / "not")
    tied, untied = (found(run, tmp_path / name) for name in ("tied", "not"))
    words = testing.CONFIG.vocab_size * testing.CONFIG.hidden_size
    assert untied["parameters"]["total"] - tied["parameters"]["total"] == words
    assert tied["parameters"]["tied"] is True
    assert "tied to the word embedding" in run(tmp_path / "tied")[1]
    assert "tied to the word embedding" not in run(tmp_path / "not")[1]


# ---- operations


class Counter:
    """Counts the operations of every product of matrices that a model computes."""

    def __init__(self) -> None:
        self.count = 0

    def matmul(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        out = np.dot(a, b) if a.ndim == b.ndim == 2 else np.einsum("...ij,...jk->...ik", a, b)
        self.count += 2 * out.size * a.shape[-1]
        return out

    @contextmanager
    def part(self, counts: list[int]) -> Iterator[None]:
        before = self.count
        yield
        counts.append(self.count - before)


@pytest.mark.parametrize("kind", CONFIGS)
def test_operations_are_those_of_a_run(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The definitions know one product alone, `matmul` of the namespace; so it counts them all."""
    config, counter, tokens = CONFIGS[kind], Counter(), 5
    model = GitForCausalLM(config, kernels="off")
    monkeypatch.setattr(np, "matmul", counter.matmul)
    image: list[int] = []
    steps: list[int] = []
    with counter.part(image):
        cache = model.encode_image(pixels(config))
    for t in range(tokens):
        with counter.part(steps):
            cache = model([[3 + t]], past_key_values=cache, use_cache=True).past_key_values
    flops = caption_flops(config, tokens)
    assert flops.image == image[0]
    assert list(flops.text_steps) == steps
    assert flops.total == counter.count


@pytest.mark.parametrize("kind", ["image", "video", "pruned"])
def test_operations_of_each_part_are_those_of_its_linear_maps(kind: str) -> None:
    """A counting `linear` sees where in the model it is called; attention is added by hand."""
    config = CONFIGS[kind]
    model = GitForCausalLM(config, kernels="off")
    counts: dict[str, int] = {}

    def count(name: str, array: np.ndarray) -> None:
        part = "vision" if "vision_model" in name else "decoder" if ".encoder." in name else "other"
        shape = linear_inputs(name, model)
        if shape is not None:
            counts[part] = counts.get(part, 0) + 2 * array.size * shape
        if name.endswith(".scores"):  # queries with keys; as much again for the averages
            width = heads_width(name, config)
            counts[part] = counts.get(part, 0) + 2 * 2 * array.size * width

    model.operations = model.operations.with_hook(count)
    model.encode_image(pixels(config))
    flops = caption_flops(config, 0)
    assert counts == {
        "vision": flops.vision_encoder,
        "decoder": flops.decoder_image,
        "other": flops.visual_projection,
    }


def linear_inputs(name: str, model: GitForCausalLM) -> int | None:
    """How many inputs a linear map has whose output is hooked under this name."""
    weight = model.state_dict().get(f"{name}.weight")
    return None if weight is None or weight.ndim == 1 else math.prod(weight.shape[1:])


def heads_width(name: str, config: GitConfig) -> int:
    inner: Any = config.vision_config if "vision_model" in name else config
    return int(inner.hidden_size // inner.num_attention_heads)


def test_a_linear_map_is_two_operations_a_multiply_add() -> None:
    assert operations([Product(3, 5, 7)]) == 2 * 3 * 5 * 7


@given(st.integers(0, 20), st.integers(0, 20))
def test_captions_cost_more_the_longer_they_are(a: int, b: int) -> None:
    few, many = (caption_flops(testing.CONFIG, n) for n in sorted((a, b)))
    assert few.image == many.image
    assert few.total <= many.total
    assert many.text_steps[: len(few.text_steps)] == few.text_steps


def test_a_negative_number_of_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="tokens is -1; expected 0 or more"):
        caption_flops(testing.CONFIG, -1)


def test_git_base_takes_what_its_size_leads_one_to_expect() -> None:
    """A ViT-B/16 at 224 pixels is known to take 17.6 thousand million multiply-adds."""
    flops = caption_flops(GitConfig(), 20)
    assert flops.vision_encoder / 2 == pytest.approx(17.6e9, rel=0.01)


# ---- memory


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("kind", CONFIGS)
def test_the_cache_takes_what_a_run_keeps(kind: str, dtype: str) -> None:
    config = CONFIGS[kind]
    model = GitForCausalLM(config, dtype=dtype)
    cache = model.encode_image(pixels(config))
    memory = caption_memory(config, dtype)
    assert cache.nbytes == memory.cache_image
    cache = model([[3]], past_key_values=cache, use_cache=True).past_key_values
    assert cache.nbytes == memory.cache_image + memory.cache_text_token


@pytest.mark.slow
@pytest.mark.parametrize("frames", [None, 2])
def test_activations_are_of_the_order_of_the_estimate(frames: int | None) -> None:
    config = GitConfig(
        vision_config={
            "hidden_size": 96, "intermediate_size": 384, "num_hidden_layers": 2,
            "num_attention_heads": 4, "image_size": 112, "patch_size": 8,
        },
        vocab_size=100, hidden_size=96, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=384, bos_token_id=1, eos_token_id=2, max_position_embeddings=32,
        num_image_with_embedding=frames,
    )  # fmt: skip
    shape = (1, 3, 112, 112) if frames is None else (1, frames, 3, 112, 112)
    x = np.zeros(shape, np.float32)
    peaks = {}
    for kernels in ("off", "auto"):
        model = GitForCausalLM(config, kernels=kernels)
        model.encode_image(x)  # what is imported and set up once is not counted
        tracemalloc.start()
        try:
            model.encode_image(x)
            peaks[kernels] = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    estimate = caption_memory(config).activations
    assert estimate < peaks["off"] < 5 * estimate
    assert estimate / 10 < peaks["auto"] < 2 * estimate


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(ValueError, match="dtype is 'int8'; expected one of float64"):
        caption_memory(testing.CONFIG, "int8")


# ---- files


def bfloat16_file(path: Path, config: GitConfig) -> None:
    """A file of weights in bfloat16, which NumPy's writer does not know."""
    header, at = {}, 0
    for name, shape in GitForCausalLM.shapes(config).items():
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(at))


def test_headers_are_what_the_readers_find() -> None:
    path = demo_path() / "model.safetensors"
    headers = safetensors_header(path)
    arrays = open_safetensors(path)
    assert {k: (h.shape, h.nbytes) for k, h in headers.items()} == {
        k: (x.shape, x.nbytes) for k, x in arrays.items()
    }


def test_weights_on_disk_are_those_of_the_files(run: Run, tmp_path: Path) -> None:
    model = GitForCausalLM(testing.CONFIG)
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert found(run, tmp_path)["weights"] is None
    bfloat16_file(tmp_path / "model.safetensors", testing.CONFIG)
    entries = found(run, tmp_path)
    total = entries["parameters"]["total"]
    assert entries["weights"] == {
        "files": ["model.safetensors"],
        "file_bytes": (tmp_path / "model.safetensors").stat().st_size,
        "by_dtype": {"BF16": {"numbers": total, "bytes": 2 * total}},
        "difference": None,
    }


def test_a_video_model_has_its_weights_in_several_files(run: Run, tmp_path: Path) -> None:
    GitForCausalLM(CONFIGS["video"]).save_pretrained(tmp_path)
    entries = found(run, tmp_path)
    assert len(entries["weights"]["files"]) == 2
    assert entries["weights"]["difference"] is None
    numbers = sum(x["numbers"] for x in entries["weights"]["by_dtype"].values())
    assert numbers == entries["parameters"]["total"]
    assert entries["architecture"]["image_encoder"]["frames"] == 3
    assert entries["architecture"]["image_encoder"]["image_tokens"] == 15


def test_what_config_and_files_disagree_about_is_said(run: Run, tmp_path: Path) -> None:
    GitForCausalLM(testing.CONFIG).save_pretrained(tmp_path)
    other = testing.CONFIG.replace(hidden_size=20)
    other.save_pretrained(tmp_path)
    assert "has shape (" in found(run, tmp_path)["weights"]["difference"]
    assert "disagree" in run(tmp_path)[1]
    testing.CONFIG.replace(num_hidden_layers=4).save_pretrained(tmp_path)
    assert "lack git.encoder.layer.3" in found(run, tmp_path)["weights"]["difference"]
    testing.CONFIG.replace(num_hidden_layers=2).save_pretrained(tmp_path)
    assert "hold git.encoder.layer.2" in found(run, tmp_path)["weights"]["difference"]


@pytest.mark.parametrize("content", [b"", b"\x08\0\0\0\0\0\0\0nonsense", b"\xff" * 20, b"{}"])
def test_a_broken_file_of_weights_is_one_line(content: bytes, run: Run, tmp_path: Path) -> None:
    testing.CONFIG.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(content)
    code, out, (line,) = run(tmp_path)
    assert (code, out) == (2, "")
    assert "model.safetensors" in line


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_files_of_torch_are_read_from_their_pickle(form: str, tmp_path: Path) -> None:
    content = OrderedDict(
        {
            "a": dense(np.zeros((2, 3), np.float32)),
            "b": dense(np.zeros((4,), np.int16), kind="BFloat16Storage"),
            "c": dense(np.zeros((), np.float16), parameter=True),
        }
    )
    write(tmp_path / "pytorch_model.bin", content, form=form)
    headers, (file,) = read_headers(tmp_path)
    assert file.name == "pytorch_model.bin"
    assert {name: (h.dtype, h.shape, h.nbytes) for name, h in headers.items()} == {
        "a": ("F32", (2, 3), 24),
        "b": ("BF16", (4,), 8),
        "c": ("F16", (), 2),
    }


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02}q\x00.", b"text"])
def test_a_broken_file_of_torch_is_one_line(content: bytes, run: Run, tmp_path: Path) -> None:
    testing.CONFIG.save_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(content)
    code, out, (line,) = run(tmp_path)
    assert (code, out) == (2, "")
    assert "pytorch_model.bin" in line


def test_no_weights_are_read(tmp_path: Path) -> None:
    """A file of 38 GB, nearly all of it a hole."""
    config = testing.CONFIG.replace(vocab_size=3 * 10**8)
    config.save_pretrained(tmp_path)
    header, at = {}, 0
    for name, shape in GitForCausalLM.shapes(config).items():
        size = 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + at)  # a hole, which takes no room on the disk
    stored = read_stored(tmp_path, config)
    assert stored is not None
    assert stored.file_bytes > 3e10
    assert stored.difference == ""


def test_neither_model_nor_numpys_readers_are_imported() -> None:
    code = (
        "import sys; from refgit.cli.main import main; main(['info']); "
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT,
        env=environment(), check=True,
    )  # fmt: skip
    modules = set(done.stderr.split())
    assert not modules & {"refgit.model.git", "safetensors", "tokenizers", "PIL", "rich", "torch"}


# ---- the command


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_config_alone_is_enough(kind: str, run: Run, tmp_path: Path) -> None:
    CONFIGS[kind].save_pretrained(tmp_path)
    code, out, err = run(tmp_path, "--tokens", 4)
    assert (code, err) == (0, [])
    assert "weights on disk: there are none beside config.json" in out
    entries = found(run, tmp_path, "--tokens", 4)
    assert entries["weights"] is None
    assert entries["flops"]["total"] == caption_flops(CONFIGS[kind], 4).total
    assert f"{entries['parameters']['total']:,}" in out
    text = entries["architecture"]["text_decoder"]
    assert text["position_type"] == CONFIGS[kind].position_embedding_type
    assert text["pruned_heads"] == (
        PRUNED["pruned_heads"] if kind in ("pruned", "all at once") else {}
    )


def test_the_bundled_model_is_described_by_default(run: Run) -> None:
    assert run() == run("refgit-emoji")
    entries = found(run)
    model = GitForCausalLM.from_pretrained(demo_path())
    assert entries["model"] == "refgit-emoji"
    assert entries["parameters"]["total"] == model.num_parameters()
    assert sum(p["parameters"] for p in entries["parameters"]["parts"]) == model.num_parameters()
    assert entries["weights"]["by_dtype"]["F16"]["numbers"] == model.num_parameters()


def test_parts_of_the_json_add_up(run: Run) -> None:
    entries = found(run, "--tokens", 9, "--dtype", "float16")
    flops, memory = entries["flops"], entries["memory"]["caption"]
    parts = ("vision_encoder", "visual_projection", "decoder_image_part", "text_steps")
    assert sum(flops[part] for part in parts) == flops["total"]
    assert memory["total"] == (
        memory["weights"] + memory["cache_per_image"] + memory["activations"]
        + 9 * memory["cache_per_text_token"]
    )  # fmt: skip
    assert memory["weights"] == entries["memory"]["weights"]["float16"]


def test_the_text_holds_every_number_of_the_architecture(run: Run) -> None:
    out = run()[1]
    for half in found(run)["architecture"].values():
        for name, value in half.items():
            (line,) = (x for x in out.splitlines() if x.startswith(f"  {name.replace('_', ' ')}  "))
            if isinstance(value, int | str):
                assert str(value) in line


def test_what_cannot_be_described_is_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "bert"}')
    microsoft = tmp_path / "microsoft" / "snapshot"
    microsoft.mkdir(parents=True)
    (microsoft / "model.pt").write_bytes(b"")
    cases = {
        tmp_path / "nowhere": "does not exist",
        tmp_path / "empty": "config.json does not exist",
        other: "'bert'",
        microsoft.parent: "refgit convert",
        microsoft / "model.pt": "refgit convert",
    }
    for path, words in cases.items():
        code, out, (line,) = run(path)
        assert (code, out) == (2, "")
        assert words in line
        assert str(path) in line
    code, out, (line,) = run("--tokens", 65)
    assert (code, out) == (2, "")
    assert "--tokens is 65; this model has positions for 64" in line


def test_a_broken_index_is_a_checkpoint_error(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../b"}}')
    with pytest.raises(CheckpointError, match="weight_map"):
        read_headers(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "b"}}')
    with pytest.raises(CheckpointError, match="b cannot be read: No such file"):
        read_headers(tmp_path)
