"""Configuration: transformers 4.56.2's fields and defaults, and nothing impossible."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refgit import GitConfig, GitForCausalLM, GitVisionConfig, testing
from refgit.layers import activation

# The signatures in transformers 4.56.2's documentation of GIT, in their order.
VISION_DEFAULTS = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 16,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-05,
    "attention_dropout": 0.0,
    "initializer_range": 0.02,
}
DEFAULTS = {
    "vision_config": GitVisionConfig(),
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 1024,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "use_cache": True,
    "tie_word_embeddings": False,
    "bos_token_id": 101,
    "eos_token_id": 102,
    "num_image_with_embedding": None,
}
ACTIVATIONS = sorted(activation.ACTIVATIONS)


@pytest.mark.parametrize(
    ("kind", "defaults"), [(GitVisionConfig, VISION_DEFAULTS), (GitConfig, DEFAULTS)]
)
def test_fields_and_defaults_are_those_of_transformers(
    kind: type[GitConfig], defaults: dict[str, Any]
) -> None:
    names = [f.name for f in fields(kind)]
    assert names == [*defaults, "extra"]
    found = {name: getattr(kind(), name) for name in defaults}
    assert found == defaults
    assert {k: type(v) for k, v in found.items()} == {k: type(v) for k, v in defaults.items()}


def test_an_empty_config_json_gives_the_defaults() -> None:
    assert GitConfig.from_dict({}) == GitConfig()
    assert GitConfig.from_dict({"vision_config": None}) == GitConfig()
    assert GitVisionConfig.from_dict({}) == GitVisionConfig()


def test_model_types_are_those_of_transformers() -> None:
    assert GitConfig().to_dict()["model_type"] == "git"
    assert GitConfig().to_dict()["vision_config"]["model_type"] == "git_vision_model"


def test_counts_of_patches_and_tokens() -> None:
    assert GitVisionConfig().num_patches == 196
    assert GitVisionConfig().num_positions == 197
    assert GitVisionConfig(image_size=480).num_positions == 901


@pytest.mark.parametrize(
    ("sizes", "frames", "wanted"),
    [
        ({}, None, 197),
        ({"height": 480, "width": 224}, None, 30 * 14 + 1),
        ({"height": 39}, None, 2 * 14 + 1),  # what is left over at the edge is not a patch
        ({}, 6, 6 * 197),
        ({"height": 224, "width": 32}, 2, 2 * (14 * 2 + 1)),
    ],
)
def test_image_tokens_are_patches_and_a_class_token_of_each_frame(
    sizes: dict[str, int], frames: int | None, wanted: int
) -> None:
    assert GitConfig().num_image_tokens(**sizes, frames=frames) == wanted
    video = GitConfig(num_image_with_embedding=6)
    assert video.num_image_tokens(**sizes, frames=frames or 1) == wanted
    if frames is None:
        assert video.num_image_tokens(**sizes) == 6 * wanted


def test_unknown_keys_are_kept_and_written_back() -> None:
    values = {
        "model_type": "git",
        "architectures": ["GitForCausalLM"],
        "torch_dtype": "float32",
        "extra": {"even": "this name"},
        "vision_config": {
            "model_type": "git_vision_model",
            "dropout": 0.5,
            "_id": [1, {"a": None}],
        },
    }
    config = GitConfig.from_dict(values)
    assert set(config.extra) == {"architectures", "torch_dtype", "extra"}
    written = json.loads(config.to_json_string())
    for name, value in values.items():
        if name != "vision_config":
            assert written[name] == value
    for name, value in values["vision_config"].items():
        assert written["vision_config"][name] == value


def test_an_unknown_key_never_replaces_a_field() -> None:
    assert GitConfig(extra={"hidden_size": 5, "model_type": "x"}).to_dict()["hidden_size"] == 768
    assert GitConfig(extra={"model_type": "x"}).to_dict()["model_type"] == "git"


def test_the_vision_config_is_nested() -> None:
    config = GitConfig(vision_config={"hidden_size": 48})  # type: ignore[arg-type]
    assert config.vision_config == GitVisionConfig(hidden_size=48)
    assert config.to_dict()["vision_config"] == GitVisionConfig(hidden_size=48).to_dict()


def test_configs_are_frozen_and_replace_validates() -> None:
    with pytest.raises(FrozenInstanceError):
        testing.CONFIG.hidden_size = 5  # type: ignore[misc]
    assert testing.CONFIG.replace(vocab_size=9).vocab_size == 9
    assert testing.CONFIG.vocab_size == 23
    with pytest.raises(ValueError, match="vocab_size is 0"):
        testing.CONFIG.replace(vocab_size=0)


def test_json_text_is_sorted_and_ends_with_a_newline() -> None:
    text = testing.CONFIG.to_json_string()
    assert text.endswith("}\n")
    assert list(json.loads(text)) == sorted(json.loads(text))


@pytest.mark.parametrize("where", ["GitConfig", "GitVisionConfig"])
def test_a_function_as_activation_cannot_be_written(where: str, tmp_path: Path) -> None:
    function: Any = abs
    config: GitConfig = (
        GitConfig(hidden_act=function)
        if where == "GitConfig"
        else GitConfig(vision_config=GitVisionConfig(hidden_act=function))
    )
    words = f"{where}.hidden_act is <built-in function abs>; expected a name.*ACTIVATIONS.*gelu"
    with pytest.raises(ValueError, match=words):
        config.to_json_string()
    with pytest.raises(ValueError, match=words):
        config.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_config_may_name_each_activation_there_is() -> None:
    for name in activation.ACTIVATIONS:
        assert GitConfig(hidden_act=name).hidden_act == name


@pytest.mark.parametrize("name", ["linear", "softmax", "attention", "erf", "GELU", "", ["gelu"]])
def test_what_is_not_an_activation_is_refused(name: Any) -> None:
    """Also operations that are in refgit.layers, under their own names."""
    for kind in (GitConfig, GitVisionConfig):
        with pytest.raises(
            ValueError, match=f"{kind.__name__}.hidden_act is .*; expected one of .*gelu"
        ):
            kind(hidden_act=name)
        with pytest.raises(
            ValueError, match=r"hidden_act is .*; expected one of .*gelu, gelu_new, "
        ):
            kind.from_dict({"hidden_act": name})


# ---- round trips

counts = st.integers(1, 4096)
small = st.floats(0, 1)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@st.composite
def vision_configs(draw: st.DrawFn) -> GitVisionConfig:
    heads, patch = draw(counts), draw(counts)
    return GitVisionConfig(
        hidden_size=heads * draw(counts),
        intermediate_size=draw(counts),
        num_hidden_layers=draw(counts),
        num_attention_heads=heads,
        num_channels=draw(counts),
        image_size=patch * draw(counts),
        patch_size=patch,
        hidden_act=draw(st.sampled_from(ACTIVATIONS)),
        layer_norm_eps=draw(small),
        attention_dropout=draw(small),
        initializer_range=draw(small),
        extra=draw(unknown_keys(GitVisionConfig)),
    )


def unknown_keys(kind: type) -> st.SearchStrategy[dict[str, Any]]:
    taken = {f.name for f in fields(kind)} - {"extra"} | {"model_type"}
    return st.dictionaries(st.text().filter(lambda name: name not in taken), json_values)


@st.composite
def configs(draw: st.DrawFn) -> GitConfig:
    heads, words = draw(counts), draw(counts)
    ids = st.none() | st.integers(0, 10**6)
    return GitConfig(
        vision_config=draw(vision_configs()),
        vocab_size=words,
        hidden_size=heads * draw(counts),
        num_hidden_layers=draw(counts),
        num_attention_heads=heads,
        intermediate_size=draw(counts),
        hidden_act=draw(st.sampled_from(ACTIVATIONS)),
        hidden_dropout_prob=draw(small),
        attention_probs_dropout_prob=draw(small),
        max_position_embeddings=draw(counts),
        initializer_range=draw(small),
        layer_norm_eps=draw(small),
        pad_token_id=draw(st.none() | st.integers(0, words - 1)),
        position_embedding_type=draw(
            st.sampled_from(["absolute", "relative_key", "relative_key_query"])
        ),
        use_cache=draw(st.booleans()),
        tie_word_embeddings=draw(st.booleans()),
        bos_token_id=draw(ids),
        eos_token_id=draw(ids | st.lists(st.integers(0, 99), min_size=1)),
        num_image_with_embedding=draw(st.none() | counts),
        extra=draw(unknown_keys(GitConfig)),
    )


@pytest.mark.slow
@given(config=vision_configs() | configs())
def test_every_config_survives_dicts_and_json(config: GitConfig | GitVisionConfig) -> None:
    kind = type(config)
    assert kind.from_dict(config.to_dict()) == config
    assert kind.from_dict(json.loads(config.to_json_string())) == config


def test_every_config_survives_its_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("configs")

    @given(config=vision_configs() | configs())
    def check(config: GitConfig | GitVisionConfig) -> None:
        config.save_pretrained(folder)
        assert type(config).from_pretrained(folder) == config

    check()


def test_the_image_encoders_config_is_read_from_the_whole_models(tmp_path: Path) -> None:
    testing.CONFIG.save_pretrained(tmp_path / "deep" / "folder")
    assert GitVisionConfig.from_pretrained(tmp_path / "deep" / "folder") == testing.VISION


# ---- impossible values

NO_COUNTS = [0, -1, 1.0, "8", None, True, [8]]
NO_RATES = [-0.1, 1.1, "0.1", None, True, float("nan"), float("inf")]
NO_IDS = [-1, 1.5, "2", True, {}]

IMPOSSIBLE = [
    *[
        (kind, name, value)
        for kind, names in (
            (
                GitVisionConfig,
                "hidden_size intermediate_size num_hidden_layers num_attention_heads "
                "num_channels image_size patch_size",
            ),
            (
                GitConfig,
                "vocab_size hidden_size num_hidden_layers num_attention_heads "
                "intermediate_size max_position_embeddings",
            ),
        )
        for name in names.split()
        for value in NO_COUNTS
    ],
    *[(GitConfig, "num_image_with_embedding", value) for value in NO_COUNTS if value is not None],
    *[
        (kind, name, value)
        for kind, name in (
            (GitVisionConfig, "attention_dropout"),
            (GitConfig, "hidden_dropout_prob"),
            (GitConfig, "attention_probs_dropout_prob"),
        )
        for value in NO_RATES
    ],
    *[
        (kind, name, value)
        for kind in (GitVisionConfig, GitConfig)
        for name in ("layer_norm_eps", "initializer_range")
        for value in NO_RATES
        if value != 1.1
    ],
    *[
        (kind, "hidden_act", value)
        for kind in (GitVisionConfig, GitConfig)
        for value in ("", "tanh", "linear", "layer_norm", "at", None, 3, ["gelu"])
    ],
    *[
        (GitConfig, name, value)
        for name in ("pad_token_id", "bos_token_id", "eos_token_id")
        for value in NO_IDS
    ],
    (GitConfig, "pad_token_id", 30522),
    (GitConfig, "pad_token_id", [0]),
    (GitConfig, "bos_token_id", [101]),
    (GitConfig, "eos_token_id", []),
    (GitConfig, "eos_token_id", [102, -1]),
    *[
        (GitConfig, name, value)
        for name in ("use_cache", "tie_word_embeddings")
        for value in (None, 1, "yes")
    ],
    *[(GitConfig, "position_embedding_type", value) for value in ("rotary", None, 3)],
    *[(GitConfig, "vision_config", value) for value in (7, "base", [], [1], False)],
    (GitVisionConfig, "hidden_size", 770),  # twelve heads
    (GitConfig, "hidden_size", 770),
    (GitVisionConfig, "image_size", 225),  # patches of sixteen
]


@pytest.mark.parametrize(("kind", "name", "value"), IMPOSSIBLE)
def test_an_impossible_value_is_refused_by_name(
    kind: type[GitConfig], name: str, value: Any
) -> None:
    with pytest.raises(ValueError, match=rf"^{kind.__name__}\.{name} is .*; expected ") as caught:
        kind(**{name: value})
    assert repr(value) in str(caught.value)
    with pytest.raises(ValueError, match=rf"^{kind.__name__}\.{name} is "):
        kind.from_dict({name: value})


@pytest.mark.parametrize(
    "pruned",
    [
        3,
        [1],
        {"x": [1]},
        {"6": [1]},
        {-1: [1]},
        {True: [1]},
        {"0": 1},
        {"0": "1"},
        {"0": [99]},
        {"0": [-1]},
        {"0": [1.0]},
        {"0": [[1]]},
        {0: range(12)},
        {"0": list(range(12))},
    ],
)
def test_pruned_heads_that_there_cannot_be_are_refused(pruned: Any, tmp_path: Path) -> None:
    words = r"GitConfig\.pruned_heads is .*; expected .*layers, 0 to 5,.*heads, 0 to 11"
    for make in (lambda: GitConfig(pruned_heads=pruned),  # type: ignore[call-arg]
                 lambda: GitConfig.from_dict({"pruned_heads": pruned}),
                 lambda: GitConfig(extra={"pruned_heads": pruned})):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            make()


@pytest.mark.parametrize(
    ("pruned", "expected"),
    [
        (None, {}),
        ({}, {}),
        ({"5": [0, 11], "1": []}, {5: {0, 11}}),
        ({0: {3}, 2: (1, 1)}, {0: {3}, 2: {1}}),
        ({0: np.array([2])}, {0: {2}}),
    ],
)
def test_pruned_heads_that_there_can_be_are_written_and_read(pruned: Any, expected: Any) -> None:
    config = GitConfig.from_dict({"pruned_heads": pruned})
    assert config.pruned_heads == expected
    again = GitConfig.from_dict(json.loads(config.to_json_string()))
    assert again.pruned_heads == expected
    assert again.heads_of(0) == 12 - len(expected.get(0, ()))


@pytest.mark.parametrize("kind", [GitConfig, GitVisionConfig])
def test_extra_and_the_entries_of_a_file_are_mappings(kind: type[GitConfig]) -> None:
    words = rf"{kind.__name__}\.extra is 3; expected a mapping"
    with pytest.raises(ValueError, match=words):
        kind(extra=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=words):
        kind(extra=3, output_attentions=True)  # type: ignore[arg-type, call-arg]
    with pytest.raises(TypeError, match=rf"{kind.__name__}\.from_dict got a list; expected a map"):
        kind.from_dict([1])  # type: ignore[arg-type]


def test_numbers_of_numpy_are_as_good_as_pythons() -> None:
    config = GitConfig(
        hidden_size=np.int64(24),
        layer_norm_eps=np.float32(0.5),
        use_cache=np.False_,
        eos_token_id=np.array([1, 2]),
        extra={"mine": np.int64(3), "several": np.array([0.5])},
    )  # type: ignore[arg-type]
    assert type(config.hidden_size) is int
    again = GitConfig.from_dict(json.loads(config.to_json_string()))
    assert (again.layer_norm_eps, again.use_cache, again.eos_token_id) == (0.5, False, [1, 2])
    assert again.extra == {"mine": 3, "several": [0.5]}


def test_several_end_tokens_are_possible() -> None:
    assert GitConfig(eos_token_id=[102, 103]).eos_token_id == [102, 103]


@pytest.mark.parametrize("name", ["hidden_size", "patch_size"])
def test_an_impossible_value_of_the_nested_config_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^GitVisionConfig\.{name} is -3; expected "):
        GitConfig.from_dict({"vision_config": {name: -3}})


@pytest.mark.parametrize("config", [testing.VISION, {}, None, "git"])
def test_a_model_refuses_another_models_config(config: Any) -> None:
    with pytest.raises(TypeError, match=r"config of type .*; expected GitConfig"):
        GitForCausalLM(config)
