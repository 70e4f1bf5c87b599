"""Injected bugs: the catalogue of mutations of other_git, and what diagnose says of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pytest

from helpers.other_git import Mutation, OtherGit
from refgit import GitConfig, GitForCausalLM
from refgit.parity.diagnosis.procedure import Diagnosis, diagnose

ACTIVATIONS = ["quick_gelu", "gelu", "gelu_new", "relu", "selu", "silu"]


VISION, TEXT = "git.image_encoder.vision_model.", "git.encoder.layer."


VISIBLE = 3e-6


@dataclass(frozen=True)
class Case:
    """A mutation, the tensor it breaks, the causes that name it, what it needs to show."""

    place: str
    kind: str
    breaks: str
    causes: tuple[str, ...]
    need: frozenset[str] = field(default_factory=frozenset)

    @property
    def name(self) -> str:
        return f"{self.place} {self.kind}"


def case(place: str, kind: str, breaks: str, causes: str, need: str = "") -> Case:
    return Case(place, kind, breaks, tuple(causes.split(" | ")), frozenset(need.split()))


OWN_INPUT = "reads pre_layrnorm for {0} | reads layer output for {0}"


CASES = [
    # activations
    case("v.act", "gelu", "v:mlp.activation_fn", "activation gelu", "v_quick"),
    case("v.act", "gelu_new", "v:mlp.activation_fn", "activation gelu_new", "v_quick"),
    case("t.act", "gelu_new", "t:intermediate.intermediate_act_fn", "activation gelu_new", "gelu"),
    case("t.act", "quick_gelu", "t:intermediate.intermediate_act_fn", "activation quick_gelu",
         "gelu"),
    case("t.act", "relu", "t:intermediate.intermediate_act_fn", "activation relu", "gelu"),
    case("v.act", "silu", "v:mlp.activation_fn", "activation silu", "v_quick"),
    case("t.act", "none", "t:intermediate.intermediate_act_fn", "activation missing"),
    # layer norms
    case("v.ln1", "eps=1e-12", "v:layer_norm1", "eps 1e-12"),
    case("v.ln2", "eps=1e-6", "v:layer_norm2", "eps 1e-06"),
    case("t.ln1", "eps=1e-5", "t:attention.output.LayerNorm", "eps 1e-05"),
    case("t.ln2", "eps=1e-3", "t:output.LayerNorm", "eps 0.001"),
    case("projnorm", "eps=1e-12", "git.visual_projection.visual_projection.1", "eps 1e-12"),
    case("tln", "eps=1e-5", "git.embeddings.LayerNorm", "eps 1e-05"),
    case("post", "eps=1e-3", VISION + "post_layernorm", "eps 0.001"),
    case("v.ln1", "outside", "v:layer_norm1", "eps 1e-05 outside the root"),
    case("t.ln2", "unbiased", "t:output.LayerNorm", "unbiased variance"),
    case("v.ln2", "unbiased", "v:layer_norm2", "unbiased variance"),
    case("t.ln1", "rms", "t:attention.output.LayerNorm", "no mean"),
    case("v.ln2", "no_bias", "v:layer_norm2", "no bias"),
    case("t.ln2", "no_weight", "t:output.LayerNorm", "no weight"),
    case("post", "missing", VISION + "post_layernorm", "norm missing"),
    case("projnorm", "missing", "git.visual_projection.visual_projection.1", "norm missing"),
    case("pre", "missing", VISION + "pre_layrnorm", "norm missing"),
    case("t.ln1", "missing", "t:attention.output.LayerNorm", "norm missing"),
    case("v.ln1", "twice", "v:layer_norm1", "norm twice"),
    case("v.ln1", "other_layer", "v:layer_norm1", "weights of layer ?1", "deep"),
    case("v.ln2", "reads_start", "v:layer_norm2", OWN_INPUT.format("self_attn.residual")),
    # linear maps
    case("v.q", "weights_of=k_proj", "v:self_attn.q_proj",
         "weights swapped: k_proj, q_proj"),
    case("t.value", "weights_of=key", "t:attention.self.value",
         "weights swapped: key, value"),
    case("t.query", "weights_of=value", "t:attention.self.query",
         "weights swapped: query, value"),
    case("v.out", "transposed", "v:self_attn.out_proj", "weight transposed"),
    case("t.key", "transposed", "t:attention.self.key", "weight transposed"),
    case("t.fc1", "reshaped", "t:intermediate.dense", "weight reshaped"),
    case("v.fc2", "no_bias", "v:mlp.fc2", "no bias"),
    case("t.out", "double_bias", "t:attention.output.dense", "bias twice"),
    case("v.k", "no_bias", "v:self_attn.k_proj", "no bias"),
    case("t.query", "no_bias", "t:attention.self.query", "no bias"),
    case("proj", "no_bias", "git.visual_projection.visual_projection.0", "no bias"),
    case("t.fc2", "other_layer", "t:output.dense", "weights of layer ?1", "deep"),
    case("v.fc1", "other_layer", "v:mlp.fc1", "weights of layer ?1", "deep"),
    case("t.value", "other_layer", "t:attention.self.value", "weights of layer ?1", "deep"),
    case("t.fc1", "half_weights", "t:intermediate.dense", "float16 weights"),
    case("v.fc2", "brain_weights", "v:mlp.fc2", "bfloat16 weights"),
    case("v.q", "half_inputs", "v:self_attn.q_proj", "float16 inputs"),
    case("t.out", "half_output", "t:attention.output.dense", "float16 values"),
    case("v.fc1", "int8", "v:mlp.fc1", "int8 weights"),
    case("v.prenorm", "skipped", "v:self_attn.q_proj", OWN_INPUT.format("layer_norm1")),
    case("t.prenorm", "normed", "t:attention.self.query",
         "input normalised by attention.output.LayerNorm"),
    case("post", "skip_last", VISION + "post_layernorm", "reads layer output for layer output",
         "deep"),
    # residuals
    case("v.res1", "missing", "v:self_attn.residual", "residual missing"),
    case("v.res2", "missing", "v:", "residual missing"),
    case("t.res1", "twice", "t:attention.output.residual", "residual twice"),
    case("t.res2", "missing", "t:output.residual", "residual missing"),
    case("t.res2", "elsewhere", "t:output.residual",
         "reads attention.output.residual for attention.output.LayerNorm"),
    case("v.res1", "elsewhere", "v:self_attn.residual",
         "reads layer_norm1 for pre_layrnorm | reads layer_norm1 for layer output"),
    case("v.res2", "elsewhere", "v:", OWN_INPUT.format("self_attn.residual")),
    case("t.res1", "dropout_scale", "t:attention.output.residual", "dropout scale 0.1"),
    case("t.res2", "branch_missing", "t:output.residual", "branch missing"),
    # scores, probabilities, context
    case("v.scores", "no_scale", "v:self_attn.scores", "no scale"),
    case("t.scores", "twice", "t:attention.self.scores", "scale twice"),
    case("t.scores", "by_D", "t:attention.self.scores", "scale by D", "heads"),
    case("v.scores", "by_D", "v:self_attn.scores", "scale by D", "v_heads"),
    case("v.scores", "interleaved", "v:self_attn.scores", "heads interleaved", "v_heads"),
    case("t.scores", "interleaved", "t:attention.self.scores", "heads interleaved", "heads"),
    case("t.scores", "unmoved", "t:attention.self.scores", "heads not moved", "heads once"),
    case("t.scores", "relative_unscaled", "t:attention.self.scores", "distances not scaled",
         "relative"),
    case("t.scores", "no_relative", "t:attention.self.scores", "no distances", "relative"),
    case("t.scores", "reversed", "t:attention.self.scores", "distances reversed", "relative"),
    case("t.scores", "last_query", "t:attention.self.scores", "distance of the last query",
         "relative"),
    case("v.probs", "over_queries", "v:self_attn.probabilities", "softmax over queries"),
    case("v.probs", "over_heads", "v:self_attn.probabilities", "softmax over heads", "v_heads"),
    case("t.probs", "scaled_again", "t:attention.self.probabilities", "scale in softmax"),
    case("t.probs", "zero", "t:attention.self.probabilities", "masked scores set to 0"),
    case("t.probs", "after", "t:attention.self.probabilities", "mask after softmax"),
    case("t.probs", "dropout_scale", "t:attention.self.probabilities", "dropout scale 0.1"),
    case("t.mask", "causal", "t:attention.self.probabilities", "mask causal"),
    case("t.mask", "none", "t:attention.self.probabilities", "mask missing"),
    case("t.mask", "image_sees_text", "t:attention.self.probabilities", "image sees text"),
    case("t.mask", "text_blind", "t:attention.self.probabilities", "text blind to image"),
    case("t.mask", "image_diagonal", "t:attention.self.probabilities", "image blind to itself"),
    case("t.mask", "off_by_one", "t:attention.self.probabilities", "mask off by one"),
    case("t.mask", "strict", "t:attention.self.probabilities", "mask strict"),
    case("t.mask", "text_bidirectional", "t:attention.self.probabilities", "text sees all text"),
    case("t.mask", "padding_ignored", "t:attention.self.probabilities", "padding ignored",
         "padding"),
    case("t.mask", "padding_inverted", "t:attention.self.probabilities", "padding inverted",
         "padding"),
    case("t.mask", "padding_in_front", "t:attention.self.probabilities", "padding in front",
         "padding"),
    case("t.mask", "past_padding_ignored", "s:attention.self.probabilities",
         "padding of the past ignored | padding ignored", "padding steps"),
    case("t.ctx", "interleaved", "t:attention.self.context", "heads interleaved", "heads"),
    case("v.ctx", "unmoved", "v:self_attn.context", "heads not moved", "v_heads"),
    case("v.ctx", "merge_unmoved", "v:self_attn.context", "merge not moved", "v_heads"),
    case("v.ctx", "transposed", "v:self_attn.context", "probabilities transposed"),
    # patches, class token, positions of the image, frames
    case("patch", "bgr", VISION + "embeddings.patch_embedding", "channels reversed"),
    case("patch", "channels_last", VISION + "embeddings.patch_embedding", "patch channels last"),
    case("patch", "transposed", VISION + "embeddings.patch_embedding", "patch transposed"),
    case("patch", "by_column", VISION + "embeddings.patch_embedding", "patches by column"),
    case("vemb", "no_class", VISION + "embeddings", "class token missing"),
    case("vemb", "class_last", VISION + "embeddings", "class token at the end"),
    case("vemb", "class_no_position", VISION + "embeddings", "class token without position"),
    case("vemb", "no_positions", VISION + "embeddings", "image positions missing"),
    case("vemb", "shifted", VISION + "embeddings", "patch positions from the class token's"),
    case("vemb", "bilinear", VISION + "embeddings", "positions bilinear", "stretch"),
    case("vemb", "catmull", VISION + "embeddings", "positions bicubic -0.5", "stretch"),
    case("vemb", "corners", VISION + "embeddings", "positions aligned corners", "stretch"),
    case("vemb", "cropped", VISION + "embeddings", "positions cropped", "shrink"),
    case("time", "missing", "git.visual_projection.visual_projection.0", "times missing", "video"),
    case("time", "reversed", "git.visual_projection.visual_projection.0", "times reversed",
         "video"),
    case("time", "interleaved", "git.visual_projection.visual_projection.0",
         "frames interleaved", "video"),
    # words and positions of the text, joining, head
    case("word", "plus_one", "git.embeddings.word_embeddings", "ids plus one"),
    case("word", "late", "git.embeddings.word_embeddings", "words late"),
    case("word", "scaled", "git.embeddings.word_embeddings", "words scaled"),
    case("word", "head", "git.embeddings.word_embeddings", "words from the head"),
    case("pos", "behind_image", "git.embeddings.position_embeddings", "positions behind the image",
         "absolute"),
    case("pos", "one", "git.embeddings.position_embeddings", "positions one late", "absolute"),
    case("pos", "step_behind_image", "step.1.git.embeddings.position_embeddings",
         "positions behind the image", "absolute steps"),
    case("pos", "step_from_zero", "step.1.git.embeddings.position_embeddings",
         "positions from 0 in a step", "absolute steps"),
    case("pos", "skip_padding", "git.embeddings.position_embeddings", "positions skip padding",
         "absolute padding"),
    case("tsum", "no_positions", "git.embeddings.sum", "text positions missing", "absolute"),
    case("join", "text_first", "t0:attention.self.query", "text first"),
    case("join", "repeat", "t0:attention.self.query", "images repeated in place", "repeat"),
    case("head", "no_bias", "output", "no bias"),
    case("head", "tied", "output", "tied head"),
    case("head", "before_norm", "output", "reads output.residual for output.LayerNorm"),
    case("head", "late", "output", "tokens one late"),
]  # fmt: skip


@dataclass
class Drawn:
    """A model, and what it is run on."""

    config: GitConfig
    model: GitForCausalLM
    pixels: Any
    ids: Any
    mask: Any
    steps: list[Any]
    layer: dict[str, int]

    @property
    def inputs(self) -> dict[str, Any]:
        found = {"input.pixel_values": self.pixels, "input.input_ids": self.ids}
        if self.mask is not None:
            found["input.attention_mask"] = self.mask
        return found | {f"step.{i}.input.input_ids": x for i, x in enumerate(self.steps, 1)}

    def run(self, mutations: list[Mutation], dtype: Any = np.float32) -> dict[str, Any]:
        other = OtherGit(self.model.state_dict(), self.config.to_dict(), mutations, dtype)
        return other.run(self.pixels, self.ids, self.mask, step_ids=self.steps)


def draw(seed: int, need: frozenset[str] = frozenset()) -> Drawn:
    """A tiny model, its weights all unlike, and inputs; `need` settles some of the choices."""
    rng = np.random.default_rng(seed)

    def pick(options: list[Any]) -> Any:
        return options[int(rng.integers(len(options)))]

    v_heads = pick([2, 3, 4] if "v_heads" in need else [1, 2, 3, 4])
    heads = pick([2, 3, 4] if "heads" in need else [1, 2, 3, 4])
    patch, side = pick([2, 3, 4]), pick([2, 3] if "shrink" not in need else [3])
    frames = pick([2, 3]) if "video" in need else pick([None, None, None, 2])
    types = ["absolute", "relative_key", "relative_key_query"]
    types = types[1:] if "relative" in need else types[:1] if "absolute" in need else types
    depths = [2] if "shallow" in need else [2 if "deep" in need else 1, 2, 3]
    config = GitConfig(
        vision_config={
            "hidden_size": pick([3, 4, 6, 8]) * v_heads,
            "intermediate_size": pick([10, 16, 24]),
            "num_hidden_layers": pick(depths),
            "num_attention_heads": v_heads,
            "image_size": patch * side,
            "patch_size": patch,
            "hidden_act": "quick_gelu" if "v_quick" in need else pick(ACTIVATIONS),
            "initializer_range": 0.3,
        },
        vocab_size=pick([17, 31]),
        hidden_size=pick([3, 4, 6, 8]) * heads,
        num_hidden_layers=pick(depths),
        num_attention_heads=heads,
        intermediate_size=pick([10, 16, 24]),
        hidden_act="gelu" if "gelu" in need else pick(ACTIVATIONS),
        max_position_embeddings=110,
        position_embedding_type=pick(types),
        num_image_with_embedding=frames,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = GitForCausalLM(config, seed=seed)
    for array in model.state_dict().values():
        array += 0.1 * rng.standard_normal(array.shape).astype(np.float32)
    size = [patch * side] * 2
    if "stretch" in need or (not need & {"shrink"} and rng.random() < 0.2):
        size = [patch * side + patch * pick([1, 2]), patch * side + patch * pick([0, 1, 2])]
    if "shrink" in need:
        size = [patch * 2, patch * pick([2, 3])]
    images = pick([2, 3]) if "repeat" in need else pick([1, 2])
    rows = images * (2 if "repeat" in need else pick([1, 1, 2]))
    length = pick([3, 4, 5])
    pixels = rng.standard_normal((images, *(() if frames is None else (frames,)), 3, *size)).astype(
        np.float32
    )
    ids = rng.integers(0, config.vocab_size, (rows, length))
    mask = None
    if "padding" in need or (rng.random() < 0.3 and "unpadded" not in need):
        mask = np.ones((rows, length), np.int64)
        mask[0, : pick([1, 2])] = 0
    steps = pick([1, 2]) if "steps" in need else 0 if "once" in need else pick([0, 0, 1])
    return Drawn(
        config, model, pixels, ids, mask,
        [rng.integers(0, config.vocab_size, (rows, 1)) for _ in range(steps)],
        {"v": int(rng.integers(config.vision_config.num_hidden_layers)),
         "t": int(rng.integers(config.num_hidden_layers))},
    )  # fmt: skip


def broken(case: Case, drawn: Drawn) -> tuple[Mutation, str]:
    """The mutation at the drawn layer, and the name of the tensor it breaks."""
    tower, _, rest = case.breaks.partition(":")
    if not rest and tower not in ("v", "t", "s"):
        return Mutation(case.place, case.kind), case.breaks
    if tower == "t0":
        return Mutation(case.place, case.kind), f"{TEXT}0.{rest}"
    layer = drawn.layer["v" if tower == "v" else "t"]
    root = f"{VISION}encoder.layers." if tower == "v" else TEXT
    step = "step.1." if tower == "s" else ""
    return Mutation(case.place, case.kind, layer), f"{step}{root}{layer}.{rest}".rstrip(".")


def shows(drawn: Drawn, mutation: Mutation, name: str) -> bool:
    """Whether the mistake changes its tensor by more than float32 could hide."""
    plain, wrong = (drawn.run(m, np.float64)[name] for m in ([], [mutation]))
    if plain.shape != wrong.shape:
        return True
    return bool(np.abs(plain - wrong).max() > VISIBLE * np.abs(plain).max())


def drawn_for(case: Case, seed: int) -> tuple[Drawn, Mutation, str]:
    for attempt in range(20):
        drawn = draw(1000 * attempt + seed, case.need)
        mutation, name = broken(case, drawn)
        if shows(drawn, mutation, name):
            return drawn, mutation, name
    raise AssertionError(f"{case.name} never shows in its tensor")


@dataclass
class Row:
    case: Case
    name: str
    located: str | None
    first: str
    rank: int  # of the right cause, 1 the first, 0 none
    residual: float
    several: int

    @property
    def is_located(self) -> bool:
        return self.located == self.name

    @property
    def is_diagnosed(self) -> bool:
        return self.rank == 1


def examined(case: Case, name: str, diagnosis: Diagnosis) -> Row:
    causes = diagnosis.causes
    right = [
        i
        for i, cause in enumerate(causes, 1)
        if any(fnmatchcase(cause.hypothesis, pattern) for pattern in case.causes)
    ]
    return Row(
        case,
        name,
        diagnosis.located,
        causes[0].hypothesis if causes else "-",
        right[0] if right else 0,
        causes[right[0] - 1].residual if right else float("nan"),
        len(causes),
    )


@pytest.fixture(scope="module")
def trials() -> list[tuple[Case, Drawn, dict[str, Any], str]]:
    found = []
    for i, each in enumerate(CASES):
        drawn, mutation, name = drawn_for(each, i)
        found.append((each, drawn, drawn.run([mutation]), name))
    return found


@pytest.fixture(scope="module")
def diagnoses(trials: Any) -> list[Diagnosis]:
    return [diagnose(drawn.inputs, other, drawn.model) for _, drawn, other, _ in trials]


@pytest.fixture(scope="module")
def rows(trials: Any, diagnoses: list[Diagnosis]) -> list[Row]:
    return [
        examined(each, name, diagnosis)
        for (each, _, _, name), diagnosis in zip(trials, diagnoses, strict=True)
    ]
