"""Bugs injected into transformers itself: located and named from what capture_torch sees.

Each is one change to the torch model: an activation, an eps, weights, a mask, a scale. The two
that transformers makes by itself (docs/differences.md) are named as well; and where nothing
is wrong, nothing is said.

    OMP_NUM_THREADS=1 python -m pytest -s tests/live/test_mutations_live.py
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from helpers.capture_cases import captured, generated, image_call, padded_call, video_call
from helpers.mutations import draw
from helpers.oracle import IN_4, at_work, theirs_of, torch
from refgit import GitForCausalLM, testing
from refgit.parity.diagnosis.procedure import Diagnosis, diagnose
from refgit.traces.capture.torch import capture_torch
from refgit.traces.recorder import record

pytestmark = [pytest.mark.oracle]

VISION, TEXT = "git.image_encoder.vision_model.", "git.encoder.layer."
DEEP = testing.CONFIG.replace(num_image_with_embedding=3)


def shaken(config: Any = testing.CONFIG) -> GitForCausalLM:
    """The tiny model with biases and norms of its own."""
    model = testing.tiny_model(config=config)
    rng = np.random.default_rng(3)
    for array in model.state_dict().values():
        array += 0.1 * rng.standard_normal(array.shape).astype(np.float32)
    return model


def swapped(one: Any, other: Any) -> None:
    for name in ("weight", "bias"):
        a, b = getattr(one, name), getattr(other, name)
        kept = a.data.clone()
        a.data.copy_(b.data)
        b.data.copy_(kept)


# ---- the mistakes; each takes the model of transformers and changes it


def tanh_gelu(git: Any) -> None:
    git.encoder.layer[2].intermediate.intermediate_act_fn = torch.nn.GELU(approximate="tanh")


def gelu_in_the_image(git: Any) -> None:
    git.image_encoder.vision_model.encoder.layers[1].mlp.activation_fn = torch.nn.GELU()


def eps_of_a_vision_norm(git: Any) -> None:
    git.image_encoder.vision_model.encoder.layers[0].layer_norm2.eps = 1e-3


def eps_of_a_text_norm(git: Any) -> None:
    git.encoder.layer[1].output.LayerNorm.eps = 1e-4


def eps_of_the_projection(git: Any) -> None:
    git.visual_projection.visual_projection[1].eps = 1e-3


def query_and_key_swapped(git: Any) -> None:
    layer = git.image_encoder.vision_model.encoder.layers[1].self_attn
    swapped(layer.q_proj, layer.k_proj)


def value_bias_lost(git: Any) -> None:
    git.encoder.layer[0].attention.self.value.bias.data.zero_()


def output_projection_transposed(git: Any) -> None:
    weight = git.image_encoder.vision_model.encoder.layers[0].self_attn.out_proj.weight
    weight.data.copy_(weight.data.T.clone())


def another_layers_weights(git: Any) -> None:
    git.encoder.layer[0].output.dense.load_state_dict(
        git.encoder.layer[1].output.dense.state_dict()
    )


def scale_lost(git: Any) -> None:
    git.image_encoder.vision_model.encoder.layers[1].self_attn.scale = 1.0


def last_norm_lost(git: Any) -> None:
    git.image_encoder.vision_model.post_layernorm = torch.nn.Identity()


def blue_first(git: Any) -> None:
    weight = git.image_encoder.vision_model.embeddings.patch_embedding.weight
    weight.data.copy_(weight.data.flip(1).clone())


def text_behind_the_image(git: Any) -> None:
    git.embeddings.position_ids += testing.IMAGE_TOKENS


def causal_everywhere(git: Any) -> None:
    mask_of(git, lambda q, k, n: k <= q)


def image_sees_text(git: Any) -> None:
    mask_of(git, lambda q, k, n: (k < n) | (k <= q) | (q < n))


def text_is_blind(git: Any) -> None:
    mask_of(git, lambda q, k, n: ((q < n) & (k < n)) | ((k >= n) & (k <= q)))


def mask_of(git: Any, sees: Callable[..., Any]) -> None:
    """Another mask in all layers: (B, 1, L, L), 0 and -inf."""

    def create(tgt: Any, memory: Any, *rest: Any, **options: Any) -> Any:
        n, total = memory.shape[1], memory.shape[1] + tgt.shape[1]
        q, k = torch.arange(total)[:, None], torch.arange(total)[None]
        mask = torch.where(sees(q, k, n), 0.0, float("-inf"))
        return mask.expand(tgt.shape[0], 1, total, total)

    git.create_attention_mask = create


def half_weights(git: Any) -> None:
    weight = git.encoder.layer[1].intermediate.dense.weight
    bias = git.encoder.layer[1].intermediate.dense.bias
    for x in (weight, bias):
        x.data.copy_(x.data.half().float())


def softmax_over_queries(git: Any) -> None:
    """In the text decoder alone."""
    plain = torch.nn.functional.softmax

    for layer in git.encoder.layer:
        attention = layer.attention.self

        def forward(*args: Any, attention: Any = attention, **options: Any) -> Any:
            torch.nn.functional.softmax = lambda x, dim, **more: plain(x, dim=-2, **more)
            try:
                return type(attention).forward(attention, *args, **options)
            finally:
                torch.nn.functional.softmax = plain

        attention.forward = forward


MISTAKES: list[tuple[Callable[[Any], None], str, str]] = [
    (tanh_gelu, f"{TEXT}2.intermediate.intermediate_act_fn", "activation gelu_new"),
    (gelu_in_the_image, f"{VISION}encoder.layers.1.mlp.activation_fn", "activation gelu"),
    (eps_of_a_vision_norm, f"{VISION}encoder.layers.0.layer_norm2", "eps 0.001"),
    (eps_of_a_text_norm, f"{TEXT}1.output.LayerNorm", "eps 0.0001"),
    (eps_of_the_projection, "git.visual_projection.visual_projection.1", "eps 0.001"),
    (query_and_key_swapped, f"{VISION}encoder.layers.1.self_attn.q_proj",
     "weights swapped: k_proj, q_proj"),
    (value_bias_lost, f"{TEXT}0.attention.self.value", "no bias"),
    (output_projection_transposed, f"{VISION}encoder.layers.0.self_attn.out_proj",
     "weight transposed"),
    (another_layers_weights, f"{TEXT}0.output.dense", "weights of layer +1"),
    (scale_lost, f"{VISION}encoder.layers.1.self_attn.scores", "no scale"),
    (last_norm_lost, f"{VISION}post_layernorm", "norm missing"),
    (blue_first, f"{VISION}embeddings.patch_embedding", "channels reversed"),
    (text_behind_the_image, "git.embeddings.position_embeddings", "positions behind the image"),
    (causal_everywhere, f"{TEXT}0.attention.self.probabilities", "mask causal"),
    (image_sees_text, f"{TEXT}0.attention.self.probabilities", "image sees text"),
    (text_is_blind, f"{TEXT}0.attention.self.probabilities", "text blind to image"),
    (half_weights, f"{TEXT}1.intermediate.dense", "float16 weights"),
    (softmax_over_queries, f"{TEXT}0.attention.self.probabilities", "softmax over queries"),
]  # fmt: skip
MASKS = (causal_everywhere, image_sees_text, text_is_blind)  # 5 makes its mask elsewhere


@pytest.mark.parametrize(
    ("make", "name", "cause"),
    [
        pytest.param(*mistake, id=mistake[0].__name__, marks=IN_4 if mistake[0] in MASKS else ())
        for mistake in MISTAKES
    ],
)
def test_a_mistake_in_transformers_is_located_and_named(
    make: Callable[[Any], None], name: str, cause: str
) -> None:
    ours = shaken()
    theirs = theirs_of(ours)
    reference = record(ours, **image_call())
    assert diagnose(reference, captured(theirs, image_call()), ours).ok
    make(theirs.git)
    diagnosis = diagnose(reference, captured(theirs, image_call()), ours)
    print(*diagnosis.sentences, sep="\n")
    behind = name.replace("probabilities", "context")  # where the softmax is not seen at work
    assert diagnosis.located in (name, behind)
    assert diagnosis.causes[0].node == name
    assert diagnosis.causes[0].hypothesis == cause
    parts = {finding.name.split(".")[-1] for finding in diagnosis.findings}
    assert len(parts) == 1 or make is query_and_key_swapped


def test_a_last_layer_that_is_left_out_is_named_from_the_logits() -> None:
    """From what transformers returns by itself: the logits, no hooks."""
    ours = shaken(testing.CONFIG.replace(num_hidden_layers=1))
    theirs = theirs_of(ours)
    theirs.git.image_encoder.vision_model.encoder.layers = (
        theirs.git.image_encoder.vision_model.encoder.layers[:-1]
    )
    found = captured(theirs, image_call())
    diagnosis = diagnose(record(ours, **image_call()), {"output": found["output"]}, ours)
    assert diagnosis.located == "output"
    assert diagnosis.causes[0].hypothesis == "reads layer output for layer output"
    assert diagnosis.causes[0].node == f"{VISION}post_layernorm"


# ---- what transformers 4 does by itself


@IN_4
def test_padding_that_transformers_forgets_while_decoding_is_named() -> None:
    ours = shaken()
    found = generated(theirs_of(ours), padded_call(), 2)
    diagnosis = diagnose(record(ours, **padded_call(), tokens=2), found, ours)
    assert diagnosis.located == f"step.1.{TEXT}0.attention.self.probabilities"
    assert diagnosis.causes[0].hypothesis in ("padding ignored", "padding of the past ignored")
    assert all(f.name.endswith("probabilities") for f in diagnosis.findings)


@IN_4
@pytest.mark.parametrize("kind", ["relative_key", "relative_key_query"])
def test_the_distances_that_transformers_counts_from_the_last_query_are_named(kind: str) -> None:
    ours = shaken(testing.CONFIG.replace(position_embedding_type=kind))
    found = captured(theirs_of(ours), image_call(), use_cache=True)
    diagnosis = diagnose(record(ours, **image_call()), found, ours)
    assert diagnosis.located == f"{TEXT}0.attention.self.scores"
    assert diagnosis.causes[0].hypothesis == "distance of the last query"
    assert len(diagnosis.findings) == testing.CONFIG.num_hidden_layers


# ---- where nothing is wrong


@IN_4  # 5 has no relative positions
def test_nothing_is_said_of_right_models_of_transformers() -> None:
    """Position types, activations, videos, other sizes and padding as they are drawn."""
    wrong: list[Diagnosis] = []
    checked = 0
    for seed in range(60):
        drawn = draw(5 * 10**6 + seed)
        if drawn.config.hidden_act == "selu" or drawn.config.vision_config.hidden_act == "selu":
            continue  # transformers has none
        ours = drawn.model
        call = {"pixel_values": drawn.pixels, "input_ids": drawn.ids}
        if drawn.mask is not None:
            call["attention_mask"] = drawn.mask
        found = captured(theirs_of(ours), call, use_cache=False, interpolate_pos_encoding=True)
        reference = record(ours, **call, interpolate_pos_encoding=True)
        diagnosis = diagnose(reference, found, ours)
        checked += diagnosis.checked
        if not diagnosis.ok:
            wrong.append(diagnosis)
    print(f"\n{checked} tensors of right models of transformers: {len(wrong)} alarms")
    assert [diagnosis.sentences for diagnosis in wrong] == []


def test_nothing_is_said_of_generation_or_of_videos() -> None:
    ours = shaken()
    found = generated(theirs_of(ours), image_call(), 2)
    assert diagnose(record(ours, **image_call(), tokens=2), found, ours).ok
    ours = shaken(DEEP)
    found = captured(theirs_of(ours), video_call())
    assert diagnose(record(ours, **video_call()), found, ours).ok


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_nothing_is_said_of_half_precision(dtype: str) -> None:
    ours = shaken()
    theirs = theirs_of(ours).to(getattr(torch, dtype))
    pixels = torch.from_numpy(testing.pixels()).to(getattr(torch, dtype))
    with at_work(), capture_torch(theirs) as found:
        theirs(input_ids=torch.from_numpy(testing.tokens()), pixel_values=pixels)
    reference = record(ours, pixel_values=testing.pixels(), input_ids=testing.tokens())
    diagnosis = diagnose(reference, found, ours)
    assert diagnosis.ok, diagnosis.sentences


@pytest.mark.parametrize(("side", "size"), [(14, (30, 40)), (30, (14, 14)), (14, (7, 9))])
def test_nothing_is_said_of_positions_that_torch_interpolates(
    side: int, size: tuple[int, int]
) -> None:
    """Grids as large as git-base's and git-large's; torch counts coordinates in float32."""
    vision = testing.VISION.replace(image_size=2 * side, patch_size=2, num_hidden_layers=1)
    ours = shaken(testing.CONFIG.replace(vision_config=vision, num_hidden_layers=1))
    rng = np.random.default_rng(0)
    pixels = rng.standard_normal((1, 3, 2 * size[0], 2 * size[1])).astype(np.float32)
    call = {"pixel_values": pixels, "input_ids": testing.tokens()}
    reference = record(ours, **call, interpolate_pos_encoding=True)
    found = captured(theirs_of(ours), call, interpolate_pos_encoding=True)
    diagnosis = diagnose(reference, found, ours)
    assert diagnosis.ok, diagnosis.sentences
