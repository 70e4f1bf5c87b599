"""Weights are not duplicated in memory, and each is read once.

Three ways to see it: what NumPy allocates (tracemalloc), which operations take a weight (an array
that counts), and, for a checkpoint of git-base's size, what the kernel says of a fresh process.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections import Counter, OrderedDict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from helpers.torch_files import dense, encode
from refgit import GitConfig, GitForCausalLM, GitVisionConfig, testing
from refgit.model.parameters import nest
from refgit_backends.numpy import linear as numpy_linear

ROOT = Path(__file__).parents[2]
WEIGHTS, TORCH_WEIGHTS = "model.safetensors", "pytorch_model.bin"

# -- what is allocated -----------------------------------------------------------------------------

# Much weight, few tokens: whatever is as large as a matrix is a copy of one.
HEAVY = GitConfig(
    vision_config=GitVisionConfig(
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=8,
        patch_size=4,
    ),
    vocab_size=1000,
    hidden_size=256,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=1024,
    max_position_embeddings=64,
    bos_token_id=1,
    eos_token_id=2,
)


def write_heavy(folder: Path, stored: str) -> int:
    """A checkpoint in the given dtype; returns the bytes of its weights."""
    model = GitForCausalLM(HEAVY)
    model.config.save_pretrained(folder)
    arrays = {name: np.asarray(x) for name, x in model.state_dict().items()}
    if stored == "bfloat16":
        write_bfloat16(folder / WEIGHTS, arrays)
        return 2 * model.num_parameters()
    cast = {name: x.astype(stored) for name, x in arrays.items()}
    safetensors.numpy.save_file(cast, folder / WEIGHTS)
    return sum(x.nbytes for x in cast.values())


def write_bfloat16(path: Path, arrays: dict[str, np.ndarray]) -> None:
    header, data = {}, b""
    for name, x in arrays.items():
        start = len(data)
        data += (x.view("<u4") >> 16).astype("<u2").tobytes()
        header[name] = {"dtype": "BF16", "shape": x.shape, "data_offsets": [start, len(data)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def allocated_by_a_caption(folder: Path, dtype: str) -> int:
    """Largest number of bytes in use on the way from the directory to the last word."""
    pixels = testing.pixels()
    GitForCausalLM(testing.CONFIG, dtype=dtype).generate(pixels)  # imports and caches
    GitForCausalLM.from_pretrained(folder, dtype=dtype)
    tracemalloc.start()
    try:
        GitForCausalLM.from_pretrained(folder, dtype=dtype).generate(pixels, max_length=6)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_a_caption_copies_no_matrix_that_is_stored_in_the_models_dtype(
    dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numpy_linear, "_HALF_BLOCK", 1 << 14)  # smaller than a matrix
    stored = write_heavy(tmp_path, dtype)
    matrix = 1024 * 256 * np.dtype(dtype).itemsize
    assert stored > 10 * matrix
    assert allocated_by_a_caption(tmp_path, dtype) < matrix


@pytest.mark.parametrize(
    ("stored", "dtype"),
    [
        ("float16", "float32"),
        ("float64", "float32"),
        ("float32", "float16"),
        ("float32", "float64"),
        ("bfloat16", "float32"),
    ],
)
def test_converting_takes_the_room_of_the_converted_weights_alone(
    stored: str, dtype: str, tmp_path: Path
) -> None:
    write_heavy(tmp_path, stored)
    converted = GitForCausalLM(HEAVY).num_parameters() * np.dtype(dtype).itemsize
    matrix = 1024 * 256 * 4
    assert converted <= allocated_by_a_caption(tmp_path, dtype) < converted + 2 * matrix


# -- who reads a weight ----------------------------------------------------------------------------


class Counted(np.ndarray):
    """A weight that notes how much of it each operation takes; views of it are it, copies are
    reads, and half of it is half a read.
    """

    name: str | None = None
    tally: Counter[str]
    whole: int  # numbers of the weight

    @classmethod
    def of(cls, x: np.ndarray, name: str, tally: Counter[str], whole: int | None = None) -> Counted:
        counted = x.view(cls)
        counted.name, counted.tally = name, tally
        counted.whole = x.size if whole is None else whole
        return counted

    def __array_finalize__(self, source: Any) -> None:
        if isinstance(source, Counted) and source.name is not None:
            self.name, self.tally, self.whole = source.name, source.tally, source.whole

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        return self._run(lambda: getattr(ufunc, method)(*map(plain, inputs), **options), inputs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        call = function._implementation if hasattr(function, "_implementation") else function
        return self._run(lambda: call(*plain(args), **plain(kwargs)), [args, kwargs])

    def astype(self, *args: Any, **options: Any) -> Any:
        return self._run(lambda: plain(self).astype(*args, **options), [self])

    def copy(self, order: Any = "C") -> Any:
        return self._run(lambda: plain(self).copy(order), [self])

    def _run(self, call: Any, inputs: Any) -> Any:
        """A result that lies in the weight is a view of it; any other has read it."""
        weights = {id(x): x for x in counted_in(inputs)}
        result = call()
        if isinstance(result, np.ndarray):
            for x in weights.values():
                if np.shares_memory(plain(x), result):
                    return Counted.of(result, x.name, x.tally, x.whole)
        for x in {x.name: x for x in weights.values()}.values():
            share = Fraction(min(x.size, x.whole), max(1, x.whole))
            self.tally[x.name] += share  # type: ignore[assignment]
        return result


def plain(x: Any) -> Any:
    if isinstance(x, Counted):
        return x.view(np.ndarray)
    if isinstance(x, list | tuple):
        return type(x)(map(plain, x))
    return {k: plain(v) for k, v in x.items()} if isinstance(x, dict) else x


def counted_in(x: Any) -> list[Counted]:
    if isinstance(x, Counted):
        return [x]
    if isinstance(x, dict):
        x = list(x.values())
    return [y for item in x for y in counted_in(item)] if isinstance(x, list | tuple) else []


def counting(model: GitForCausalLM) -> Counter[str]:
    """Put counting arrays in the place of the model's weights."""
    tally: Counter[str] = Counter()
    one: dict[int, Counted] = {}
    state = model.state_dict()
    for name, x in state.items():
        one.setdefault(id(x), Counted.of(np.asarray(x), name, tally))
    model.parameters = nest({name: one[id(x)] for name, x in state.items()})
    return tally


def once(model: GitForCausalLM) -> Counter[str]:
    return Counter(dict.fromkeys(model.state_dict(), 1))


def test_the_counting_array_counts() -> None:
    """The tests below rest on it: views cost nothing, whatever reads the numbers counts."""
    tally: Counter[str] = Counter()
    x = Counted.of(np.ones((4, 4)), "x", tally)
    views = [
        x.T,
        x[1:],
        np.reshape(x, (2, 8)),
        np.matrix_transpose(x),
        np.broadcast_to(x, (2, 4, 4)),
    ]
    assert all(isinstance(view, Counted) for view in views)
    assert tally == Counter()
    reads = [
        lambda y: np.ones((2, 4)) @ y,
        lambda y: y + 1,
        lambda y: np.take(y, [0], axis=0),
        lambda y: np.concat([y, np.ones((4, 4))]),
        lambda y: y.astype(np.float32),
        lambda y: y.copy(),
        np.sum,
    ]
    for i, read in enumerate(reads, 1):
        result = read(x.T)
        assert tally["x"] == i
        assert not isinstance(result, Counted)
    for piece in (x[:1], x[1:].T):
        np.sum(piece)
    assert tally["x"] == len(reads) + 1


@pytest.mark.parametrize("kernels", ["auto", "off"])
@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("frames", [None, 2])
def test_a_forward_pass_reads_each_weight_once(
    kernels: str, use_cache: bool, frames: int | None
) -> None:
    config = testing.CONFIG.replace(num_image_with_embedding=frames)
    model = testing.tiny_model(config=config, kernels=kernels)
    pixels = testing.pixels()
    if frames:
        pixels = np.stack([pixels] * frames, axis=1)
    expected = model(testing.tokens(), pixel_values=pixels).logits
    tally = counting(model)
    logits = model(testing.tokens(), pixel_values=pixels, use_cache=use_cache).logits
    np.testing.assert_array_equal(logits, expected)
    assert tally == once(model)


def test_a_tied_matrix_is_read_for_the_words_and_for_the_head() -> None:
    model = testing.tiny_model(config=testing.CONFIG.replace(tie_word_embeddings=True))
    tally = counting(model)
    model(testing.tokens(), pixel_values=testing.pixels())
    words = "git.embeddings.word_embeddings.weight"
    assert tally == once(model) + Counter({words: 1}) - Counter({"output.weight": 1})


def decoder_layers(model: GitForCausalLM) -> Counter[str]:
    names = [name for name in model.state_dict() if name.startswith("git.encoder.layer.")]
    return Counter(dict.fromkeys(names, 1))


def test_the_first_word_reads_the_decoder_for_the_image_and_for_the_word() -> None:
    """And all else once. Of the last layer the image needs only the keys and values."""
    model = testing.tiny_model()
    last = f"git.encoder.layer.{model.config.num_hidden_layers - 1}."
    image = decoder_layers(model)
    for name in list(image):
        if name.startswith(last) and not any(part in name for part in (".self.key", ".self.value")):
            del image[name]
    tally = counting(model)
    model.generate(testing.pixels(), max_new_tokens=1)
    assert tally == once(model) + image


def test_a_further_word_reads_no_weight_of_the_image_side() -> None:
    config = testing.CONFIG.replace(eos_token_id=None)
    tallies = []
    for words in (1, 4):
        model = testing.tiny_model(config=config)
        tallies.append(counting(model))
        model.generate(testing.pixels(), max_new_tokens=words)
    further = tallies[1] - tallies[0]
    sides = ("git.embeddings.", "git.encoder.", "output.")
    assert further == {name: 3 for name in model.state_dict() if name.startswith(sides)}


# -- what the kernel says --------------------------------------------------------------------------

# A fresh process: from the directory to a caption. The peak is the kernel's VmHWM; getrusage's
# ru_maxrss is the same number, but a child starts with its parent's.
CAPTION = """
import json, os, sys
import numpy as np
from refgit import GitForCausalLM

folder, file, dtype = sys.argv[1:]
with open(file, "rb") as f:  # out of the page cache, so that reading it is seen
    os.fsync(f.fileno())
    os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

def numbers(path):
    words = (line.split() for line in open(path))
    return {w[0].rstrip(":"): int(w[1]) for w in words if len(w) > 1 and w[1].isdigit()}

before, bare = numbers("/proc/self/io"), numbers("/proc/self/status")["VmHWM"]
model = GitForCausalLM.from_pretrained(folder, dtype=dtype)
loaded = numbers("/proc/self/status")["VmHWM"]
pixels = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
ids = model.generate(pixels, max_length=8)
after = numbers("/proc/self/io")
print(json.dumps({
    "words": ids.shape[1],
    "bare": bare * 1024,
    "loaded": loaded * 1024,
    "peak": numbers("/proc/self/status")["VmHWM"] * 1024,
    "by_calls": after["rchar"] - before["rchar"],
    "from_disk": after["read_bytes"] - before["read_bytes"],
}))
"""
linux = pytest.mark.skipif(
    not Path("/proc/self/io").exists(), reason="peaks and reads are taken from Linux's /proc"
)


def caption(folder: Path, file: str, dtype: str = "float32") -> dict[str, int]:
    """What a fresh process needs for one caption."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "backends")])
    done = subprocess.run(
        [sys.executable, "-c", CAPTION, str(folder), str(folder / file), dtype],
        env={**os.environ, "PYTHONPATH": path, "REFGIT_BACKEND": "numpy"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    numbers: dict[str, int] = json.loads(done.stdout)
    size = (folder / file).stat().st_size
    print(f"\n{file}, computed in {dtype}: {size / 2**20:.0f} MiB, peak "
          f"{numbers['peak'] / 2**20:.0f} MiB, {numbers['peak'] / size:.2f} of the file; "
          f"{numbers['from_disk'] / size:.2f} of it read from disk")  # fmt: skip
    return numbers


@pytest.fixture(scope="module")
def git_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float32 checkpoint of git-base's size, 707 MB."""
    folder = tmp_path_factory.mktemp("git-base")
    GitForCausalLM(GitConfig()).save_pretrained(folder)
    return folder


@linux
@pytest.mark.slow
def test_a_caption_takes_at_most_a_seventh_more_memory_than_the_file(git_base: Path) -> None:
    size = (git_base / WEIGHTS).stat().st_size
    assert size > 700e6
    found = caption(git_base, WEIGHTS)
    assert found["words"] == 8
    assert found["peak"] <= 1.15 * size


@linux
@pytest.mark.slow
def test_loading_reads_the_header_and_each_weight_is_read_once(git_base: Path) -> None:
    size = (git_base / WEIGHTS).stat().st_size
    found = caption(git_base, WEIGHTS)
    assert found["loaded"] - found["bare"] < 0.02 * size
    assert found["by_calls"] < 0.01 * size  # the rest comes through the map, without a copy
    assert found["from_disk"] <= 1.05 * size


def write_torch(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """A file of torch.save, each storage on a multiple of 64 bytes as torch puts it."""
    state = OrderedDict((name, dense(x)) for name, x in arrays.items())
    for key, x in enumerate(state.values()):
        x.form, x.key = "zip", str(key)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + encode(state) + b".")
        for x in state.values():
            entry = zipfile.ZipInfo(f"archive/data/{x.key}")
            header = archive.start_dir + 30 + len(entry.filename) + 4
            fill = -header % 64
            entry.extra = struct.pack("<HH", 0x4246, fill) + b"Z" * fill
            archive.writestr(entry, x.storage.tobytes())


@linux
@pytest.mark.slow
def test_a_torch_file_takes_no_more_memory(git_base: Path, tmp_path: Path) -> None:
    model = GitForCausalLM.from_pretrained(git_base)
    model.config.save_pretrained(tmp_path)
    write_torch(tmp_path / TORCH_WEIGHTS, model.state_dict())
    size = (tmp_path / TORCH_WEIGHTS).stat().st_size
    found = caption(tmp_path, TORCH_WEIGHTS)
    assert found["peak"] <= 1.25 * size
    assert found["loaded"] - found["bare"] < 0.02 * size
    assert found["by_calls"] < 0.01 * size
    assert found["from_disk"] <= 1.05 * size


@linux
@pytest.mark.slow
def test_half_floats_are_converted_one_by_one(git_base: Path, tmp_path: Path) -> None:
    """The peak is the float32 weights and the pages of the file, and no second copy."""
    GitForCausalLM.from_pretrained(git_base).astype("float16").save_pretrained(tmp_path)
    size = (tmp_path / WEIGHTS).stat().st_size
    assert size < 0.51 * (git_base / WEIGHTS).stat().st_size
    assert caption(tmp_path, WEIGHTS)["peak"] <= 1.1 * (2 * size + size)


@linux
@pytest.mark.slow
def test_half_floats_stay_half_floats_on_request(git_base: Path, tmp_path: Path) -> None:
    """They are widened piece by piece while multiplying: never a whole matrix of them."""
    GitForCausalLM.from_pretrained(git_base).astype("float16").save_pretrained(tmp_path)
    size = (tmp_path / WEIGHTS).stat().st_size
    found = caption(tmp_path, WEIGHTS, "float16")
    assert found["peak"] <= 1.25 * size
    assert found["loaded"] - found["bare"] < 0.04 * size


# Peak of a batch in a fresh process, by resource.getrusage, whose peak starts with the parent's:
# so a process of its own starts this one.
BATCH = """
import resource, sys
import numpy as np
from refgit import GitForCausalLM

folder, batch, words = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
model = GitForCausalLM.from_pretrained(folder)
pixels = np.random.default_rng(0).standard_normal((batch, 3, 224, 224), np.float32)
ids = model.generate(pixels, max_new_tokens=words, min_new_tokens=words)
assert ids.shape == (batch, words + 1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""
LAUNCH = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, *sys.argv[1:]]))"


def peak_of_batch(folder: Path, batch: int, words: int) -> int:
    path = os.pathsep.join([str(ROOT), str(ROOT / "backends")])
    done = subprocess.run(
        [sys.executable, "-c", LAUNCH, "-c", BATCH, str(folder), str(batch), str(words)],
        env={**os.environ, "PYTHONPATH": path, "REFGIT_BACKEND": "numpy"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@linux
@pytest.mark.slow
def test_a_batch_adds_its_activations_alone(git_base: Path) -> None:
    """Of each image: its pixels, what one block holds at a time, and its keys and values.

    A block holds at most ten arrays (N, D); the cache two for each decoder layer, of the image's N
    tokens and of the text's, with room to grow. The searches hold a few rows of scores. What does
    not grow with the batch (attention scores, the wide layer of the feed-forward network) is made
    piece by piece, in at most 80 MB.
    """
    config, batch, words = GitConfig(), 32, 4
    n, d = config.vision_config.num_positions, config.hidden_size
    layers, text = config.num_hidden_layers, 4 * words
    each = 2 * 3 * 224 * 224 + 10 * n * d + 2 * layers * (n + text) * d + 6 * config.vocab_size
    added = peak_of_batch(git_base, batch, words) - peak_of_batch(git_base, 1, words)
    print(f"\n{batch} images add {added / 2**20:.0f} MiB; {4 * batch * each / 2**20:.0f} expected")
    assert added <= 4 * batch * each + 80e6
