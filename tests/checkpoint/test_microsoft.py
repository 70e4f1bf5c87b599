"""Microsoft's checkpoints: every name, every model of the README, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.microsoft import VOCABULARY, WORDS
from helpers.torch_files import dense, write
from refgit import (
    BertTokenizer,
    CheckpointError,
    CLIPImageProcessor,
    GitConfig,
    GitForCausalLM,
    GitProcessor,
)
from refgit.checkpoint import load_parameters
from refgit.checkpoint.microsoft import convert as microsoft
from refgit.checkpoint.microsoft.convert import read_microsoft
from refgit.checkpoint.microsoft.settings import KEYS, MODELS, MicrosoftSettings, agree, settings_of
from refgit.checkpoint.microsoft.yaml import read_parameters
from refgit.cli import main as cli
from refgit.cli.commands import convert
from refgit.model.parameters import causal_lm_shapes
from refgit.processing.image.processor import CLIP_MEAN, CLIP_STD

State = dict[str, np.ndarray]


# ---- the names the other way round, written from the hub's side


def microsoft_name(name: str) -> str:
    """Microsoft's name of a tensor of the hub; for q, k and v that of the matrix they are in."""
    name = name.removeprefix("git.")
    if name.startswith("image_encoder."):
        for ours, theirs in (
            ("image_encoder.vision_model.", "image_encoder."),
            ("embeddings.class_embedding", "class_embedding"),
            ("embeddings.patch_embedding.weight", "conv1.weight"),
            ("embeddings.position_embedding.weight", "positional_embedding"),
            ("encoder.layers.", "transformer.resblocks."),
            ("pre_layrnorm", "ln_pre"),
            ("post_layernorm", "ln_post"),
            ("layer_norm", "ln_"),
            ("self_attn.out_proj", "attn.out_proj"),
            ("self_attn.q_proj.", "attn.in_proj_"),
            ("self_attn.k_proj.", "attn.in_proj_"),
            ("self_attn.v_proj.", "attn.in_proj_"),
            ("mlp.fc1", "mlp.c_fc"),
            ("mlp.fc2", "mlp.c_proj"),
        ):
            name = name.replace(ours, theirs)
        return name
    if name.startswith("img_temperal_embedding."):
        return name
    for ours, theirs in (
        ("visual_projection.visual_projection", "visual_projection"),
        ("embeddings.word_embeddings", "embedding.words"),
        ("embeddings.position_embeddings", "embedding.positions"),
        ("embeddings.LayerNorm", "embedding.layer_norm"),
        ("encoder.layer.", "transformer.encoder.layer."),
    ):
        name = name.replace(ours, theirs)
    return f"textual.{name}"


def microsoft_state(parameters: Mapping[str, np.ndarray]) -> State:
    """A state dict as Microsoft's model has it, from one of the hub."""
    state: State = {}
    for name, x in parameters.items():
        if ".q_proj." in name:
            parts = [parameters[name.replace(".q_proj.", f".{p}_proj.")] for p in "qkv"]
            state[microsoft_name(name)] = np.concatenate(parts)
        elif ".k_proj." not in name and ".v_proj." not in name:
            state[microsoft_name(name)] = x
    vision = parameters["git.image_encoder.vision_model.embeddings.class_embedding"]
    return state | {"image_encoder.proj": np.ones((len(vision), 8), vision.dtype)}


# ---- a small model of the kind


def tiny_config(
    *, heads: int = 1, patch: int = 16, grid: int = 2, frames: int | None = None
) -> GitConfig:
    """Two layers each; heads 64 wide, as CLIP's and BERT's are."""
    return GitConfig.from_dict(
        {
            "vision_config": {
                "hidden_size": 64 * heads,
                "intermediate_size": 96,
                "num_hidden_layers": 2,
                "num_attention_heads": heads,
                "image_size": grid * patch,
                "patch_size": patch,
            },
            "vocab_size": WORDS,
            "hidden_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 1,
            "intermediate_size": 80,
            "max_position_embeddings": 24,
            "num_image_with_embedding": frames,
        }
    )


BASE, LARGE = tiny_config(), tiny_config(heads=2, patch=14, grid=3)
VIDEO = tiny_config(frames=6)


def parameters_of(config: GitConfig, dtype: str = "float32") -> State:
    """Random numbers for every parameter; the head is the words', as in Microsoft's model."""
    rng = np.random.default_rng(0)
    shapes = causal_lm_shapes(config)
    drawn = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
    return drawn | {"output.weight": drawn["git.embeddings.word_embeddings.weight"]}


def write_state(path: Path, state: Mapping[str, Any], **others: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write(path, {"model": {name: dense(x) for name, x in state.items()}, **others})


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The model.pt of a small model for images."""
    return write_state(tmp_path / "there" / "model.pt", microsoft_state(parameters_of(BASE)))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a tokenizer whose special ids are those of bert-base-uncased."""
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    names = ["input_ids", "token_type_ids", "attention_mask"]  # BERT's; GIT has no token types
    settings = json.dumps({"do_lower_case": True, "model_input_names": names})
    (folder / "tokenizer_config.json").write_text(settings, encoding="utf-8")
    return folder


Run = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def run(bert: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `refgit convert` in this process: exit code, lines of stdout, lines of stderr."""

    def run_it(*arguments: object, tokenizer: object = bert) -> tuple[int, list[str], list[str]]:
        chosen = [] if tokenizer is None else ["--tokenizer", str(tokenizer)]
        try:
            code = cli.main(["convert", *map(str, arguments), *chosen])
        except SystemExit as end:  # of argparse
            code = int(str(end.code))
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out.splitlines(), err.splitlines()

    return run_it


def refused(*words: str, call: Callable[[], object]) -> str:
    with pytest.raises(CheckpointError) as caught:
        call()
    for word in words:
        assert word in str(caught.value)
    return str(caught.value)


# ---- the tensors


@pytest.mark.parametrize("prefix", ["", "module.", "module.module."])
@pytest.mark.parametrize("config", [BASE, LARGE, VIDEO], ids=["base", "large", "video"])
def test_every_tensor_arrives_under_its_name_with_its_numbers(
    config: GitConfig, prefix: str, run: Run, tmp_path: Path
) -> None:
    wanted = parameters_of(config)
    state = {prefix + name: x for name, x in microsoft_state(wanted).items()}
    file = write_state(tmp_path / "model.pt", state)
    code, out, err = run(file, "--out", tmp_path / "out")
    assert code == 0
    assert "float32" in out[0]
    assert len(err) == 1 + (config.num_image_with_embedding is None)
    assert "image_encoder.proj" in err[0]
    found = load_parameters(tmp_path / "out", causal_lm_shapes(config), prefix="")
    assert list(found) == list(wanted)
    for name, x in wanted.items():
        np.testing.assert_array_equal(found[name], x, strict=True)


def test_the_names_are_those_of_the_original_modules() -> None:
    """Against names copied out by hand, since two mappings of one author may share a mistake."""
    names = set(microsoft_state(parameters_of(VIDEO)))
    assert {
        "image_encoder.class_embedding",
        "image_encoder.positional_embedding",
        "image_encoder.proj",
        "image_encoder.conv1.weight",
        "image_encoder.ln_pre.weight",
        "image_encoder.transformer.resblocks.1.attn.in_proj_weight",
        "image_encoder.transformer.resblocks.1.attn.in_proj_bias",
        "image_encoder.transformer.resblocks.1.attn.out_proj.bias",
        "image_encoder.transformer.resblocks.1.ln_1.weight",
        "image_encoder.transformer.resblocks.1.mlp.c_fc.weight",
        "image_encoder.transformer.resblocks.1.mlp.c_proj.bias",
        "image_encoder.transformer.resblocks.1.ln_2.bias",
        "image_encoder.ln_post.bias",
        "textual.visual_projection.0.weight",
        "textual.visual_projection.1.bias",
        "textual.embedding.words.weight",
        "textual.embedding.positions.weight",
        "textual.embedding.layer_norm.weight",
        "textual.transformer.encoder.layer.2.attention.self.query.weight",
        "textual.transformer.encoder.layer.2.attention.output.dense.bias",
        "textual.transformer.encoder.layer.2.attention.output.LayerNorm.weight",
        "textual.transformer.encoder.layer.2.intermediate.dense.weight",
        "textual.transformer.encoder.layer.2.output.LayerNorm.bias",
        "textual.output.weight",
        "textual.output.bias",
        "img_temperal_embedding.5",
    } <= names


def test_queries_keys_and_values_are_cut_in_that_order(base: Path) -> None:
    names = [f"{p}_proj.weight" for p in "qkv"]
    whole = microsoft_state(parameters_of(BASE))
    whole = whole["image_encoder.transformer.resblocks.1.attn.in_proj_weight"]
    root = "git.image_encoder.vision_model.encoder.layers.1.self_attn."
    found = read_microsoft(base).parameters
    for i, name in enumerate(names):
        np.testing.assert_array_equal(found[root + name], whole[64 * i : 64 * (i + 1)])


def test_a_bare_state_dict_is_read(tmp_path: Path) -> None:
    state = microsoft_state(parameters_of(BASE))
    file = write(tmp_path / "model.pt", {name: dense(x) for name, x in state.items()})
    assert set(read_microsoft(file).parameters) == set(causal_lm_shapes(BASE))


def test_what_training_saved_besides_is_left_out_by_name(tmp_path: Path) -> None:
    state = microsoft_state(parameters_of(BASE))
    optimizer = {"state": {0: {"step": 3}}, "param_groups": [{"lr": 1e-5, "params": [0]}]}
    file = write_state(tmp_path / "model.pt", state, optimizer=optimizer, iteration=7)
    notes = read_microsoft(file).notes
    assert [note for note in notes if "optimizer, iteration" in note]


def test_a_checkpoint_without_clips_projection_needs_no_note(tmp_path: Path) -> None:
    state = microsoft_state(parameters_of(BASE))
    del state["image_encoder.proj"]
    notes = read_microsoft(write_state(tmp_path / "model.pt", state)).notes
    assert not [note for note in notes if "left out" in note]


def test_a_head_of_its_own_is_kept_and_noted(tmp_path: Path) -> None:
    wanted = parameters_of(BASE)
    wanted["output.weight"] = wanted["output.weight"] + 1
    model = read_microsoft(write_state(tmp_path / "model.pt", microsoft_state(wanted)))
    np.testing.assert_array_equal(model.parameters["output.weight"], wanted["output.weight"])
    assert [note for note in model.notes if "textual.output.weight" in note]


# ---- what is refused


ADDED = [
    "context_embedding.words.weight",
    "image_encoder.ln_pre.scale",
    "image_encoder.transformer.resblocks.0.attn.bias_k",
    "image_encoder.transformer.resblocks.01.ln_1.bias",
    "textual.extra",
    "textual.transformer.encoder.LayerNorm.weight",  # of pre-norm decoders
    "token_embedding.weight",  # of CLIP's text encoder
]


@pytest.mark.parametrize("name", ADDED)
def test_a_tensor_that_is_not_known_is_refused_by_name(name: str, tmp_path: Path) -> None:
    state = microsoft_state(parameters_of(BASE)) | {name: np.ones(3, np.float32)}
    file = write_state(tmp_path / "model.pt", state)
    refused(str(file), name, call=lambda: read_microsoft(file))


@pytest.mark.parametrize("name", sorted(microsoft_state(parameters_of(VIDEO))))
def test_a_tensor_that_is_missing_is_refused_by_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = microsoft_state(parameters_of(VIDEO))
    del state[name]
    monkeypatch.setattr(microsoft, "read_torch", lambda _: {"model": state})
    file = tmp_path / "model.pt"
    if name == "image_encoder.proj":
        assert read_microsoft(file).notes == ()
    elif name == "img_temperal_embedding.5":  # then it is a model of five frames
        assert read_microsoft(file).config["num_image_with_embedding"] == 5
    else:
        refused(str(file), name, call=lambda: read_microsoft(file))


@pytest.mark.parametrize("name", sorted(microsoft_state(parameters_of(BASE))))
def test_a_tensor_of_another_shape_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = microsoft_state(parameters_of(BASE))
    state[name] = np.concatenate([state[name]] * 3)
    monkeypatch.setattr(microsoft, "read_torch", lambda _: state)
    file = tmp_path / "model.pt"
    if name == "image_encoder.proj":  # whatever it is, it is left out
        assert read_microsoft(file).notes
        return
    if name == "textual.embedding.positions.weight":  # and this one defines the longest text
        assert read_microsoft(file).config["max_position_embeddings"] == 72
        return
    refused(str(file), "expected", call=lambda: read_microsoft(file))


@pytest.mark.parametrize(
    ("name", "shape", "word"),
    [
        ("image_encoder.conv1.weight", (64, 3, 16, 8), "(64, 3, 16, 8)"),
        ("image_encoder.conv1.weight", (64, 3), "(64, 3)"),
        ("image_encoder.conv1.weight", (70, 3, 16, 16), "multiple of 64"),
        ("image_encoder.positional_embedding", (6, 64), "6 rows"),
        ("image_encoder.positional_embedding", (1, 64), "1 rows"),
        ("image_encoder.positional_embedding", (0, 64), "(0, 64)"),
        ("textual.embedding.words.weight", (102, 64), "102 rows"),
        ("textual.embedding.words.weight", (110, 80), "multiple of 64"),
    ],
)
def test_an_impossible_shape_is_refused_by_name(
    name: str, shape: tuple[int, ...], word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = microsoft_state(parameters_of(BASE)) | {name: np.zeros(shape, np.float32)}
    monkeypatch.setattr(microsoft, "read_torch", lambda _: state)
    refused(name, word, call=lambda: read_microsoft(tmp_path / "model.pt"))


def test_tensors_that_are_no_floating_numbers_are_refused(tmp_path: Path) -> None:
    state: dict[str, Any] = dict(microsoft_state(parameters_of(BASE)))
    state["textual.output.bias"] = np.zeros(WORDS, np.int64)
    file = write_state(tmp_path / "model.pt", state)
    refused("output.bias", "int64", call=lambda: read_microsoft(file))


@pytest.mark.parametrize(
    "content", [[], {}, {"model": {}}, {"model": []}, {"epoch": 3}, {"model": {"a": {"b": 1}}}, 7]
)
def test_files_without_a_state_dict_are_refused(content: Any, tmp_path: Path) -> None:
    file = write(tmp_path / "model.pt", content)
    refused(str(file), call=lambda: read_microsoft(file))


def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    state = microsoft_state(parameters_of(BASE))
    state["module.textual.output.bias"] = state["textual.output.bias"]
    file = write_state(tmp_path / "model.pt", state)
    refused("textual.output.bias twice", call=lambda: read_microsoft(file))


# ---- dtypes


@pytest.mark.parametrize(
    ("stored", "wanted", "found"),
    [
        ("float16", "float32", "float32"),
        ("float16", "float16", "float16"),
        ("float16", "as-is", "float16"),
        ("float32", "float16", "float16"),
        ("float32", "as-is", "float32"),
        ("float64", "as-is", "float64"),
        ("float64", "float32", "float32"),
    ],
)
def test_weights_are_written_as_asked(
    stored: str, wanted: str, found: str, run: Run, tmp_path: Path
) -> None:
    numbers = parameters_of(BASE, stored)
    file = write_state(tmp_path / "model.pt", microsoft_state(numbers))
    code, out, _ = run(file, "--out", tmp_path / "out", "--dtype", wanted)
    assert code == 0
    assert found in out[0]
    read = load_parameters(tmp_path / "out", causal_lm_shapes(BASE), prefix="")
    for name, x in numbers.items():
        np.testing.assert_array_equal(read[name], x.astype(found), strict=True)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["torch_dtype"] == found


def test_mixed_weights_stay_mixed_as_they_are_and_become_one_otherwise(
    run: Run, tmp_path: Path
) -> None:
    state = microsoft_state(parameters_of(BASE))
    state["image_encoder.conv1.weight"] = state["image_encoder.conv1.weight"].astype(np.float16)
    file = write_state(tmp_path / "model.pt", state)
    for dtype, kinds in (("as-is", {"float16", "float32"}), ("float32", {"float32"})):
        assert run(file, "--out", tmp_path / dtype, "--dtype", dtype)[0] == 0
        read = load_parameters(tmp_path / dtype, causal_lm_shapes(BASE), prefix="")
        assert {x.dtype.name for x in read.values()} == kinds
        config = json.loads((tmp_path / dtype / "config.json").read_text())
        assert config["torch_dtype"] == "float32"


def test_numbers_too_large_for_float16_are_refused_by_name(run: Run, tmp_path: Path) -> None:
    state = microsoft_state(parameters_of(BASE))
    state["textual.output.bias"] = np.full(WORDS, 1e5, np.float32)
    file = write_state(tmp_path / "model.pt", state)
    code, _, err = run(file, "--out", tmp_path / "out", "--dtype", "float16")
    assert code == 2
    assert "output.bias" in err[0]
    assert "100000" in err[0]
    assert not (tmp_path / "out").exists()


# ---- every model of the README


def microsoft_shapes(
    width: int, layers: int, patch: int, size: int, joint: int, frames: int
) -> dict[str, tuple[int, ...]]:
    """Every tensor of Microsoft's model, module by module of its source; widths of the text fixed.

    generativeimage2text/layers/CLIP/model.py, layers/decoder.py, layers/bert/modeling_bert.py.
    """
    tokens = (size // patch) ** 2 + 1
    image: dict[str, tuple[int, ...]] = {
        "class_embedding": (width,),
        "positional_embedding": (tokens, width),
        "proj": (width, joint),
        "conv1.weight": (width, 3, patch, patch),
    }
    text: dict[str, tuple[int, ...]] = {
        "embedding.words.weight": (30522, 768),
        "embedding.positions.weight": (1024, 768),
        "visual_projection.0.weight": (768, width),
        "visual_projection.0.bias": (768,),
        "output.weight": (30522, 768),
        "output.bias": (30522,),
    }
    for norm in ("ln_pre", "ln_post"):
        image |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    for norm in ("visual_projection.1", "embedding.layer_norm"):
        text |= {f"{norm}.weight": (768,), f"{norm}.bias": (768,)}
    for i in range(layers):
        block = f"transformer.resblocks.{i}."
        image |= {
            f"{block}attn.in_proj_weight": (3 * width, width),
            f"{block}attn.in_proj_bias": (3 * width,),
            f"{block}attn.out_proj.weight": (width, width),
            f"{block}attn.out_proj.bias": (width,),
            f"{block}ln_1.weight": (width,),
            f"{block}ln_1.bias": (width,),
            f"{block}mlp.c_fc.weight": (4 * width, width),
            f"{block}mlp.c_fc.bias": (4 * width,),
            f"{block}mlp.c_proj.weight": (width, 4 * width),
            f"{block}mlp.c_proj.bias": (width,),
            f"{block}ln_2.weight": (width,),
            f"{block}ln_2.bias": (width,),
        }
    for i in range(6):
        layer = f"transformer.encoder.layer.{i}."
        square = ("attention.self.query", "attention.self.key", "attention.self.value",
                  "attention.output.dense")  # fmt: skip
        for name in square:
            text |= {f"{layer}{name}.weight": (768, 768), f"{layer}{name}.bias": (768,)}
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            text |= {f"{layer}{name}.weight": (768,), f"{layer}{name}.bias": (768,)}
        text |= {f"{layer}intermediate.dense.weight": (3072, 768)}
        text |= {f"{layer}intermediate.dense.bias": (3072,)}
        text |= {f"{layer}output.dense.weight": (768, 3072), f"{layer}output.dense.bias": (768,)}
    shapes = {f"image_encoder.{k}": v for k, v in image.items()}
    shapes |= {f"textual.{k}": v for k, v in text.items()}
    return shapes | {f"img_temperal_embedding.{i}": (1, 1, width) for i in range(frames)}


LARGE_LINES = "visual_feature_size: 1024\nimage_encoder_type: CLIPViT_L_14\n"
# What the README lists, with its parameter.yaml; base, pixels, longest side, frames.
README: dict[str, tuple[str, bool, int, int | None, int]] = {
    "GIT_BASE": ("", True, 224, None, 0),
    "GIT_BASE_COCO": ("", True, 224, None, 0),
    "GIT_BASE_TEXTCAPS": ("", True, 224, None, 0),
    "GIT_BASE_VQAv2": ("test_crop_size: 480\ntest_respect_ratio_max: 640\n", True, 480, 640, 0),
    "GIT_BASE_TEXTVQA": ("test_crop_size: 480\ntest_respect_ratio_max: 640\n", True, 480, 640, 0),
    "GIT_BASE_VATEX": ("num_image_with_embedding: 6\n", True, 224, None, 6),
    "GIT_BASE_MSRVTT": ("num_image_with_embedding: 6\n", True, 224, None, 6),
    "GIT_BASE_MSRVTT_QA": ("num_image_with_embedding: 6\n", True, 224, None, 6),
    "GIT_LARGE": (LARGE_LINES, False, 224, None, 0),
    "GIT_LARGE_COCO": (LARGE_LINES, False, 224, None, 0),
    "GIT_LARGE_TEXTCAPS": (LARGE_LINES, False, 224, None, 0),
    "GIT_LARGE_VQAv2": (
        LARGE_LINES + "test_crop_size: 420\ntest_respect_ratio_max: 560\n\n", False, 420, 560, 0
    ),
    "GIT_LARGE_TEXTVQA": (
        LARGE_LINES + "test_crop_size: 420\ntest_respect_ratio_max: 560\n\n", False, 420, 560, 0
    ),
    "GIT_LARGE_VATEX": ("num_image_with_embedding: 6\n" + LARGE_LINES, False, 224, None, 6),
    "GIT_LARGE_MSRVTT": ("num_image_with_embedding: 6\n" + LARGE_LINES, False, 224, None, 6),
    "GIT_LARGE_MSRVTT_QA": ("num_image_with_embedding: 6\n" + LARGE_LINES, False, 224, None, 6),
    "GIT_LARGE_R": (LARGE_LINES, False, 224, None, 0),
    "GIT_LARGE_R_COCO": (LARGE_LINES, False, 224, None, 0),
    "GIT_LARGE_R_TEXTCAPS": (LARGE_LINES, False, 224, None, 0),
}  # fmt: skip


def test_the_table_has_every_model_of_the_readme() -> None:
    assert set(MODELS) == set(README)


@pytest.mark.slow
@pytest.mark.parametrize("told", ["file", "name", "both", "neither"])
@pytest.mark.parametrize("name", README)
def test_a_model_of_the_readme_at_its_real_size(
    name: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tensors of the true shapes that take no memory: one number, seen again and again."""
    yaml, is_base, size, longest, frames = README[name]
    width, layers, patch, joint = (768, 12, 16, 512) if is_base else (1024, 24, 14, 768)
    shapes = microsoft_shapes(width, layers, patch, size, joint, frames)
    state = {key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()}
    monkeypatch.setattr(microsoft, "read_torch", lambda _: {"model": state})
    if told in ("file", "both") and yaml:
        (tmp_path / "parameter.yaml").write_text(yaml)
    model = read_microsoft(
        tmp_path / "model.pt", name=name if told in ("name", "both") else None, dtype="as-is"
    )
    config = GitConfig.from_dict(model.config)
    vision = config.vision_config
    found = {key: x.shape for key, x in model.parameters.items()}
    assert found == causal_lm_shapes(config)
    assert (vision.hidden_size, vision.num_hidden_layers, vision.patch_size) == (
        width, layers, patch
    )  # fmt: skip
    assert (vision.image_size, vision.intermediate_size) == (size, 4 * width)
    assert (vision.num_attention_heads, config.num_attention_heads) == (width // 64, 12)
    assert (config.hidden_size, config.num_hidden_layers) == (768, 6)
    assert (config.vocab_size, config.max_position_embeddings) == (30522, 1024)
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (0, 101, 102)
    assert config.num_image_with_embedding == (frames or None)
    assert (vision.layer_norm_eps, config.layer_norm_eps) == (1e-5, 1e-12)
    assert config.to_dict()["embedding_layer_norm_eps"] == 1e-8
    assert (vision.hidden_act, config.hidden_act) == ("quick_gelu", "gelu")
    open_question = told == "neither" and size != 224
    assert len(model.notes) == 1 + open_question
    convert.save_processor(model, None, tmp_path)
    settings = json.loads((tmp_path / "preprocessor_config.json").read_text())
    kind = "VideoMAEImageProcessor" if frames else "CLIPImageProcessor"
    assert settings["image_processor_type"] == kind
    assert settings["size"] == {"shortest_edge": size}
    assert settings["crop_size"] == {"height": size, "width": size}
    assert settings["resample"] == 3
    assert settings["image_mean"] == list(CLIP_MEAN)
    assert settings["image_std"] == list(CLIP_STD)
    assert settings.get("respect_ratio_max") == (longest if told != "neither" else None)


@pytest.mark.parametrize("wrong", ["GIT_LARGE", "GIT_BASE_VQAv2", "GIT_BASE_VATEX"])
def test_a_wrong_name_is_contradicted_by_the_tensors(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = microsoft_shapes(768, 12, 16, 224, 512, 0)
    state = {key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()}
    monkeypatch.setattr(microsoft, "read_torch", lambda _: state)
    text = refused(wrong, call=lambda: read_microsoft(tmp_path / "model.pt", name=wrong))
    assert any(key in text for key in KEYS)


def test_a_name_may_be_written_as_on_the_hub() -> None:
    assert settings_of("git-large-r-textcaps") is MODELS["GIT_LARGE_R_TEXTCAPS"]
    assert settings_of("git-base-vqav2") is MODELS["GIT_BASE_VQAv2"]
    refused("GIT_HUGE", "GIT_BASE_COCO", call=lambda: settings_of("GIT_HUGE"))


# ---- settings against tensors, and against one another


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("test_crop_size: 48", ("test_crop_size", "48", "32")),
        ("num_image_with_embedding: 6", ("num_image_with_embedding", "6", "0")),
        ("visual_feature_size: 128", ("visual_feature_size", "128", "64")),
        ("image_encoder_type: CLIPViT_L_14", ("image_encoder_type", "patch_size", "14", "16")),
        ("image_encoder_type: CLIPViT_B_16", ("image_encoder_type", "hidden_size", "768", "64")),
        ("image_encoder_type: CLIPRN50", ("image_encoder_type", "CLIPRN50", "CLIPViT_B_16")),
        ("test_crop_size: large", ("test_crop_size", "large", "integer")),
        ("test_crop_size: true", ("test_crop_size", "True", "integer")),
        ("test_respect_ratio_max: 0", ("test_respect_ratio_max", "0", "at least 1")),
        ("test_respect_ratio_max: 1.5", ("test_respect_ratio_max", "1.5")),
        ("_base_: other.yaml", ("_base_", "other.yaml")),
    ],
)
def test_settings_that_do_not_hold_are_refused_by_name(
    line: str, words: tuple[str, ...], base: Path
) -> None:
    (base.parent / "parameter.yaml").write_text(line + "\n")
    refused("parameter.yaml", *words, call=lambda: read_microsoft(base))


def test_a_video_that_keeps_its_ratio_is_refused(tmp_path: Path) -> None:
    file = write_state(tmp_path / "model.pt", microsoft_state(parameters_of(VIDEO)))
    (tmp_path / "parameter.yaml").write_text("test_respect_ratio_max: 48\n")
    refused("test_respect_ratio_max", "video", call=lambda: read_microsoft(file))


def test_settings_that_hold_are_taken(base: Path) -> None:
    (base.parent / "parameter.yaml").write_text(
        "test_crop_size: 32\ntest_respect_ratio_max: 48\nnum_image_with_embedding: null\n"
        "visual_feature_size: 64\n"
    )
    model = read_microsoft(base)
    assert model.settings == MicrosoftSettings(None, 64, 32, 48, None)
    assert len(model.notes) == 1


@pytest.mark.parametrize("key", ["test_crop_size: 32", "test_respect_ratio_max: 32"])
def test_either_key_says_whether_images_keep_their_ratio(key: str, base: Path) -> None:
    assert any("aspect ratio" in note for note in read_microsoft(base).notes)
    (base.parent / "parameter.yaml").write_text(f"{key}\n")
    assert not any("aspect ratio" in note for note in read_microsoft(base).notes)


def test_weights_that_are_no_numbers_are_noted_by_name(tmp_path: Path) -> None:
    parameters = {name: x.copy() for name, x in parameters_of(BASE).items()}
    parameters["git.embeddings.word_embeddings.weight"][5, 0] = np.nan
    parameters["output.weight"][5, 0] = np.nan
    parameters["output.bias"][3] = np.inf
    notes = read_microsoft(write_state(tmp_path / "model.pt", microsoft_state(parameters))).notes
    (note,) = [note for note in notes if "NaN" in note]
    assert "git.embeddings.word_embeddings.weight, output.weight, output.bias" in note
    assert not any("differ" in note for note in notes)


def test_keys_without_a_meaning_are_passed_over_by_name(base: Path) -> None:
    (base.parent / "parameter.yaml").write_text("max_iter: 100\ntest_crop_sise: 32\n")
    (note,) = [note for note in read_microsoft(base).notes if "passed over" in note]
    assert "max_iter, test_crop_sise" in note


def test_a_name_and_a_file_that_disagree_are_refused() -> None:
    one, other = MicrosoftSettings(test_crop_size=480), MODELS["GIT_BASE"]
    refused("test_crop_size", "480", "224", "here", "there",
            call=lambda: agree(one, other, ("here", "there")))  # fmt: skip
    joined = agree(MicrosoftSettings(test_crop_size=224), other, ("here", "there"))
    assert joined == other


def test_the_settings_beside_a_snapshot_are_found_and_others_can_be_named(tmp_path: Path) -> None:
    state = microsoft_state(parameters_of(BASE))
    file = write_state(tmp_path / "NAME" / "snapshot" / "model.pt", state)
    (tmp_path / "NAME" / "parameter.yaml").write_text("test_respect_ratio_max: 48\n")
    (tmp_path / "other.yaml").write_text("test_respect_ratio_max: 64\n")
    assert read_microsoft(file).settings.test_respect_ratio_max == 48
    chosen = read_microsoft(file, parameters=tmp_path / "other.yaml")
    assert chosen.settings.test_respect_ratio_max == 64
    refused("gone.yaml", "does not exist",
            call=lambda: read_microsoft(file, parameters=tmp_path / "gone.yaml"))  # fmt: skip


# ---- the reader of parameter.yaml


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", {}),
        ("\n# a remark\n\n   # another\n", {}),
        ("a: 1\nb: -2\r\nc: +3\nd: 0", {"a": 1, "b": -2, "c": 3, "d": 0}),
        ("a: 1.5\nb: 1e-8\nc: -2.\nd: 1E+3", {"a": 1.5, "b": 1e-8, "c": -2.0, "d": 1000.0}),
        ("a: true\nb: False\nc: YES\nd: off", {"a": True, "b": False, "c": True, "d": False}),
        ("a:\nb: null\nc: ~\nd: NULL", {"a": None, "b": None, "c": None, "d": None}),
        ("a: CLIPViT_B_16\nb: data/a file.tsv", {"a": "CLIPViT_B_16", "b": "data/a file.tsv"}),
        ("a: 'it''s # here'\nb: \"7\" # why", {"a": "it's # here", "b": "7"}),
        ("a: 1   # a remark\nb: x#y", {"a": 1}),
        ("\ufeffa: 1\n", {"a": 1}),
        ("a: nULL\nb: tRue", {"a": "nULL", "b": "tRue"}),
    ],
)
def test_simple_lines_are_read(text: str, wanted: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "parameter.yaml"
    path.write_bytes(text.encode("utf-8"))
    if "x#y" in text:  # a mark inside a word opens no remark, and is more than plain text
        refused("line 2", call=lambda: read_parameters(path))
        path.write_bytes(text.partition("\n")[0].encode("utf-8"))
    found = read_parameters(path)
    assert found == wanted
    assert {k: type(x) for k, x in found.items()} == {k: type(x) for k, x in wanted.items()}


@pytest.mark.parametrize(
    "line",
    [
        "  b: 1", "- b", "b: [1, 2]", "b: {c: 1}", "b: &x 1", "b: *x", "b: !!int 1", "b: |",
        "b: >", "---", "...", "b", "b:1", "b : 1", "'b': 1", "? b", "b: 010", "b: 0x10", "b: 1_000",
        "b: 12:30", "b: c: d", "b: \"a\\n\"", "b: 'open", "a: 2", "\tb: 1", "b: @c", "b: 'x' y",
        "%YAML 1.1", "b: .5 .5:", "b: -",
    ],
)  # fmt: skip
def test_what_is_more_than_a_simple_line_is_refused_by_its_number(
    line: str, tmp_path: Path
) -> None:
    path = tmp_path / "parameter.yaml"
    path.write_text(f"a: 1\n# a remark\n{line}\n")
    refused(str(path), "line 3", call=lambda: read_parameters(path))


def test_files_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "parameter.yaml"
    refused(str(path), "does not exist", call=lambda: read_parameters(path))
    path.write_bytes(b"a: \xff\n")
    refused(str(path), "UTF-8", call=lambda: read_parameters(path))
    path.unlink()
    path.mkdir()
    refused(str(path), "cannot be read", call=lambda: read_parameters(path))


# ---- the directory


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


ALL_FILES = {
    "config.json", "generation_config.json", "model.safetensors", "preprocessor_config.json",
    "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt",
}  # fmt: skip


def test_the_directory_holds_all_that_a_model_needs(base: Path, run: Run, tmp_path: Path) -> None:
    target = tmp_path / "new" / "out"
    code, out, _ = run(base, "--out", target)
    assert code == 0
    assert files_in(target) == ALL_FILES
    assert files_in(target.parent) == {"out"}
    assert out[0].startswith(f"{target}: ")
    assert json.loads((target / "generation_config.json").read_text()) == {
        "bos_token_id": 101, "eos_token_id": 102, "pad_token_id": 0
    }  # fmt: skip
    model, processor = GitForCausalLM.from_pretrained(target), GitProcessor.from_pretrained(target)
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    inputs = processor(images=image, text="a b", return_tensors="np")
    assert set(inputs) == {"input_ids", "attention_mask", "pixel_values"}
    assert inputs["input_ids"].tolist() == [[101, 104, 105, 102]]
    assert model(**inputs).logits.shape == (1, 5 + 4, WORDS)


def test_an_empty_directory_is_filled(base: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert run(base, "--out", tmp_path / "out")[0] == 0
    assert files_in(tmp_path / "out") == ALL_FILES


def test_a_directory_with_files_is_left_alone_unless_forced(
    base: Path, run: Run, tmp_path: Path
) -> None:
    target = tmp_path / "out"
    target.mkdir()
    for name in ("mine.txt", "config.json"):
        (target / name).write_text("mine")
    code, out, err = run(base, "--out", target)
    assert (code, out) == (2, [])
    assert "--force" in err[0]
    assert files_in(target) == {"mine.txt", "config.json"}
    assert run(base, "--out", target, "--force")[0] == 0
    assert files_in(target) == ALL_FILES | {"mine.txt"}
    assert (target / "mine.txt").read_text() == "mine"
    assert GitForCausalLM.from_pretrained(target).config.vocab_size == WORDS


def test_a_file_in_the_place_of_the_directory_is_refused(
    base: Path, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("mine")
    code, _, err = run(base, "--out", tmp_path / "out", "--force")
    assert code == 2
    assert "is a file" in err[0]


def test_a_directory_that_cannot_be_made_is_named(base: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for name, words in (
        ("", "--out is empty; expected the name of a directory"),
        (tmp_path / "file" / "out", f"{tmp_path / 'file' / 'out'} cannot be made: "),
        ("/proc/refgit/out", "/proc/refgit/out cannot be made: No such file or directory."),
    ):
        code, out, (line,) = run(base, "--out", name)
        assert (code, out) == (2, [])
        assert words in line
        assert "Errno" not in line


def test_the_directory_of_the_file_is_refused_with_the_files_name(
    run: Run, base: Path, tmp_path: Path
) -> None:
    code, _, (line,) = run(base.parent, "--out", tmp_path / "out")
    assert code == 2
    assert f"Make one first: refgit convert {base} --out DIR" in line


def test_a_write_that_fails_leaves_nothing(
    base: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(CLIPImageProcessor, "save_pretrained", full)
    before = files_in(tmp_path)
    code, out, err = run(base, "--out", tmp_path / "out")
    assert (code, out) == (2, [])
    assert "No space left" in err[0]
    assert files_in(tmp_path) == before


def test_a_file_that_is_refused_leaves_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"no checkpoint")
    code, _, err = run(tmp_path / "model.pt", "--out", tmp_path / "out")
    assert code == 2
    assert "model.pt" in err[0]
    assert files_in(tmp_path) == {"model.pt"}
    code, _, err = run(tmp_path / "gone.pt", "--out", tmp_path / "out")
    assert code == 2
    assert "does not exist" in err[0]


def test_a_name_on_the_command_line_is_checked_and_used(
    run: Run, tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = MicrosoftSettings(None, 64, 32, 48, 0)
    monkeypatch.setitem(MODELS, "GIT_TINY_VQA", row)  # type: ignore[arg-type]  # it is a dict
    assert run(base, "--out", tmp_path / "out", "--name", "git-tiny-vqa")[0] == 0
    processor = CLIPImageProcessor.from_pretrained(tmp_path / "out")
    assert processor.respect_ratio_max == 48
    pixels = processor(np.zeros((30, 60, 3), np.uint8))["pixel_values"]
    assert pixels.shape == (1, 3, 24, 48)
    code, _, err = run(base, "--out", tmp_path / "other", "--name", "GIT_BASE")
    assert code == 2
    assert "GIT_BASE" in err[0]


def test_frames_of_a_video_become_one_input(run: Run, tmp_path: Path) -> None:
    file = write_state(tmp_path / "model.pt", microsoft_state(parameters_of(VIDEO)))
    assert run(file, "--out", tmp_path / "out")[0] == 0
    processor = GitProcessor.from_pretrained(tmp_path / "out")
    frames = list(np.random.default_rng(0).integers(0, 256, (6, 40, 50, 3), np.uint8))
    pixels = processor(images=frames, return_tensors="np")["pixel_values"]
    assert pixels.shape == (1, 6, 3, 32, 32)
    model = GitForCausalLM.from_pretrained(tmp_path / "out")
    assert model(input_ids=[[101]], pixel_values=pixels).logits.shape == (1, 6 * 5 + 1, WORDS)
    image = CLIPImageProcessor(size=32, crop_size=32)(frames[0])["pixel_values"]
    np.testing.assert_array_equal(pixels[:, 0], image)  # as pictures of Microsoft's are prepared


# ---- the tokenizer


def test_without_a_tokenizer_all_else_is_written(
    base: Path, run: Run, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(name: str) -> BertTokenizer:
        raise CheckpointError(f"{name} could not be had.")

    monkeypatch.setattr(convert, "load_tokenizer", unreachable)
    target = tmp_path / "out"
    code, out, err = run(base, "--out", target, tokenizer=None)
    assert code == 1
    assert len(out) == 1
    assert "bert-base-uncased could not be had" in err[-1]
    assert "--tokenizer" in err[-1]
    assert "vocab.txt" in err[-1]
    assert files_in(target) == ALL_FILES - {
        "tokenizer.json", "vocab.txt", "special_tokens_map.json"
    }  # fmt: skip
    assert GitForCausalLM.from_pretrained(target).config.vocab_size == WORDS
    (target / "vocab.txt").write_bytes((bert / "vocab.txt").read_bytes())
    inputs = GitProcessor.from_pretrained(target)(text="A b", return_tensors="np")
    assert set(inputs) == {"input_ids", "attention_mask"}
    assert inputs["input_ids"].tolist() == [[101, 104, 105, 102]]


def test_the_name_without_owner_is_asked_for_with_one(
    bert: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []

    def find(name: object, **options: object) -> Path:
        asked.append((str(name), options))
        return bert

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(convert, "find_checkpoint", find)
    monkeypatch.setattr(convert, "_cached", lambda _: None)
    convert.load_tokenizer("bert-base-uncased")
    convert.load_tokenizer("someone/else")
    (tmp_path / "bert-base-uncased").mkdir()
    convert.load_tokenizer("bert-base-uncased")  # a directory of that name comes first
    names = ["google-bert/bert-base-uncased", "someone/else", "bert-base-uncased"]
    assert asked == [(name, {"weights": False}) for name in names]


def test_what_older_programs_left_in_the_cache_is_used(
    bert: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    client = pytest.importorskip("huggingface_hub", reason="pip install huggingface_hub")
    monkeypatch.setattr(client, "snapshot_download", lambda name, local_files_only: str(bert))
    assert convert.load_tokenizer("bert-base-uncased").cls_token_id == 101
    monkeypatch.setattr(client, "snapshot_download", lambda name, local_files_only: str(tmp_path))
    assert convert._cached("bert-base-uncased") is None


@pytest.mark.parametrize("default", [False, True])
@pytest.mark.parametrize(
    ("vocabulary", "words"),
    [
        (VOCABULARY[:-1], ("109 tokens", "110")),
        ([*VOCABULARY, "g"], ("111 tokens",)),
        ([*VOCABULARY[1:], "[PAD]"], ("cls_token_id is 100", "101")),
        ([VOCABULARY[-1], *VOCABULARY[1:-1], "[PAD]"], ("pad_token_id is 109", "0")),
    ],
)
def test_another_vocabulary_is_refused_and_nothing_is_lost(
    vocabulary: list[str],
    words: tuple[str, ...],
    default: bool,
    base: Path,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = tmp_path / "given"
    BertTokenizer.from_vocab(vocabulary).save_pretrained(given)
    if default:
        monkeypatch.setattr(convert, "_cached", lambda _: given)
        monkeypatch.chdir(tmp_path)
    code, _, err = run(base, "--out", tmp_path / "out", tokenizer=None if default else given)
    assert code == (1 if default else 2)
    for word in words:
        assert word in err[-1]
    assert (tmp_path / "out" / "model.safetensors").exists() == default


def test_a_tokenizer_that_is_not_there_is_refused_before_anything_is_read(
    run: Run, tmp_path: Path
) -> None:
    code, _, err = run(
        tmp_path / "gone.pt", "--out", tmp_path / "out", tokenizer=tmp_path / "nowhere"
    )
    assert code == 2
    assert "nowhere" in err[0]


def test_the_command_explains_itself(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run("--help", tokenizer=None)
    assert code == 0
    assert any("refgit convert model.pt --out" in line for line in out)
    assert any("exit codes" in line for line in out)
    code, _, err = run("model.pt", tokenizer=None)
    assert code == 2
    assert "--out" in err[0]
