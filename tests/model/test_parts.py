"""A GitForCausalLM has a GitModel, and that an image encoder; hooks on calls and intermediates."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refgit import GitForCausalLM, GitModel, GitVisionModel, testing, to_numpy
from refgit.traces.recorder import record, trace
from refgit_backends import Backend

PIXELS, IDS = testing.pixels(), testing.tokens(1, 5)


def model(**options: Any) -> GitForCausalLM:
    return testing.tiny_model(seed=4, **options)


# ---- parts


def test_the_parts_of_a_model_compute_what_the_whole_does(backend: Backend) -> None:
    whole = model(backend=backend)
    states = to_numpy(whole.git(IDS, pixel_values=PIXELS).last_hidden_state)
    head = {name: to_numpy(x) for name, x in whole.parameters["output"].items()}
    logits = to_numpy(whole(IDS, pixel_values=PIXELS).logits)
    np.testing.assert_allclose(
        states @ head["weight"].T + head["bias"], logits, rtol=1e-4, atol=1e-5
    )
    encoded = whole.git.image_encoder(PIXELS).last_hidden_state
    alone = GitVisionModel(
        whole.config.vision_config,
        backend=backend,
        _parameters=whole.git.image_encoder.state_dict(),
    )
    np.testing.assert_array_equal(to_numpy(encoded), to_numpy(alone(PIXELS).last_hidden_state))


def test_parts_are_models_with_the_names_of_their_kind() -> None:
    whole = model()
    for part, kind in ((whole.git, GitModel), (whole.git.image_encoder, GitVisionModel)):
        assert type(part) is kind
        shapes = {name: x.shape for name, x in part.state_dict().items()}
        assert shapes == kind.shapes(part.config)  # type: ignore[arg-type]
    assert not isinstance(whole, GitModel)
    assert whole.git.config is whole.config
    assert whole.git.image_encoder.config is whole.config.vision_config


def test_parts_share_the_arrays_and_stay_in_step() -> None:
    whole = model()
    weight = whole.git.image_encoder.get_input_embeddings()
    name = "git.image_encoder.vision_model.embeddings.patch_embedding.weight"
    assert weight is whole.state_dict()[name]
    for moved in (whole.astype("float64"), whole.to("strict")):
        assert moved.git.dtype == moved.dtype == moved.git.image_encoder.dtype
        assert moved.git.backend is moved.backend is moved.git.image_encoder.backend
        assert moved.git is not whole.git
        assert moved.git.get_input_embeddings() is moved.get_input_embeddings()
    assert whole.git.dtype == "float32"


@pytest.mark.parametrize("tied", [False, True])
def test_what_changes_a_part_changes_the_whole(tied: bool) -> None:
    one, other = (model(config=testing.CONFIG.replace(tie_word_embeddings=tied)) for _ in range(2))
    one.resize_token_embeddings(30)
    one.prune_heads({0: [1]})
    other.git.resize_token_embeddings(30)
    other.git.prune_heads({0: [1]})
    assert one.config == other.config
    assert {k: x.shape for k, x in other.state_dict().items()} == other.shapes(other.config)
    for name, x in one.state_dict().items():
        np.testing.assert_array_equal(x, other.state_dict()[name])
    assert (other.get_output_embeddings() is other.git.get_input_embeddings()) == tied


def test_a_part_is_saved_and_moved_as_a_model_of_its_own(tmp_path: Path) -> None:
    whole = model()
    wanted = whole.git(IDS, pixel_values=PIXELS).last_hidden_state
    whole.git.save_pretrained(tmp_path)
    for own in (GitModel.from_pretrained(tmp_path), whole.git.to()):
        names: list[str] = []
        out = own(IDS, pixel_values=PIXELS, hook=lambda name, _, seen=names: seen.append(name))
        np.testing.assert_array_equal(out.last_hidden_state, wanted)
        assert not [name for name in names if name.startswith("git.")]
    own.resize_token_embeddings(40)
    assert whole.config.vocab_size == testing.CONFIG.vocab_size


def test_a_copy_of_a_model_goes_its_own_way() -> None:
    whole = model()
    other = copy.copy(whole)
    assert other.git.get_input_embeddings() is whole.git.get_input_embeddings()
    other.resize_token_embeddings(40)
    assert whole.get_input_embeddings().shape[0] == testing.CONFIG.vocab_size


# ---- hooks


def test_a_part_shows_hooks_the_names_of_the_whole() -> None:
    whole = model()
    everything, of_git, of_image = (dict[str, np.ndarray]() for _ in range(3))
    whole(IDS, pixel_values=PIXELS, hook=everything.setdefault)
    whole.git(IDS, pixel_values=PIXELS, hook=of_git.setdefault)
    whole.git.image_encoder(PIXELS, hook=of_image.setdefault)
    assert list(everything) == [*of_git, "output"]
    image = "git.image_encoder."
    assert list(of_image) == [name for name in everything if name.startswith(image)]
    for name, x in (of_git | of_image).items():
        np.testing.assert_array_equal(x, everything[name])


def test_a_trace_of_a_model_holds_the_calls_of_its_parts_and_the_other_way_round() -> None:
    whole = model()
    wanted = record(whole, PIXELS, IDS)
    for traced in (whole, whole.git):
        with trace(traced) as found:
            whole.git(IDS, pixel_values=PIXELS)
        assert [*found.order, "output"] == wanted.order
    with trace(whole.git.image_encoder) as found:
        whole(IDS, pixel_values=PIXELS)
    assert found.order == [name for name in wanted if name != "input.position_ids"]


def test_the_image_is_embedded_before_the_text() -> None:
    names: list[str] = []
    model()(IDS, pixel_values=PIXELS, hook=lambda name, _: names.append(name.split(".")[1:2]))
    parts = [name[0] for name in names if name]
    assert list(dict.fromkeys(parts)) == [
        "image_encoder", "visual_projection", "embeddings", "encoder",
    ]  # fmt: skip


def test_a_hook_on_calls_is_told_the_arguments_of_each_call_once() -> None:
    whole, told = model(), list[dict[str, Any]]()
    with whole.hooked(on_call=lambda arguments: told.append(dict(arguments))) as same:
        assert same is whole
        whole(IDS, None, pixel_values=PIXELS)
        cache = whole.encode_image(PIXELS)
        whole.next_token_logits(IDS, cache)
        whole.git(IDS)
        whole.git.image_encoder(PIXELS)
    whole(IDS)
    assert [sorted(arguments) for arguments in told] == [
        ["attention_mask", "input_ids", "pixel_values"],
        ["head_mask", "hook", "pixel_values"],
        ["cache", "input_ids"],
        ["input_ids"],
        ["pixel_values"],
    ]
    assert told[0]["input_ids"] is IDS
    assert told[2]["cache"] is cache


def test_hooks_are_called_in_the_order_in_which_they_were_installed() -> None:
    whole, told = model(), list[str]()

    def on_call(name: str) -> Any:
        return lambda _arguments: told.append(name)

    with whole.hooked(on_call=on_call("outer")), whole.hooked(on_call=on_call("inner")):
        whole(IDS)
        whole(IDS)
    assert told == ["outer", "inner"] * 2


def test_a_call_that_fails_is_told_and_so_is_the_next() -> None:
    whole, told = model(), list[Any]()
    operations = whole.operations
    with whole.hooked(on_call=told.append):
        with pytest.raises(ValueError, match="input_ids"):
            whole(np.array([[99]]))
        whole(IDS)
    assert len(told) == 2
    with pytest.raises(KeyError), whole.hooked(lambda _name, x: x, told.append):
        raise KeyError
    assert whole.operations is operations


def test_what_an_installed_hook_returns_is_what_the_model_goes_on_with() -> None:
    whole = model()
    plain = whole(IDS, pixel_values=PIXELS).logits

    def silence(name: str, x: np.ndarray) -> np.ndarray | None:
        return np.zeros_like(x) if name.endswith("visual_projection.1") else None

    with whole.hooked(silence):
        changed = whole(IDS, pixel_values=PIXELS).logits
        with trace(whole) as found:
            whole(IDS, pixel_values=PIXELS)
    assert not found["git.visual_projection.visual_projection.1"].any()
    np.testing.assert_array_equal(found["output"], changed)
    assert (changed != plain).any()
    np.testing.assert_array_equal(whole(IDS, pixel_values=PIXELS).logits, plain)


@pytest.mark.parametrize(
    "make",
    [lambda m: m.to(dtype="float64"), copy.copy, copy.deepcopy],
    ids=["to", "copy", "deepcopy"],
)
def test_a_model_made_inside_the_block_has_no_hooks(make: Any) -> None:
    whole, told = model(), list[Any]()
    with whole.hooked(lambda name, _: told.append(name), told.append):
        make(whole)(IDS)
        own = make(whole.git)
    own(IDS)
    assert not told
    np.testing.assert_allclose(own(IDS)[0], whole.git(IDS)[0], atol=1e-5)


def test_blocks_may_end_in_any_order() -> None:
    whole = model()
    first, second = trace(whole), trace(whole)
    early, late = first.__enter__(), second.__enter__()
    first.__exit__(None, None, None)
    whole(IDS)
    second.__exit__(None, None, None)
    whole(IDS)
    assert (len(early), len(late)) == (0, len(record(whole, None, IDS)))


def test_a_hook_that_is_installed_twice_is_taken_out_once() -> None:
    whole, told = model(), list[Any]()
    tell = told.append
    with whole.hooked(on_call=tell):
        with whole.hooked(on_call=tell):
            whole(IDS)
        whole(IDS)
    assert len(told) == 3


@pytest.mark.parametrize("hook", [3, {}, "print"])
def test_a_hook_that_cannot_be_called_is_refused(hook: Any) -> None:
    whole = model()
    with pytest.raises(TypeError, match=r"hook is .*; expected a function of a name and an array"):
        whole(IDS, hook=hook)
    with pytest.raises(TypeError, match=r"hook is .*; expected"), whole.hooked(hook):
        pass


def test_tying_a_model_leaves_its_copy_alone() -> None:
    config = testing.CONFIG.replace(tie_word_embeddings=True)
    whole = model(config=config)
    state = {name: np.array(x) for name, x in whole.state_dict().items()}  # no longer one array
    apart = GitForCausalLM(config, _parameters=state)
    other = copy.copy(apart)
    apart.tie_weights()
    assert apart.get_output_embeddings() is apart.git.get_input_embeddings()
    assert other.get_output_embeddings() is not other.get_input_embeddings()
