"""Traces: what is recorded and in which order, the files they lie in, and the noise floor."""

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

from helpers.backends import make_backend
from refgit import GitForCausalLM, GitModel, GitVisionModel
from refgit.cli import main as cli
from refgit.cli.commands import trace as trace_command
from refgit.demo import NAME
from refgit.parity.numerics.noise import NoiseFloor
from refgit.testing import CONFIG, IMAGE_TOKENS, VISION, pixels, tiny_model, tokens
from refgit.traces.container import (
    Trace,
    TraceError,
    capped,
    is_input,
    kind_of,
    record,
    split_call,
    trace,
)
from refgit.traces.names import natural_order

STAR = Path(__file__).parents[2] / "docs" / "images" / "star.png"


def recorded(**options: Any) -> Trace:
    return record(tiny_model(), pixels(2), tokens(2), **options)


# ---- what is recorded


def test_a_trace_holds_every_tap_and_the_inputs() -> None:
    model, seen = tiny_model(), {}
    model(tokens(2), pixel_values=pixels(2), hook=lambda name, x: seen.update({name: np.array(x)}))
    found = recorded()
    assert set(found) - set(seen) == {
        "input.pixel_values",
        "input.input_ids",
        "input.position_ids",
    }
    for name, x in seen.items():
        np.testing.assert_array_equal(found[name], x)
    np.testing.assert_array_equal(found["input.pixel_values"], pixels(2))
    np.testing.assert_array_equal(found["input.input_ids"], tokens(2))
    np.testing.assert_array_equal(found["input.position_ids"], [[0, 1, 2, 3]])


def test_inputs_come_first_then_image_text_decoder_and_logits() -> None:
    parts = [name.removeprefix("git.").split(".")[0] for name in recorded()]
    assert list(dict.fromkeys(parts)) == [
        "input", "image_encoder", "visual_projection", "embeddings", "encoder", "output",
    ]  # fmt: skip


def test_a_tensor_is_recorded_after_what_it_is_made_of() -> None:
    order = recorded().order
    steps = ("query", "key", "value", "scores", "probabilities", "context")
    places = [order.index(f"git.encoder.layer.1.attention.self.{step}") for step in steps]
    assert places == sorted(places)


def test_decode_steps_read_the_likeliest_word_on_top_of_the_cache() -> None:
    found = recorded(tokens=3)
    written = tiny_model().generate(
        pixels(2), tokens(2), max_new_tokens=3, eos_token_id=None, pad_token_id=None
    )
    for step in range(1, 4):
        words = found[f"step.{step}.input.input_ids"]
        np.testing.assert_array_equal(words, written[:, 3 + step : 4 + step])
        np.testing.assert_array_equal(found[f"step.{step}.input.position_ids"], [[3 + step]])
        heads, keys = CONFIG.num_attention_heads, IMAGE_TOKENS + 4 + step
        scores = found[f"step.{step}.git.encoder.layer.0.attention.self.scores"]
        assert scores.shape == (2, heads, 1, keys)
    assert (found.meta["calls"], found.meta["prompt_length"]) == ("3", "4")


def test_a_step_has_the_logits_of_the_whole_text_read_at_once() -> None:
    found = recorded(tokens=2, dtype="float64")
    steps = [found[f"step.{step}.input.input_ids"] for step in (1, 2)]
    whole = tiny_model(dtype="float64")(
        np.concatenate([tokens(2), *steps], 1), pixel_values=pixels(2)
    ).logits
    np.testing.assert_allclose(found["step.2.output"][:, 0], whole[:, -1], rtol=1e-10, atol=1e-12)


def test_padding_and_positions_are_recorded_and_reach_the_steps() -> None:
    mask = np.array([[1, 1, 1, 1], [0, 1, 1, 1]])
    positions = np.array([[0, 1, 2, 3], [0, 0, 1, 2]])
    found = record(tiny_model(), pixels(2), tokens(2), mask, position_ids=positions, tokens=1)
    np.testing.assert_array_equal(found["input.attention_mask"], mask)
    np.testing.assert_array_equal(found["input.position_ids"], positions)
    np.testing.assert_array_equal(found["step.1.input.position_ids"], [[4], [3]])
    unseen = found["step.1.git.encoder.layer.0.attention.self.probabilities"]
    assert (unseen[1, :, 0, IMAGE_TOKENS] == 0).all()


def test_without_a_prompt_the_text_is_the_opening_token() -> None:
    found = record(tiny_model(), pixels(2))
    np.testing.assert_array_equal(found["input.input_ids"], [[CONFIG.bos_token_id]] * 2)


def test_a_trace_without_image_is_of_the_text_alone() -> None:
    found = record(tiny_model(), input_ids=tokens(1))
    assert not [name for name in found if "image_encoder" in name or "pixel" in name]


def test_videos_and_relative_positions_are_recorded() -> None:
    config = CONFIG.replace(position_embedding_type="relative_key", num_image_with_embedding=2)
    frames = pixels(2)[None]
    found = record(tiny_model(config=config), frames, tokens(1), tokens=1)
    assert found["input.pixel_values"].shape == frames.shape
    assert found["git.image_encoder.vision_model.post_layernorm"].shape[0] == 2
    assert "input.position_ids" not in found


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_trace_is_of_the_dtype_asked_for(dtype: str) -> None:
    found = recorded(dtype=dtype)
    assert {str(found[name].dtype) for name in found if found[name].dtype.kind == "f"} == {dtype}
    assert found.meta["dtype"] == dtype
    assert found.config == CONFIG


def test_the_metadata_of_a_vision_model_gives_no_git_config() -> None:
    with trace(GitVisionModel(VISION)) as found:
        GitVisionModel(VISION)  # another model is not listened to
    assert found.config is None
    assert len(found) == 0


def test_more_steps_than_positions_are_refused_before_the_first() -> None:
    with pytest.raises(ValueError, match=r"tokens is 30 and the prompt has 4.*positions for 24"):
        recorded(tokens=30)


def test_a_record_of_nothing_says_what_it_needs() -> None:
    with pytest.raises(ValueError, match="needs input_ids, or pixel_values"):
        record(tiny_model())


@pytest.mark.parametrize("name", ["numpy-definitions", "strict"])
def test_other_backends_record_the_same(name: str) -> None:
    model = tiny_model(backend=make_backend(name), dtype="float64")
    found = record(model, pixels(2), tokens(2), tokens=1)
    wanted = recorded(tokens=1, dtype="float64")
    assert found.order == wanted.order
    for tensor in wanted:
        np.testing.assert_allclose(found[tensor], wanted[tensor], rtol=1e-9, atol=1e-12)


def test_errors_of_the_model_are_the_models() -> None:
    with pytest.raises(ValueError, match="input_ids"):
        record(tiny_model(), pixels(1), np.array([[99]]))
    with pytest.raises(ValueError, match="input_ids"):
        record(tiny_model(), pixels(1), np.array([1, 2]), tokens=2)


# ---- listening to calls of one's own


def test_a_block_listens_and_leaves_model_and_results_as_they_were() -> None:
    model = tiny_model()
    operations = model.operations
    plain = model(tokens(1), pixel_values=pixels(1)).logits
    with trace(model) as found:
        logits = model(tokens(1), pixel_values=pixels(1)).logits
        assert isinstance(model, GitForCausalLM)
    assert type(model) is GitForCausalLM
    assert model.operations is operations
    np.testing.assert_array_equal(logits, plain)
    np.testing.assert_array_equal(found["output"], plain)
    before = len(found)
    model(tokens(1), pixel_values=pixels(1))
    assert len(found) == before


def test_an_error_inside_a_block_stops_the_listening() -> None:
    model = tiny_model()
    operations = model.operations
    with pytest.raises(ValueError, match="input_ids"), trace(model):
        model(np.array([[99]]))
    assert type(model) is GitForCausalLM
    assert model.operations is operations


def test_a_tap_and_a_trace_are_both_told() -> None:
    model, seen = tiny_model(), []
    with trace(model) as found:
        model(tokens(1), pixel_values=pixels(1), hook=lambda name, x: seen.append(name))
    assert set(seen) == {name for name in found if not is_input(name)}


def test_one_trace_inside_another_records_the_same() -> None:
    model = tiny_model()
    with trace(model) as outer, trace(model) as inner:
        model(tokens(1), pixel_values=pixels(1))
    assert outer.order == inner.order


def test_calls_that_begin_anew_and_steps_that_continue_them_are_told_apart() -> None:
    model = tiny_model()
    with trace(model) as found:
        cache = model(tokens(1), pixel_values=pixels(1)).past_key_values
        model([[5]], past_key_values=cache)
        cache = model(tokens(1), pixel_values=pixels(1)).past_key_values
        model([[5]], past_key_values=cache)
        model([[6]], past_key_values=cache)
    prefixes = list(dict.fromkeys(split_call(name)[0] for name in found))
    assert prefixes == ["", "step.1.", "call.1.", "call.1.step.1.", "call.1.step.2."]
    np.testing.assert_array_equal(found["step.1.input.position_ids"], [[4]])
    assert found.meta["calls"] == "1"


def test_generate_is_recorded_as_the_image_and_its_steps() -> None:
    model = tiny_model()
    with trace(model) as found:
        model.generate(pixels(1), tokens(1), max_new_tokens=2, eos_token_id=None)
    assert {name for name in found if is_input(name)} == {
        "input.pixel_values",
        "step.1.input.input_ids",
        "step.1.input.position_ids",
        "step.2.input.input_ids",
        "step.2.input.position_ids",
    }


def test_other_models_can_be_traced_by_their_own_names() -> None:
    vision, trunk = GitVisionModel(VISION), GitModel(CONFIG)
    with trace(vision) as found:
        vision(pixels(1))
    assert found.order[:2] == ["input.pixel_values", "vision_model.embeddings.patch_embedding"]
    with trace(trunk) as found:
        trunk(tokens(1), pixel_values=pixels(1))
    assert found.order[-1] == "encoder.layer.2.output.LayerNorm"


def test_a_copy_made_inside_the_block_is_not_listened_to() -> None:
    model = tiny_model()
    with trace(model) as found:
        model.to(dtype="float64")(tokens(1), pixel_values=pixels(1))
    assert len(found) == 0


def test_what_is_recorded_is_a_copy() -> None:
    image = pixels(1)
    found = record(tiny_model(), image, tokens(1))
    image[:] = 0
    assert found["input.pixel_values"].any()


# ---- parts


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("output", {"output", "step.1.output"}),
        ("git.encoder.layer.1.attention.output", None),
        ("*.layer.2.*dense", None),
        ("step.1.output", {"step.1.output"}),
        ("git.embeddings", None),
    ],
)
def test_patterns_select_tensors_modules_and_steps(pattern: str, wanted: set[str] | None) -> None:
    whole = recorded(tokens=1)
    found = recorded(tokens=1, select=[pattern])
    assert found.order == whole.select([pattern]).order
    chosen = {name for name in found if not is_input(name)}
    assert 0 < len(chosen) < len(whole)
    assert {n for n in found if is_input(n)} == {n for n in whole if is_input(n)}
    if wanted is not None:
        assert chosen == wanted
    elif "*" not in pattern:
        assert all(split_call(name)[1].startswith(pattern) for name in chosen)


def test_a_trace_is_cut_to_size_by_whole_kinds_the_largest_first() -> None:
    whole = recorded(tokens=1)
    sizes: dict[str, int] = {}
    for name in whole:
        sizes[kind_of(name)] = sizes.get(kind_of(name), 0) + whole[name].nbytes
    small = recorded(tokens=1, max_bytes=whole.nbytes - 1)
    assert small.nbytes < whole.nbytes
    gone = json.loads(small.meta["left_out"])
    assert len(gone) == 1
    last = ("layers.*", "LayerNorm", "post_layernorm", "projection.1")
    rest = [k for k in sizes if not k.endswith(last) and k != "output" and "input." not in k]
    assert sizes[gone[0]] == max(sizes[kind] for kind in rest)


def test_a_trace_of_any_size_keeps_its_inputs_and_an_impossible_one_is_refused() -> None:
    whole = recorded()
    inputs = sum(x.nbytes for x in whole.inputs.values())
    assert capped(whole, inputs).order == list(whole.inputs)
    assert capped(whole, whole.nbytes).order == whole.order
    few = capped(whole, inputs + 2 * whole["output"].nbytes)
    assert len(few) > len(whole.inputs)
    assert not [name for name in few if "probabilities" in name or "dense" in name]
    with pytest.raises(TraceError, match=rf"inputs alone take {inputs} bytes.*may take 10"):
        recorded(max_bytes=10)


# ---- files

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
    "no safetensors": (lambda d: written(d / "t.safetensors", b"x"), "no complete safetensors"),
    "no npz": (lambda d: written(d / "t.npz", b"PK\3\4 not"), "no complete .npz file"),
    "empty npz": (lambda d: written(d / "t.npz", b""), "no complete .npz file"),
    "a lone array": (lambda d: npy_as(d / "t.npz", np.zeros(2)), "it is a single .npy array"),
    "objects": (lambda d: npz_of(d / "t.npz", a=np.array([{}, 1])), "file of plain numbers"),
    "words": (lambda d: npz_of(d / "t.npz", a=np.array(["x"])), "tensor a is of dtype <U1"),
    "complex": (lambda d: npz_of(d / "t.npz", a=np.array([1j])), "tensor a is of dtype complex128"),
    "unknown order": (
        lambda d: npz_of(d / "t.npz", a=np.zeros(2), order=["a", "c"]),
        "the order names 'c', which is none of its 1 tensors",
    ),
    "no npy": (lambda d: written(d / "a.npy", b"x").parent, "a.npy is no complete .npy file"),
    "no list": (
        lambda d: written(in_directory(d) / "order.json", b'{"a": 1}').parent,
        "no JSON list of names",
    ),
    "no JSON": (lambda d: written(in_directory(d) / "order.json", b"[").parent, "no valid JSON"),
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


@given(numbers=st.lists(st.integers(0, 10**6), unique=True))
def test_natural_order_counts_numbers(numbers: list[int]) -> None:
    names = [f"layer.{n}.x" for n in numbers]
    assert natural_order(names) == [f"layer.{n}.x" for n in sorted(numbers)]


# ---- the command


@pytest.fixture
def command() -> Callable[..., int]:
    return lambda *arguments: cli.main(["trace", *map(str, arguments)])


@pytest.mark.slow
def test_the_command_writes_a_trace_with_its_floors(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "star.safetensors"
    assert command("--image", STAR, "--out", out, "--tokens", 2) == 0
    said = capsys.readouterr().out
    found = Trace.load(out)
    assert said.startswith(f"{out}: {len(found)} tensors, 2 decode steps included, ")
    assert "noise floors in" in said
    floors = NoiseFloor.of_trace(found)
    assert floors is not None
    assert set(floors.floors) == {"float32"}
    assert found.meta["model"] == NAME
    assert len(found.meta["sha256"]) == 64
    assert "step.2.output" in found


def test_the_command_reads_a_prompt_and_prints_json(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "t.safetensors"
    arguments = ("--image", STAR, "--out", out, "--text", "a star", "--noise", "none", "--json")
    assert command(*arguments, "--dtype", "float64", "--select", "output", "*.residual") == 0
    told = json.loads(capsys.readouterr().out)
    found = Trace.load(out)
    assert (told["file"], told["tensors"], told["steps"]) == (str(out), len(found), 0)
    assert told["bytes"] == found.nbytes
    ids = found["input.input_ids"]
    assert ids.shape[1] >= 3
    assert {split_call(n)[1].split(".")[-1] for n in found if not is_input(n)} == {
        "output",
        "residual",
    }
    assert found["output"].dtype == np.float64
    assert "noise" not in found.meta


@pytest.mark.slow
def test_the_command_keeps_to_a_size(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "t.safetensors"
    assert command("--image", STAR, "--out", out, "--max-bytes", "1.5M") == 0
    assert "left out to fit into --max-bytes" in capsys.readouterr().err
    assert Trace.load(out).nbytes <= 1_500_000


def test_a_pattern_that_fits_nothing_is_said(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "t.safetensors"
    assert command("--image", STAR, "--out", out, "--select", "nothing", "--noise", "none") == 0
    assert "--select fits none of the tensors" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--out", "t.npz"], "expected a name that ends in .safetensors"),
        (["--out", "no/such/t.safetensors"], "there is no directory no/such"),
        (["--out", "t.safetensors", "--tokens", "9999"], "tokens is 9999"),
        (["--out", "t.safetensors", "--max-bytes", "1"], "the inputs alone take"),
        (["--out", "t.safetensors", "--model", "no/such/model/at/all"], "no/such/model/at/all"),
    ],
)
def test_what_cannot_be_done_is_said_and_leaves_no_file(
    command: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("--image", STAR, *arguments) == 2
    assert reason in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", ["", "x", "5X", "-1", "1..2M"])
def test_a_size_that_is_none_is_refused(
    command: Callable[..., int], size: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        command("--image", STAR, "--out", "t.safetensors", f"--max-bytes={size}")
    assert stopped.value.code == 2
    assert "is not a size such as" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "bytes_"), [("500", 500), ("1.5k", 1500), ("2GB", 2 * 10**9)])
def test_sizes_are_read_as_people_write_them(text: str, bytes_: int) -> None:
    assert trace_command.size(text) == bytes_
