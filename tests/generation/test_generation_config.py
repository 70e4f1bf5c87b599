"""GenerationConfig: its fields and file, and what a call may put on top of it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refgit import CheckpointError, testing
from refgit.generation.config import DEFAULTS, NAMES, NULLABLE, GenerationConfig
from refgit.generation.config.checks import NOT_HERE
from refgit.generation.config.constraints import PhrasalConstraint
from refgit.generation.request import Request
from refgit.generation.resolve import check_combination, fill, resolve
from refgit.generation.search import choose

PLAIN = GenerationConfig()


def merge(defaults: GenerationConfig, given: dict[str, Any], **more: Any) -> GenerationConfig:
    """The settings of a call, in a model that has room for any text."""
    return resolve(defaults, Request(arguments=given, **more), room=10**6).config


# ---- fields


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "max_length": [0, -1, 2.0, True, "20"],
        "max_new_tokens": [0, 1.5],
        "min_length": [-1, None],
        "min_new_tokens": [-1],
        "early_stopping": ["always", 2],
        "max_time": [-1, "1", math.nan],
        "stop_strings": ["", [], [1]],
        "do_sample": [1, None],
        "num_beams": [0, None],
        "num_beam_groups": [0],
        "penalty_alpha": [-0.1],
        "use_cache": ["yes"],
        "temperature": [-1, math.inf],
        "top_k": [-1, 1.0],
        "top_p": [1.1, -0.1],
        "min_p": [2],
        "typical_p": [1.5],
        "epsilon_cutoff": [1.0],
        "eta_cutoff": [-0.1],
        "diversity_penalty": [-1],
        "repetition_penalty": [0],
        "encoder_repetition_penalty": [-2],
        "length_penalty": [None, math.nan],
        "beam_scoring": [None, "paper", ["microsoft"]],
        "no_repeat_ngram_size": [-1],
        "encoder_no_repeat_ngram_size": [1.0],
        "bad_words_ids": [[1], [[]], [[-1]]],
        "force_words_ids": [[], [1], [[[]]]],
        "renormalize_logits": [None],
        "constraints": [[], ["a"]],
        "forced_bos_token_id": [-1, [1]],
        "forced_eos_token_id": [-1, []],
        "remove_invalid_values": [0],
        "exponential_decay_length_penalty": [[1], [1, 0], ["a", 1.0]],
        "suppress_tokens": [1, [-1]],
        "begin_suppress_tokens": ["a"],
        "sequence_bias": [{}, {1: 1.0}, [[1, 2]]],
        "guidance_scale": ["a"],
        "no_immediate_repeat": [None],
        "num_return_sequences": [0],
        "output_attentions": [None],
        "output_hidden_states": [1],
        "output_scores": ["a"],
        "output_logits": [0],
        "return_dict_in_generate": [None],
        "pad_token_id": [-1, [0]],
        "bos_token_id": [1.0],
        "eos_token_id": [-1, [], [1, "a"]],
    }.items(),
)
def test_an_impossible_value_is_refused_by_name(name: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(ValueError, match=rf"GenerationConfig\.{name} is .*expected"):
            GenerationConfig(**{name: value})


def test_every_field_is_checked_in_the_test_above() -> None:
    (mark,) = test_an_impossible_value_is_refused_by_name.pytestmark
    assert {name for name, _ in mark.args[1]} == set(NAMES)


def test_none_turns_off_what_it_can() -> None:
    config = GenerationConfig(**dict.fromkeys(NULLABLE))
    assert all(getattr(config, name) is None for name in NULLABLE)
    for name in set(NAMES) - NULLABLE:
        with pytest.raises(ValueError, match=name):
            PLAIN.replace(**{name: None})


def test_end_and_filling_tokens() -> None:
    assert PLAIN.eos_ids == []
    assert GenerationConfig(eos_token_id=3).eos_ids == [3]
    assert GenerationConfig(eos_token_id=[3, 4]).eos_ids == [3, 4]
    assert PLAIN.filler_id == 0
    assert GenerationConfig(eos_token_id=[3, 4]).filler_id == 3
    assert GenerationConfig(eos_token_id=3, pad_token_id=0).filler_id == 0


# ---- files


def read(folder: Path, **values: Any) -> GenerationConfig:
    (folder / "generation_config.json").write_text(json.dumps(values))
    return GenerationConfig.from_pretrained(folder, testing.CONFIG)


def test_a_file_is_written_and_read_to_equal_values(tmp_path: Path) -> None:
    config = GenerationConfig(
        max_length=9, num_beams=4, top_k=None, eos_token_id=[2, 3], bad_words_ids=[[1], [2, 3]],
        early_stopping="never", exponential_decay_length_penalty=[3, 1.5], extra={"other": [1]},
    )  # fmt: skip
    config.save_pretrained(tmp_path / "new")
    again = GenerationConfig.from_pretrained(tmp_path / "new", testing.CONFIG)
    assert again == config
    assert GenerationConfig.from_dict(config.to_dict()) == config
    assert not list((tmp_path / "new").glob("*.partial"))


def test_a_file_holds_what_differs_from_the_defaults_and_unknown_keys(tmp_path: Path) -> None:
    values = {"top_k": None, "num_beams": 3, "eos_token_id": 2, "transformers_version": "4.30"}
    config = read(tmp_path, **values, do_sample=False, top_p=1.0, pad_token_id=None)
    assert json.loads(config.to_json_string()) == values
    assert config.changed() == {"top_k": None, "num_beams": 3, "eos_token_id": 2}
    assert config.extra == {"transformers_version": "4.30"}


def test_null_is_the_default_where_a_field_cannot_be_none(tmp_path: Path) -> None:
    assert read(tmp_path, **dict.fromkeys(set(NAMES) - NULLABLE)) == PLAIN
    assert read(tmp_path, top_k=None).top_k is None


def test_biases_are_written_as_a_list(tmp_path: Path) -> None:
    config = GenerationConfig(sequence_bias={(1, 2): 0.5, (3,): -1.0})
    config.save_pretrained(tmp_path)
    again = GenerationConfig.from_pretrained(tmp_path, testing.CONFIG)
    assert again.sequence_bias == [[[1, 2], 0.5], [[3], -1.0]]


def test_numbers_and_arrays_of_numpy_become_plain_and_are_written(tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "max_length": np.int64(5),
        "temperature": np.float32(0.5),
        "do_sample": np.True_,
        "eos_token_id": np.array([2, 3]),
        "bad_words_ids": [np.array([4]), [np.int32(5), 6]],
        "force_words_ids": [[np.array([7])]],
        "exponential_decay_length_penalty": (np.int64(3), np.float64(1.5)),
        "sequence_bias": {(np.int64(1), 2): np.float32(-1.5)},
        "extra": {"other": np.int64(1), "several": [np.float32(0.5)]},
    }
    config = GenerationConfig(**values)
    assert type(config.max_length) is int
    assert type(config.do_sample) is bool
    assert config.bad_words_ids == [[4], [5, 6]]
    assert config.sequence_bias == {(1, 2): -1.5}
    assert json.loads(config.to_json_string()) == {
        "max_length": 5, "temperature": 0.5, "do_sample": True, "eos_token_id": [2, 3],
        "bad_words_ids": [[4], [5, 6]], "force_words_ids": [[[7]]],
        "exponential_decay_length_penalty": [3, 1.5], "sequence_bias": [[[1, 2], -1.5]],
        "other": 1, "several": [0.5],
    }  # fmt: skip
    model = testing.tiny_model()
    model.generation_config = config
    model.save_pretrained(tmp_path)
    assert GenerationConfig.from_pretrained(tmp_path, testing.CONFIG).max_length == 5


@pytest.mark.parametrize("bias", [math.inf, -math.inf])
def test_an_infinite_bias_is_taken_but_cannot_be_written(bias: float) -> None:
    for biases in ({(1,): 0.5, (2,): bias}, [[[1], 0.5], [[2], bias]]):
        config = GenerationConfig(sequence_bias=biases)
        with pytest.raises(ValueError, match=r"\.sequence_bias is .*finite numbers"):
            config.to_json_string()


def test_extra_and_the_entries_of_a_file_are_mappings() -> None:
    with pytest.raises(ValueError, match=r"GenerationConfig\.extra is 3; expected a mapping"):
        GenerationConfig(extra=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"from_dict got a list; expected a mapping"):
        GenerationConfig.from_dict([1])  # type: ignore[arg-type]


def test_constraints_cannot_be_written() -> None:
    config = GenerationConfig(constraints=[PhrasalConstraint([1])])
    with pytest.raises(ValueError, match=r"constraints.*force_words_ids"):
        config.to_json_string()


def test_a_file_with_an_impossible_value_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"generation_config.json.*top_p is 3"):
        read(tmp_path, top_p=3)


def test_without_a_file_the_models_config_serves(tmp_path: Path) -> None:
    config = GenerationConfig.from_pretrained(tmp_path, testing.CONFIG)
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (1, 2, 0)
    old = testing.CONFIG.replace(
        use_cache=False, extra={"num_beams": 3, "top_k": None, "output_scores": True, "x": 1}
    )
    config = GenerationConfig.of(old)
    assert (config.num_beams, config.top_k, config.use_cache) == (3, 50, False)
    assert config.return_dict_in_generate
    assert config.extra == {}


# ---- a call


def test_the_caller_stands_above_the_checkpoint() -> None:
    defaults = GenerationConfig(max_length=7, num_beams=2, eos_token_id=3)
    merged = merge(defaults, {"num_beams": 4, "min_length": 2, "eos_token_id": None})
    assert merged == defaults.replace(num_beams=4, min_length=2, eos_token_id=None)
    assert merge(defaults, {}) == defaults


def test_none_is_not_given_where_a_field_cannot_be_none() -> None:
    defaults = GenerationConfig(max_length=7, do_sample=True, top_k=5)
    assert merge(defaults, {"max_length": None, "do_sample": None}) == defaults
    assert merge(defaults, {"top_k": None}).top_k is None


def test_numbers_and_arrays_of_numpy_are_taken() -> None:
    values = {
        "max_new_tokens": np.int64(3),
        "eos_token_id": np.array([2, 3]),
        "length_penalty": np.float32(0.5),
        "num_beams": np.array(2),
    }
    merged = merge(PLAIN, values)
    assert merged.eos_token_id == [2, 3]
    assert (merged.max_new_tokens, merged.length_penalty, merged.num_beams) == (3, 0.5, 2)
    json.loads(merged.to_json_string())


@pytest.mark.parametrize(
    ("name", "near"),
    [("max_lenght", "max_length"), ("beams", "num_beams"), ("assistent_model", "assistant_model")],
)
def test_an_unknown_argument_is_named_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(TypeError, match=rf"'{name}'; did you mean {near}\?"):
        merge(PLAIN, {name: 3})


def test_an_unknown_argument_like_no_other_is_named() -> None:
    with pytest.raises(TypeError, match=r"no argument 'xyzzy'\."):
        merge(PLAIN, {"xyzzy": None})


@pytest.mark.parametrize("name", NOT_HERE)
def test_what_refgit_does_not_have_is_refused_unless_it_asks_for_nothing(name: str) -> None:
    harmless, _ = NOT_HERE[name]
    for value in harmless:
        assert merge(PLAIN, {name: value}) == PLAIN
    if name != "disable_compile":  # nothing is compiled, whatever it says
        with pytest.raises(ValueError, match=rf"{name} is .*Leave the argument out"):
            merge(PLAIN, {name: object()})
    assert name not in NAMES


def test_what_a_file_asks_for_beyond_refgit_is_refused_at_the_call(tmp_path: Path) -> None:
    config = read(tmp_path, watermarking_config={"bias": 2.0})
    with pytest.raises(ValueError, match=r"generation_config.json.*watermarking_config=None"):
        merge(config, {})
    assert merge(config, {"watermarking_config": None}) == config
    config = read(tmp_path, token_healing=True)
    with pytest.raises(ValueError, match=r"token_healing=True.*token_healing=False"):
        merge(config, {})
    harmless = read(tmp_path, token_healing=False, num_assistant_tokens=5, cache_config={})
    assert merge(harmless, {}) == harmless


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"temperature": 0.7}, "temperature is 0.7.*do_sample=True"),
        ({"top_k": 5}, "top_k.*do_sample=True"),
        ({"top_p": 0.9, "num_beams": 2}, "top_p.*do_sample=True"),
        ({"min_p": 0.1}, "min_p"),
        ({"typical_p": 0.5}, "typical_p"),
        ({"epsilon_cutoff": 0.1}, "epsilon_cutoff"),
        ({"eta_cutoff": 0.1}, "eta_cutoff"),
        ({"early_stopping": True}, "early_stopping is True.*num_beams above 1"),
        ({"early_stopping": "never"}, "early_stopping"),
        ({"length_penalty": 0.6}, "length_penalty"),
        ({"num_beam_groups": 2}, "num_beam_groups.*num_beams"),
        ({"diversity_penalty": 1.0}, "diversity_penalty.*num_beams"),
        ({"penalty_alpha": 0.6, "do_sample": True}, "penalty_alpha.*do_sample=False"),
        ({"penalty_alpha": 0.6, "num_beams": 2}, "penalty_alpha.*num_beams=1"),
        ({"penalty_alpha": 0.6, "top_k": 1}, "top_k|penalty_alpha"),
        ({"output_scores": True}, "output_scores.*return_dict_in_generate=True"),
        ({"output_logits": True}, "output_logits"),
        ({"min_length": 9, "max_length": 5}, "min_length is 9 and max_length is 5"),
        ({"min_new_tokens": 9, "max_new_tokens": 5}, "min_new_tokens"),
    ],
)
def test_what_would_have_no_effect_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        merge(PLAIN, values)
    # but a file may have it: it serves other calls too
    assert merge(PLAIN.replace(**values), {}) == PLAIN.replace(**values)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"num_return_sequences": 2}, "num_return_sequences is 2, num_beams 1.*do_sample"),
        ({"num_return_sequences": 3, "num_beams": 2}, "num_return_sequences is 3 and num_beams 2"),
        ({"do_sample": True, "temperature": 0.0}, "temperature is 0.*do_sample"),
        ({"num_beams": 5, "num_beam_groups": 2, "diversity_penalty": 1.0}, "num_beams is 5.*2"),
        ({"num_beams": 4, "num_beam_groups": 2}, "num_beam_groups.*diversity_penalty"),
        ({"num_beams": 4, "diversity_penalty": 1.0}, "num_beam_groups 1.*diversity_penalty"),
        (
            {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0, "do_sample": True},
            "num_beam_groups.*do_sample",
        ),
        ({"force_words_ids": [[1]]}, "force_words_ids.*num_beams is 1"),
        ({"constraints": [PhrasalConstraint([1])]}, "constraints.*num_beams is 1"),
        ({"force_words_ids": [[1]], "num_beams": 2, "do_sample": True}, "force_words_ids.*do_samp"),
        (
            {"force_words_ids": [[1]], "num_beams": 2, "num_beam_groups": 2},
            "force_words_ids.*num_beam_groups",
        ),
        ({"beam_scoring": "microsoft", "num_beams": 2, "do_sample": True}, "beam_scoring.*sampl"),
        (
            {"beam_scoring": "microsoft", "num_beams": 2, "length_penalty": -1.0},
            "length_penalty is -1.*beam_scoring",
        ),
    ],
)
def test_what_contradicts_itself_is_refused_whoever_asks(
    values: dict[str, Any], words: str
) -> None:
    for defaults, given in ((PLAIN, values), (PLAIN.replace(**values), {})):
        with pytest.raises(ValueError, match=words):
            merge(defaults, given)
    with pytest.raises(ValueError, match=words):
        check_combination(PLAIN.replace(**values))


@pytest.mark.parametrize(
    "values",
    [
        {name: DEFAULTS[name] for name in NAMES if DEFAULTS[name] is not None},
        {"temperature": 0.0, "top_k": 0, "min_p": 0.0, "penalty_alpha": 0.0},
        {"do_sample": True, "temperature": 0.7, "top_k": 5, "top_p": 0.9, "num_beams": 2},
        {"num_beams": 4, "early_stopping": True, "length_penalty": 0.6, "num_return_sequences": 4},
        {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0},
        {"num_beams": 4, "force_words_ids": [[1], [[2], [3]]]},
        {"penalty_alpha": 0.6, "top_k": 4},
        {"output_scores": True, "return_dict_in_generate": True},
        {"max_length": 3, "max_new_tokens": 5},
        {"min_length": 5, "max_length": 5},
        {"num_beams": 4, "beam_scoring": "microsoft", "length_penalty": 0.0},
    ],
)
def test_what_fits_together_is_taken(values: dict[str, Any]) -> None:
    assert merge(PLAIN, values) == PLAIN.replace(**values)


@pytest.mark.parametrize(
    ("mode", "values"),
    [
        ("greedy", {}),
        ("greedy", {"penalty_alpha": 0.6, "top_k": 1}),
        ("greedy", {"penalty_alpha": 0.0}),
        ("contrastive", {"penalty_alpha": 0.6}),
        ("sample", {"penalty_alpha": 0.6, "do_sample": True}),
        ("sample", {"do_sample": True}),
        ("beam", {"num_beams": 2, "penalty_alpha": 0.6}),
        ("beam_sample", {"num_beams": 2, "do_sample": True}),
        ("group_beam", {"num_beams": 2, "num_beam_groups": 2}),
        ("constrained_beam", {"num_beams": 2, "force_words_ids": [[1]]}),
        ("constrained_beam", {"num_beams": 2, "constraints": [PhrasalConstraint([1])]}),
        ("microsoft_beam", {"num_beams": 2, "beam_scoring": "microsoft"}),
    ],
)
def test_the_search_that_a_config_means(mode: str, values: dict[str, Any]) -> None:
    assert choose(GenerationConfig(**values)).name == mode


# ---- a config given to the call


def test_a_calls_own_config_takes_from_the_models_what_it_leaves_at_the_default() -> None:
    model = GenerationConfig(num_beams=3, top_p=0.8, eos_token_id=2, extra={"a": 1, "b": 1})
    own = GenerationConfig(top_p=0.7, do_sample=True, extra={"b": 2})
    filled = fill(own, model)
    assert (filled.num_beams, filled.top_p, filled.eos_token_id) == (3, 0.7, 2)
    assert filled.extra == {"a": 1, "b": 2}
    assert merge(model, {"num_beams": 2}, generation_config=own) == filled.replace(num_beams=2)
    alone = fill(own, model, use_model_defaults=False)
    assert (alone.num_beams, alone.top_p, alone.eos_token_id) == (1, 0.7, 2)


@pytest.mark.parametrize(("version", "beams"), [("4.49.3", 1), ("4.50.0", 3), ("5.0", 3), (7, 3)])
def test_models_older_than_4_50_give_their_ids_alone(version: Any, beams: int) -> None:
    model = GenerationConfig(num_beams=3, eos_token_id=2, extra={"transformers_version": version})
    filled = fill(PLAIN, model)
    assert (filled.num_beams, filled.eos_token_id) == (beams, 2)
    assert fill(PLAIN, model, use_model_defaults=True).num_beams == 3


def test_temperature_0_of_a_calls_own_config_is_no_sampling() -> None:
    filled = fill(GenerationConfig(temperature=0.0), GenerationConfig(do_sample=True))
    assert not filled.do_sample
