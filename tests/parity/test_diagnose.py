"""The diagnosis: what is said about inputs, shapes, NaN, precisions, gaps and pixels."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers.graphs import hooks_of, inputs_of, model_of
from helpers.other_git import Mutation, OtherGit, canonical
from refgit.parity import diagnose
from refgit.parity.diagnosis.hypotheses import hypotheses_for
from refgit.parity.diagnosis.pixel_steps import geometries_of, values_of
from refgit.parity.diagnosis.pixels import diagnose_pixels
from refgit.parity.diagnosis.result import Cause, Diagnosis, Finding
from refgit.parity.diagnosis.search import Search
from refgit.parity.graph.graph import Graph, MissingTensorError, View
from refgit.parity.numerics.precision import cast
from refgit.processing import CLIPImageProcessor, load_image
from refgit.processing.reading import Reading
from refgit.testing import CONFIG, pixels, tiny_model, tokens
from refgit.traces.container import Trace
from refgit.traces.recorder import record
from refgit_backends import to_numpy

LAYER = "git.encoder.layer.1."
VISION = "git.image_encoder.vision_model."


@pytest.fixture(scope="module")
def model() -> Any:
    made = tiny_model()
    rng = np.random.default_rng(1)
    for array in made.state_dict().values():
        array += 0.1 * rng.standard_normal(array.shape).astype(np.float32)
    return made


def inputs(**more: Any) -> dict[str, Any]:
    return {"input.pixel_values": pixels(), "input.input_ids": tokens()} | more


def other(model: Any, *mutations: Mutation, steps: int = 0, **options: Any) -> dict[str, Any]:
    git = OtherGit(model.state_dict(), CONFIG.to_dict(), list(mutations), **options)
    new = [np.array([[5 + i]]) for i in range(steps)]
    return git.run(pixels(), tokens(), step_ids=new)


# ---- hypotheses


RICH = {
    "config": {
        "vision_config": {
            "hidden_size": 8, "intermediate_size": 10, "num_hidden_layers": 2,
            "num_attention_heads": 2, "image_size": 6, "patch_size": 2,
        },
        "vocab_size": 31, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 10, "max_position_embeddings": 120, "num_image_with_embedding": 3,
    },
    "size": [8, 6], "frames": 2, "images": 1, "repeat": 2, "length": 3, "padding": "left",
    "positions": False, "head_mask": True, "embeds": False, "steps": [1], "prune": False,
    "seed": 0,
}  # fmt: skip


@pytest.mark.parametrize("kind", ["absolute", "relative_key", "relative_key_query"])
def test_every_hypothesis_gives_a_tensor_or_says_that_it_does_not_apply(kind: str) -> None:
    case = RICH | {"config": RICH["config"] | {"position_embedding_type": kind}}  # type: ignore[operator]
    made = model_of(case)
    given, hooks = hooks_of(case, made, inputs_of(case, made))
    graph = Graph(made.parameters, made.config, given)
    view = View(graph, given | hooks)
    applied: dict[str, set[bool]] = {}
    for node in graph.nodes.values():
        right = view[node.name]
        for hypothesis in hypotheses_for(node, graph):
            assert hypothesis.text
            assert not hypothesis.text.endswith(".")
            try:
                found = graph.compute(
                    node.name, given | hooks, {hypothesis.node: hypothesis.recipe}
                )
            except (MissingTensorError, ValueError):
                continue
            assert found.dtype == np.float64
            differs = found.shape != right.shape or not np.allclose(found, right, atol=1e-12)
            applied.setdefault(hypothesis.name, set()).add(differs)
    assert len(applied) > 150
    same_here = {name for name, differs in applied.items() if differs == {False}}
    # of the same effect as the right one in this model, not in others
    assert len(same_here) <= 8, same_here


def test_two_mistakes_at_one_node_have_two_names(model: Any) -> None:
    """Else they would pass for one mistake that is made at several nodes."""
    graph = Graph(model.state_dict(), model.config, inputs())
    for node in graph.nodes.values():
        # the inputs of this layer and of the one before share a name
        names = [h.name for h in hypotheses_for(node, graph) if not h.name.startswith("reads ")]
        assert len(names) == len(set(names))
    names = [
        h.name
        for h in hypotheses_for(graph.nodes["git.encoder.layer.1.attention.self.query"], graph)
    ]
    assert "input normalised by attention.output.LayerNorm" in names
    assert "input normalised by output.LayerNorm" in names
    assert "bias swapped: key, query" in names


# ---- what is said


def test_nothing_is_wrong_with_the_model_itself(model: Any) -> None:
    hooks: dict[str, Any] = {}
    model(input_ids=tokens(), pixel_values=pixels(), hook=hooks.__setitem__)
    diagnosis = diagnose(inputs(), hooks, model)
    assert diagnosis.ok
    assert diagnosis.located is None
    assert diagnosis.causes == []
    assert diagnosis.checked == len(hooks)
    assert diagnosis.sentences == [
        f"Each of {len(hooks)} tensors follows from your own inputs to it, within the noise of "
        "rounding."
    ]


def test_a_sentence_says_where_what_and_how_well(model: Any) -> None:
    wrong = other(model, Mutation("t.act", "gelu_new", 1))
    (sentence,) = diagnose(inputs(), wrong, model).sentences
    assert sentence.startswith("decoder layer 1, MLP activation: your activation is tanh-gelu")
    assert "(by itself, on your own inputs, it is off by " in sentence
    assert " noise floors; with this cause " in sentence


def test_one_mistake_in_several_layers_is_one_sentence(model: Any) -> None:
    wrong = other(model, *(Mutation("t.mask", "causal", i) for i in range(3)))
    diagnosis = diagnose(inputs(), wrong, model)
    assert len(diagnosis.findings) == 3
    (sentence,) = diagnosis.sentences
    assert sentence.startswith("decoder layers 0-2, attention probabilities: your mask is causal")


def test_positions_that_count_the_image_are_named_from_a_step(model: Any) -> None:
    given = inputs(**{"step.1.input.input_ids": np.array([[5]])})
    wrong = other(model, Mutation("pos", "step_behind_image"), steps=1)
    diagnosis = diagnose(given, wrong, model)
    assert diagnosis.located == "step.1.git.embeddings.position_embeddings"
    (sentence,) = diagnosis.sentences
    assert sentence.startswith(
        "decoding step 1, position embedding: your text positions start at the length of the "
        "cache, image tokens counted in"
    )


@pytest.mark.slow
def test_positions_that_count_the_image_are_named_from_the_layers_alone(model: Any) -> None:
    given = inputs(**{"step.1.input.input_ids": np.array([[5]])})
    wrong = other(model, Mutation("pos", "step_behind_image"), steps=1)
    shown = {name: x for name, x in wrong.items() if name.endswith("output.LayerNorm")}
    diagnosis = diagnose(given, shown, model)
    assert diagnosis.located is not None
    assert diagnosis.located.startswith("step.1.")
    assert diagnosis.causes[0].hypothesis == "positions behind the image"
    assert diagnosis.causes[0].node == "step.1.git.embeddings.position_embeddings"


def test_the_diagnosis_is_json(model: Any) -> None:
    wrong = other(model, Mutation("vemb", "no_class"))
    wrong[f"{LAYER}intermediate.dense"][0, 0, 0] = np.nan
    found = json.loads(json.dumps(diagnose(inputs(), wrong, model).to_dict(), allow_nan=False))
    assert found["located"] == f"{VISION}embeddings"
    assert not found["ok"]
    first = found["findings"][0]
    assert first["multiples"] is None  # another shape
    assert first["causes"][0]["hypothesis"] == "class token missing"


def test_a_wrong_shape_is_said(model: Any) -> None:
    wrong = other(model)
    name = f"{LAYER}intermediate.dense"
    wrong[name] = wrong[name][:, :, :-1]
    diagnosis = diagnose(inputs(), wrong, model)
    assert diagnosis.located == name
    assert diagnosis.findings[0].note == "its shape is (1, 9, 23); expected (1, 9, 24)"
    assert "its shape is (1, 9, 23); expected (1, 9, 24)" in diagnosis.sentences[0]


def test_nan_is_located_and_counted(model: Any) -> None:
    wrong = other(model)
    wrong[f"{LAYER}output.dense"][0, 3, 2:4] = np.nan
    diagnosis = diagnose(inputs(), wrong, model)
    assert diagnosis.located == f"{LAYER}output.dense"
    said = "2 of its 144 values are not finite, the first at [0, 3, 2]"
    assert diagnosis.findings[0].note == said
    assert said in diagnosis.sentences[0]
    # what is computed from NaN is NaN: no blame for that, nor for being right all the same
    assert [f.name for f in diagnosis.findings] == [f"{LAYER}output.dense"]


def test_which_tokens_are_wrong_is_said(model: Any) -> None:
    wrong = other(model)
    wrong[f"{LAYER}attention.self.value"][0, 5:7] += 0.1 * np.arange(16)
    note = diagnose(inputs(), wrong, model).findings[0].note
    assert note.startswith("only tokens 5-6 of (1, 9, 16)")


def test_dropout_is_recognised(model: Any) -> None:
    wrong = other(model)
    name = f"{LAYER}intermediate.intermediate_act_fn"
    kept = np.random.default_rng(0).random(wrong[name].shape) > 0.1
    wrong[name] = (wrong[name] * kept / 0.9).astype(np.float32)
    cause = diagnose(inputs(), wrong, model).causes[0]
    assert cause.hypothesis == "dropout"
    assert "the rest 1.111 times what they should be" in cause.text


def test_a_factor_is_recognised_and_named(model: Any) -> None:
    wrong = other(model)
    wrong["output"] = wrong["output"] * np.float32(4.0)
    cause = diagnose(inputs(), wrong, model).causes[0]
    assert cause.text == "its values are 4 times what they should be (sqrt(D))"


def test_dropout_in_a_sum_is_recognised(model: Any) -> None:
    wrong = other(model)
    name = f"{LAYER}attention.output"
    branch = wrong[f"{name}.dense"]
    kept = np.random.default_rng(0).random(branch.shape) > 0.1
    start = wrong["git.encoder.layer.0.output.LayerNorm"]
    wrong[f"{name}.residual"] = start + branch * kept / np.float32(0.9)
    finding = diagnose(inputs(), wrong, model).findings[0]
    assert finding.name == f"{name}.residual"
    assert finding.causes[0].hypothesis == "dropout"


def test_dropout_of_the_text_embedding_is_recognised(model: Any) -> None:
    wrong = other(model)
    text = wrong["git.embeddings.LayerNorm"]
    kept = np.random.default_rng(0).random(text.shape) > 0.1
    image = wrong["git.visual_projection.visual_projection.1"]
    joint = np.concatenate([image, text * kept / 0.9], axis=1)
    for part in ("query", "key", "value"):
        name = f"git.encoder.layer.0.attention.self.{part}"
        weight, bias = (to_numpy(model.state_dict()[f"{name}.{x}"]) for x in ("weight", "bias"))
        wrong[name] = (joint @ weight.T.astype(np.float64) + bias).astype(np.float32)
    diagnosis = diagnose(inputs(), wrong, model)
    assert [f.causes[0].hypothesis for f in diagnosis.findings[:3]] == [
        "dropout of the embedding"
    ] * 3


def test_a_tensor_of_zeros_is_said_to_be_that(model: Any) -> None:
    wrong = other(model)
    wrong["output"] = np.zeros_like(wrong["output"])
    assert diagnose(inputs(), wrong, model).causes[0].text == "it is all zeros"


def test_a_factor_next_to_one_is_no_cause(model: Any) -> None:
    wrong = other(model)
    wrong["output"] = wrong["output"] * np.float32(1.0002)
    assert not [c for c in diagnose(inputs(), wrong, model).causes if "scaled" in c.hypothesis]


def test_doubled_scores_are_a_scale_and_no_dropout(model: Any) -> None:
    wrong = other(model)
    name = f"{LAYER}attention.self.scores"
    wrong[name] = wrong[name] * np.float32(0.5)
    finding = diagnose(inputs(), wrong, model).findings[0]
    assert finding.name == name
    assert "scale halved" in [c.hypothesis for c in finding.causes]
    assert not [c for c in finding.causes if "dropout" in c.text]


def test_two_other_explanations_are_named(model: Any) -> None:
    causes = [Cause(f"it is {x}", x, 1.0, "output") for x in ("a", "b", "c", "d")]
    found = Diagnosis([Finding("output", 50.0, causes)])
    assert found.sentences[0].endswith(
        "It may also be: it is b or: it is c (1 other explanations fit as well)."
    )


def test_one_token_with_another_eps_by_chance_is_no_finding(model: Any) -> None:
    """Three norms of one token with the same eps are; a lucky one is not."""
    graph = Graph(model.state_dict(), model.config, inputs())
    search = Search(graph, 8.0, 1e9)
    cause = Cause("eps", "eps 1e-05", 1.0, "x")
    findings = [Finding(f"n{i}", 4.0, [cause]) for i in range(3)]
    search.doubtful = {"n0", "n1", "n2"}
    assert search.confirmed(findings[:1]) == []
    assert search.confirmed(findings) == findings
    search.doubtful = set()
    assert search.confirmed(findings[:1]) == findings[:1]


def test_rows_of_a_batch_in_another_order_are_recognised(model: Any) -> None:
    ids = tokens(3)
    git = OtherGit(model.state_dict(), CONFIG.to_dict())
    wrong = git.run(pixels(3), ids)
    wrong["output"] = wrong["output"][[2, 0, 1]]
    given = {"input.pixel_values": pixels(3), "input.input_ids": ids}
    cause = diagnose(given, wrong, model).causes[0]
    assert cause.text == "the sequences of the batch are mixed up: it holds the sequences 2, 0, 1"


def test_scores_that_hold_the_mask_already_are_no_mistake(model: Any) -> None:
    shown = other(model)
    sees = np.tri(9, dtype=bool) | (np.arange(9) < 5)
    for i in range(3):
        name = f"git.encoder.layer.{i}.attention.self.scores"
        shown[name] = np.where(sees, shown[name], np.float32(-np.inf if i else -1e9))
    assert diagnose(inputs(), shown, model).ok


# ---- precision


def test_values_of_float16_in_a_float32_trace_are_said(model: Any) -> None:
    wrong = other(model)
    name = f"{LAYER}attention.self.key"
    wrong[name] = wrong[name].astype(np.float16).astype(np.float32)
    cause = diagnose(inputs(), wrong, model).causes[0]
    assert cause.hypothesis == "float16 values"


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_a_trace_that_says_it_is_half_precision_is_judged_by_its_own_noise(
    model: Any, kind: str
) -> None:
    class Said(dict[str, Any]):
        meta = {"dtype": kind}  # noqa: RUF012

    shown = Said({name: cast(x, kind) for name, x in other(model).items()})
    half = np.dtype(np.float16) if kind == "float16" else np.dtype(np.float32)
    assert {x.dtype for x in shown.values()} == {half}
    assert diagnose(inputs(), shown, model).ok
    shown.meta = {"dtype": "float32"}
    assert diagnose(inputs(), shown, model).ok == (kind == "float16")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_precision_stored_as_float32_is_recognised(model: Any, kind: str) -> None:
    ids = {"step.1.input.input_ids": np.array([[5]])}
    shown = {name: cast(x, kind) for name, x in other(model, steps=1).items()}
    shown |= {"input.pixel_values": cast(pixels(), kind)}
    shown = {name: x.astype(np.float32) for name, x in shown.items()}
    assert diagnose(inputs(**ids), shown, model, precision=kind).sentences[0].startswith("Each of")
    assert diagnose(inputs(**ids), Trace(shown), model).ok
    found = diagnose(inputs(**ids), shown, model)
    assert found.sentences[0] == (
        f"Your input.pixel_values already differs: your pixels are rounded to {kind}."
    )


def test_a_wrong_port_in_half_precision_is_still_found(model: Any) -> None:
    wrong = other(model, Mutation("t.res1", "missing", 1))
    shown = {name: cast(x, "bfloat16") for name, x in wrong.items()}
    diagnosis = diagnose(inputs(), shown, model, precision="bfloat16")
    assert [f.name for f in diagnosis.findings] == [f"{LAYER}attention.output.residual"]
    assert diagnosis.causes[0].hypothesis == "residual missing"


def linear_of(model: Any, weight: Any) -> dict[str, Any]:
    """A right trace but for one linear map, which has this weight."""
    shown = other(model)
    name = f"{LAYER}output.dense"
    x = shown[f"{LAYER}intermediate.intermediate_act_fn"].astype(np.float64)
    bias = to_numpy(model.state_dict()[f"{name}.bias"])
    y = (x @ weight.T + bias).astype(np.float32)
    after = diagnose(inputs(), shown | {name: y}, model).findings
    return {f.name: f for f in after}[name]  # type: ignore[return-value]


def test_one_wrong_weight_is_not_taken_for_rounding(model: Any) -> None:
    weight = np.array(to_numpy(model.state_dict()[f"{LAYER}output.dense.weight"]), np.float64)
    noise = np.random.default_rng(3).standard_normal(weight.shape)
    finding: Any = linear_of(model, weight + 2e-3 * noise)
    assert finding.causes == []
    scale = np.abs(weight).max() / 127
    finding = linear_of(model, np.round(weight / scale) * scale)
    assert finding.causes[0].hypothesis == "int8 weights, one scale"
    assert len(finding.causes) == 1


def test_an_error_of_the_size_of_half_precision_is_a_note_and_no_cause(model: Any) -> None:
    wrong = other(model)
    name = "output"
    rng = np.random.default_rng(0)
    size = np.abs(wrong[name]).max() * 2.0**-12
    wrong[name] = (wrong[name] + size * rng.uniform(-1, 1, wrong[name].shape)).astype(np.float32)
    (sentence,) = diagnose(inputs(), wrong, model).sentences
    assert "no hypothesis reproduces it; its error is as large as that of float16" in sentence


# ---- inputs


@pytest.mark.slow
def test_other_words_in_a_step_are_said_once_and_without_an_offset(model: Any) -> None:
    given = inputs(**{f"step.{i}.input.input_ids": np.array([[4 + i]]) for i in (1, 2)})
    shown = other(model, steps=2) | {name: x + 1 for name, x in given.items() if "step" in name}
    said = [s for s in diagnose(given, shown, model).sentences if s.startswith("Your")]
    assert said == [
        "Your step.1.input.input_ids already differs: from decoding step 1 on your tokens "
        "differ: feed the same tokens."
    ]
    one = {"output": other(model)["output"], "input.input_ids": np.array([[6]])}
    given = {"input.pixel_values": pixels(), "input.input_ids": np.array([[5]])}
    sentences = diagnose(given, one, model).sentences
    assert sentences[0] == "Your input.input_ids already differs: give both the same inputs."


def test_words_that_a_trace_does_not_store_are_its_own_choice(model: Any) -> None:
    reference = record(model, pixel_values=pixels(), input_ids=tokens(), tokens=1)

    def run(*steps: Any) -> dict[str, Any]:
        git = OtherGit(model.state_dict(), CONFIG.to_dict(), [Mutation("head", "tied")])
        return git.run(pixels(), tokens(), step_ids=list(steps))

    first = run()["output"][:, -1].argmax(-1)[:, None]
    words = reference["step.1.input.input_ids"]
    assert not np.array_equal(first, words)
    shown = run(first)
    names = [f.name for f in diagnose(reference, shown, model).findings]
    assert names == ["output", "step.1.output"]


def test_ids_stored_as_floating_numbers_are_ids(model: Any) -> None:
    shown = other(model) | {"input.input_ids": tokens().astype(np.float32)}
    assert diagnose(inputs(), shown, model).ok


def test_a_batch_repeated_is_no_other_input(model: Any) -> None:
    given = {"input.pixel_values": pixels(), "input.input_ids": tokens()}
    git = OtherGit(model.state_dict(), CONFIG.to_dict())
    many = {name: np.concatenate([x, x, x]) for name, x in given.items()}
    shown = git.run(many["input.pixel_values"], many["input.input_ids"]) | many
    assert diagnose(given, shown, model).ok
    shown["input.input_ids"] = shown["input.input_ids"] + np.array([[0], [1], [0]])
    assert diagnose(given, shown, model).located == "input.input_ids"


def test_without_pixels_a_wrong_patch_embedding_may_be_another_picture(model: Any) -> None:
    git = OtherGit(model.state_dict(), CONFIG.to_dict())
    shown = git.run(pixels() ** 2, tokens())
    (sentence,) = diagnose(inputs(), shown, model).sentences
    assert sentence.startswith(
        "your picture may be another; store input.pixel_values; image encoder, patch embedding: "
    )


def test_bgr_pixels_rounded_to_bfloat16_are_still_bgr(model: Any) -> None:
    shown = other(model) | {"input.pixel_values": cast(pixels()[:, ::-1], "bfloat16")}
    assert diagnose(inputs(), shown, model).sentences[0] == (
        "Your input.pixel_values already differs: your colours are BGR; they should be RGB, and "
        "rounded to bfloat16."
    )


def test_other_inputs_are_said_first(model: Any) -> None:
    shown = other(model, Mutation("t.act", "relu", 0))
    shown["input.input_ids"] = tokens() + 1
    diagnosis = diagnose(inputs(), shown, model)
    assert diagnosis.located == "input.input_ids"
    assert diagnosis.sentences[0] == (
        "Your input.input_ids already differs: every one of your input_ids is +1 off."
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x[:, ::-1], "your colours are BGR; they should be RGB"),
        (lambda x: 2 * x + 1, "each channel is a x + b of the right one, with a = 2, 2, 2"),
        (lambda x: x[..., ::-1], "your image is mirrored"),
        (lambda x: x[..., ::-1, :], "your image is upside down"),
        (lambda x: np.swapaxes(x, 2, 3), "rows and columns of your image are swapped"),
    ],
)
def test_pixels_that_differ_by_a_simple_rule_are_explained(
    model: Any, change: Any, said: str
) -> None:
    shown = other(model) | {"input.pixel_values": change(pixels())}
    sentence = diagnose(inputs(), shown, model).sentences[0]
    assert sentence.startswith(f"Your input.pixel_values already differs: {said}")


def test_with_other_inputs_the_layers_are_still_judged_by_themselves(model: Any) -> None:
    git = OtherGit(model.state_dict(), CONFIG.to_dict())
    shown = git.run(pixels() * 2, tokens()) | {"input.pixel_values": pixels() * 2}
    names = [f.name for f in diagnose(inputs(), shown, model).findings]
    assert names == ["input.pixel_values"]


def test_shifted_ids_and_an_inverted_mask_are_explained(model: Any) -> None:
    mask = np.array([[0, 1, 1, 1]])
    given = inputs(**{"input.attention_mask": mask})
    shown = {
        "git.embeddings.sum": np.zeros((1, 4, 16), np.float32),
        "input.attention_mask": 1 - mask,
        "input.input_ids": np.roll(tokens(), 1, axis=1),
    }
    said = diagnose(given, shown, model).sentences
    assert (
        "Your input.input_ids already differs: your input_ids are shifted by one to the right."
        in (said)
    )
    assert "Your input.attention_mask already differs: your attention_mask is inverted." in said


def test_a_reference_without_inputs_is_refused(model: Any) -> None:
    with pytest.raises(ValueError, match=r"holds no input\.input_ids"):
        diagnose({}, other(model), model)


def test_names_that_are_none_of_the_models_are_refused(model: Any) -> None:
    with pytest.raises(ValueError, match="none of the other trace's 1 tensors has a name"):
        diagnose(inputs(), {"h.0.attn": np.zeros(3)}, model)


def test_words_that_the_other_chose_itself_are_no_mistake(model: Any) -> None:
    """A wrong first step chooses other tokens; what is named is the step, not the tokens."""
    git = OtherGit(model.state_dict(), CONFIG.to_dict(), [Mutation("pos", "step_behind_image")])
    given, words = inputs(), np.array([[5]])
    git.run(pixels(), tokens())
    for step in (1, 2):
        given[f"step.{step}.input.input_ids"] = np.array([[5]])
        git.step = step
        git.forward(words, None, None)
        words = git.hooks[f"{step}/logits"][:, -1].argmax(-1)[:, None]
    shown = canonical(git.hooks)
    own = shown["step.1.output"][:, -1].argmax(-1)[:, None]
    assert own != 5
    shown["step.2.input.input_ids"] = own
    diagnosis = diagnose(given, shown, model)
    assert diagnosis.located == "step.1.git.embeddings.position_embeddings"
    assert not [f for f in diagnosis.findings if "input" in f.name]
    # tokens that the other did not choose are a mistake, in the order of the calls
    shown["step.2.input.input_ids"] = (own + 1) % 23
    names = [f.name for f in diagnose(given, shown, model).findings]
    assert names[:2] == [
        "step.1.git.embeddings.position_embeddings",
        "step.2.input.input_ids",
    ]


def test_a_trace_of_refgit_is_diagnosed_as_it_is(model: Any) -> None:
    found = record(model, pixel_values=pixels(), input_ids=tokens(), tokens=2)
    assert diagnose(found, found, model).ok
    same = record(model, pixel_values=pixels(), input_ids=tokens(), tokens=2, dtype="float64")
    assert diagnose(found, same, model).ok


# ---- gaps


@pytest.fixture(scope="module")
def shallow() -> Any:
    """One layer in each tower, so that the whole of it is quickly searched."""
    config = CONFIG.replace(
        num_hidden_layers=1, vision_config=CONFIG.vision_config.replace(num_hidden_layers=1)
    )
    made = tiny_model(config=config)
    rng = np.random.default_rng(1)
    for array in made.state_dict().values():
        array += 0.1 * rng.standard_normal(array.shape).astype(np.float32)
    return made


def only_logits(shallow: Any, *mutations: Mutation) -> dict[str, Any]:
    git = OtherGit(shallow.state_dict(), shallow.config.to_dict(), list(mutations))
    return {"output": git.run(pixels(), tokens())["output"]}


@pytest.mark.slow
def test_from_the_logits_alone_it_says_what_cannot_be_told(shallow: Any) -> None:
    wrong = only_logits(shallow, Mutation("v.act", "relu", 0))
    diagnosis = diagnose(inputs(), wrong, shallow)
    assert diagnosis.located == "output"
    assert diagnosis.causes[0].hypothesis == "activation relu"
    assert diagnosis.causes[0].node == f"{VISION}encoder.layers.0.mlp.activation_fn"
    cause, more, limits = diagnosis.sentences
    assert "relu" in cause
    assert more == "The output of each layer in your trace would say more."
    assert limits.startswith("More than a layer lies between the tensors that are there")


@pytest.mark.slow
def test_a_mistake_made_everywhere_is_said_to_be_everywhere(shallow: Any) -> None:
    norms = ("v.ln1", "v.ln2", "pre", "post", "projnorm")
    wrong = only_logits(
        shallow, *(Mutation(x, "eps=1e-3", 0 if x[1] == "." else None) for x in norms)
    )
    cause = diagnose(inputs(), wrong, shallow).causes[0]
    assert cause.hypothesis == "eps 0.001"
    assert cause.everywhere
    assert cause.text.startswith("the image's side, at 5 places, such as ")


def test_hypotheses_that_are_left_out_are_counted(shallow: Any) -> None:
    wrong = only_logits(shallow, Mutation("v.fc1", "row_lost", 0))
    diagnosis = diagnose(inputs(), wrong, shallow, trials=12)
    more, said, limits = diagnosis.sentences
    assert more == "The output of each layer in your trace would say more."
    assert re.search(r"; \d+ of \d+ hypotheses were left out as far-fetched\. 12 hypotheses", said)
    assert limits.startswith("More than a layer lies between")
    assert diagnosis.findings[0].tried == 12


def test_logits_of_the_text_or_of_the_last_token_alone_are_compared(model: Any) -> None:
    shown = other(model)
    logits = shown["output"]
    for part in (logits[:, -4:], logits[:, -1]):
        assert diagnose(inputs(), shown | {"output": part}, model).ok
        assert not diagnose(inputs(), shown | {"output": part + np.float32(1)}, model).ok


# ---- pixels


PROCESSOR = CLIPImageProcessor(size={"shortest_edge": 33}, crop_size={"height": 28, "width": 28})


@pytest.fixture(scope="module")
def picture() -> Any:
    """A picture with edges and slopes, 61 x 92."""
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 256, (8, 12, 3)).astype(np.float64)
    fine = np.kron(coarse, np.ones((8, 8, 1)))[:61, :92]
    return np.clip(fine + rng.normal(0, 12, fine.shape), 0, 255).astype(np.uint8)


def test_right_pixels_have_nothing_to_explain(picture: Any) -> None:
    right = PROCESSOR(picture)["pixel_values"]
    assert diagnose_pixels(picture, PROCESSOR, right).ok
    assert diagnose_pixels(picture, PROCESSOR, to_numpy(right)[0]).ok


def test_a_picture_may_be_given_by_its_path(picture: Any, tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    Image.fromarray(picture).save(file)
    right = PROCESSOR(picture)["pixel_values"]
    assert diagnose_pixels(file, PROCESSOR, right).ok
    assert diagnose_pixels(str(file), PROCESSOR, right).ok


def test_the_first_geometry_and_the_first_values_are_the_processors(picture: Any) -> None:
    bytes_ = next(geometries_of(PROCESSOR)).make(picture)
    found = next(values_of(PROCESSOR)).make(bytes_)
    right = PROCESSOR(picture)["pixel_values"][0]
    np.testing.assert_allclose(found, right, rtol=0, atol=2e-6)


WAYS = [geometry.name for geometry in geometries_of(PROCESSOR)][1:]
KINDS = [values.name for values in values_of(PROCESSOR)][1:]


def made_by(name: str, picture: Any) -> Any:
    """The bytes of a geometry; None where it says that it changes nothing here."""
    try:
        way = next(g for g in geometries_of(PROCESSOR) if g.name == name)
        return np.asarray(way.make(picture), np.float32)
    except ValueError:
        return None


@pytest.mark.parametrize("name", WAYS)
def test_another_geometry_is_named(picture: Any, name: str) -> None:
    bytes_ = made_by(name, picture)
    if bytes_ is None or np.array_equal(bytes_, made_by("", picture)):
        assert name == "crop rounds to even"  # (33 - 28) / 2 is rounded to 2 by either way
        return
    wrong = next(values_of(PROCESSOR)).make(bytes_)
    diagnosis = diagnose_pixels(picture, PROCESSOR, wrong)
    found = diagnosis.causes[0].hypothesis
    assert found == name or np.array_equal(made_by(found, picture), bytes_)
    assert diagnosis.sentences[0].startswith("Your input.pixel_values already differs: ")


@pytest.mark.parametrize("name", KINDS)
def test_other_values_are_named(picture: Any, name: str) -> None:
    bytes_ = next(geometries_of(PROCESSOR)).make(picture)
    wrong = next(v for v in values_of(PROCESSOR) if v.name == name).make(bytes_)
    assert diagnose_pixels(picture, PROCESSOR, wrong).causes[0].hypothesis == name


def test_two_mistakes_in_the_preprocessing_are_named_together(picture: Any) -> None:
    bytes_ = np.asarray(PROCESSOR(
        picture, resample=2, do_rescale=False, do_normalize=False, data_format="channels_last"
    )["pixel_values"])[0]  # fmt: skip
    wrong = next(v for v in values_of(PROCESSOR) if v.name == "BGR").make(bytes_)
    cause = diagnose_pixels(picture, PROCESSOR, wrong).causes[0]
    assert cause.hypothesis == "resize bilinear + BGR"
    assert " and your colours are BGR" in cause.text


def test_pixels_that_no_way_gives_are_not_explained(picture: Any) -> None:
    wrong = PROCESSOR(picture)["pixel_values"] * 1.37
    diagnosis = diagnose_pixels(picture, PROCESSOR, wrong)
    assert not diagnosis.ok
    assert diagnosis.causes == []
    assert diagnosis.sentences == [
        "Your input.pixel_values already differs: give both the same inputs."
    ]


def test_pixels_of_several_pictures_are_refused(picture: Any) -> None:
    with pytest.raises(ValueError, match=r"other_pixels has shape \(2, 3, 28, 28\)"):
        diagnose_pixels(picture, PROCESSOR, np.zeros((2, 3, 28, 28)))


def photograph(folder: Path, picture: Any) -> Path:
    """A transparent picture that has to be turned."""
    alpha = np.where(picture[..., :1] > 100, 255, 0).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    file = folder / "photograph.png"
    Image.fromarray(np.concatenate([picture, alpha], axis=-1)).save(file, exif=exif)
    return file


@pytest.mark.parametrize(
    ("name", "mistake", "words"),
    [
        ("orientation", {"exif_transpose": False}, "your picture is not turned as its EXIF says"),
        ("background black", {"background": "black"}, "are black; here they are white"),
        ("background oracle", {"background": "oracle"}, "are what is stored below them; here"),
    ],
)
def test_another_way_of_reading_the_file_is_named(
    picture: Any, tmp_path: Path, name: str, mistake: dict[str, Any], words: str
) -> None:
    file = photograph(tmp_path, picture)
    wrong = PROCESSOR(load_image(file, **mistake))["pixel_values"]
    cause = diagnose_pixels(file, PROCESSOR, wrong).causes[0]
    assert (cause.hypothesis, words in cause.text) == (name, True)
    assert diagnose_pixels(file, PROCESSOR, wrong, Reading(**mistake)).ok


def test_a_wide_picture_that_is_clipped_is_named(tmp_path: Path, picture: Any) -> None:
    file = tmp_path / "wide.png"
    Image.fromarray(picture[..., 0].astype(np.uint16) * 257).save(file)
    with Image.open(file) as image:
        wrong = PROCESSOR(image)["pixel_values"]
    cause = diagnose_pixels(file, PROCESSOR, wrong).causes[0]
    assert cause.hypothesis == "clipped to bytes"
    assert diagnose_pixels(file, PROCESSOR, PROCESSOR(load_image(file))["pixel_values"]).ok


def test_reading_and_values_may_both_be_wrong(tmp_path: Path, picture: Any) -> None:
    file = photograph(tmp_path, picture)
    bytes_ = next(geometries_of(PROCESSOR)).make(
        np.asarray(load_image(file, exif_transpose=False).convert("RGB"))
    )
    wrong = next(v for v in values_of(PROCESSOR) if v.name == "BGR").make(bytes_)
    cause = diagnose_pixels(file, PROCESSOR, wrong).causes[0]
    assert cause.hypothesis == "orientation + BGR"
