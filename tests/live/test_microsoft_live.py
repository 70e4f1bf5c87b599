"""Microsoft's model, written here from its facts in torch, against its converted checkpoint.

Its state dict goes through torch.save and `refgit convert`; the logits of refgit, and of
transformers 4.56.2 on the same directory, must be those of the model it was saved from.

    OMP_NUM_THREADS=1 python -m pytest tests/live/test_microsoft_live.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.microsoft import VOCABULARY, WORDS
from helpers.oracle import only, torch, transformers
from refgit import BertTokenizer, GitConfig, GitForCausalLM, GitProcessor, to_numpy
from refgit.cli import main as cli

only("4")

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore::FutureWarning")]

nn, functional = torch.nn, torch.nn.functional
TOLERANCE = 2e-5


# ---- Microsoft's model: CLIP's image encoder, BERT's layers over image and text


class VisionBlock(nn.Module):  # type: ignore[misc]  # torch is not typed here
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, width // 64)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.ModuleDict(
            {"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)}
        )

    def forward(self, x: Any) -> Any:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]  # (N, B, D)
        y = self.mlp["c_fc"](self.ln_2(x))
        return x + self.mlp["c_proj"](y * torch.sigmoid(1.702 * y))


class VisionTower(nn.Module):  # type: ignore[misc]
    def __init__(self, width: int, layers: int, patch: int, grid: int) -> None:
        super().__init__()
        self.grid = grid
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros(grid * grid + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = nn.ModuleDict(
            {"resblocks": nn.ModuleList(VisionBlock(width) for _ in range(layers))}
        )
        self.proj = nn.Parameter(torch.zeros(width, 8))  # in the file, and never used

    def positions(self, rows: int, columns: int) -> Any:
        if rows == columns == self.grid:
            return self.positional_embedding
        first, others = self.positional_embedding[:1], self.positional_embedding[1:]
        square = others.T.reshape(1, -1, self.grid, self.grid)  # (1, D, G, G)
        other = functional.interpolate(square, size=(rows, columns), mode="bicubic")
        return torch.cat([first, other[0].flatten(1).T])

    def forward(self, pixels: Any) -> Any:
        x = self.conv1(pixels)
        positions = self.positions(*x.shape[2:])
        x = x.flatten(2).transpose(1, 2)  # (B, D, G, G) -> (B, G G, D)
        opening = self.class_embedding.expand(len(x), 1, -1)
        x = self.ln_pre(torch.cat([opening, x], dim=1) + positions)
        x = x.transpose(0, 1)
        for block in self.transformer["resblocks"]:
            x = block(x)
        return self.ln_post(x.transpose(0, 1))


class BertLayer(nn.Module):  # type: ignore[misc]
    """One post-norm layer; the modules hang where BERT's names want them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        projections = {name: nn.Linear(width, width) for name in ("query", "key", "value")}
        self.attention = nn.ModuleDict(
            {
                "self": nn.ModuleDict(projections),
                "output": nn.ModuleDict(
                    {
                        "dense": nn.Linear(width, width),
                        "LayerNorm": nn.LayerNorm(width, eps=1e-12),
                    }
                ),
            }
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, 4 * width)})
        self.output = nn.ModuleDict(
            {
                "dense": nn.Linear(4 * width, width),
                "LayerNorm": nn.LayerNorm(width, eps=1e-12),
            }
        )

    def forward(self, x: Any, mask: Any) -> Any:
        batch, length, width = x.shape

        def heads(name: str) -> Any:
            y = self.attention["self"][name](x)
            return y.view(batch, length, width // 64, 64).transpose(1, 2)  # (B, H, L, 64)

        scores = (heads("query") / 8.0) @ heads("key").transpose(2, 3) + mask
        y = (scores.softmax(-1) @ heads("value")).transpose(1, 2).reshape(x.shape)
        after = self.attention["output"]
        x = after["LayerNorm"](after["dense"](y) + x)
        y = self.intermediate["dense"](x)
        y = y * 0.5 * (1.0 + torch.erf(y / 2.0**0.5))
        return self.output["LayerNorm"](self.output["dense"](y) + x)


class TextHead(nn.Module):  # type: ignore[misc]
    def __init__(self, visual: int, width: int, layers: int, words: int, longest: int) -> None:
        super().__init__()
        self.visual_projection = nn.Sequential(nn.Linear(visual, width), nn.LayerNorm(width))
        self.embedding = nn.ModuleDict(
            {
                "words": nn.Embedding(words, width),
                "positions": nn.Embedding(longest, width),
                "layer_norm": nn.LayerNorm(width, eps=1e-8),
            }
        )
        encoder = nn.ModuleDict({"layer": nn.ModuleList(BertLayer(width) for _ in range(layers))})
        self.transformer = nn.ModuleDict({"encoder": encoder})
        self.output = nn.Linear(width, words)
        self.output.weight = self.embedding["words"].weight

    def forward(self, image: Any, ids: Any) -> Any:
        image = self.visual_projection(image)
        n, t = image.shape[1], ids.shape[1]
        text = self.embedding["words"](ids) + self.embedding["positions"](torch.arange(t))
        x = torch.cat([image, self.embedding["layer_norm"](text)], dim=1)
        mask = torch.zeros(n + t, n + t)
        mask[:n, n:] = -torch.inf  # the image does not see the text
        mask[n:, n:] = torch.full((t, t), -torch.inf).triu(1)
        for layer in self.transformer["encoder"]["layer"]:
            x = layer(x, mask)
        return self.output(x)  # the image's logits as well, which transformers gives too


class Original(nn.Module):  # type: ignore[misc]
    def __init__(self, *, width: int, patch: int, grid: int, frames: int) -> None:
        super().__init__()
        self.image_encoder = VisionTower(width, 2, patch, grid)
        self.textual = TextHead(width, 128, 3, WORDS, 24)
        if frames:
            self.img_temperal_embedding = nn.ParameterList(
                nn.Parameter(torch.zeros(1, 1, width)) for _ in range(frames)
            )

    def forward(self, images: list[Any], ids: Any) -> Any:
        features = [self.image_encoder(x) for x in images]
        if hasattr(self, "img_temperal_embedding"):
            features = [f + e for f, e in zip(features, self.img_temperal_embedding, strict=False)]
        return self.textual(torch.cat(features, dim=1), ids)


def original(spread: float = 0.1, embeddings: float | None = None, **sizes: Any) -> Original:
    """Seeded random weights. `embeddings` is how far words and positions spread."""
    torch.manual_seed(0)
    model = Original(**{"width": 128, "patch": 16, "grid": 3, "frames": 0, **sizes}).eval()
    with torch.no_grad():
        for name, x in model.named_parameters():
            # norms near 1, so that each weight matters and none hides another
            about = 1.0 if ("ln_" in name or "orm.weight" in name) and "weight" in name else 0.0
            x.copy_(about + spread * torch.randn(x.shape))
        if embeddings is not None:
            for table in ("words", "positions"):
                x = model.textual.embedding[table].weight
                x.copy_(embeddings * torch.randn(x.shape))
    return model


# ---- through the command


@pytest.fixture
def convert_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    BertTokenizer.from_vocab(VOCABULARY).save_pretrained(tmp_path / "bert")

    def converted(model: Original, prefix: str = "", yaml: str = "", **options: Any) -> Path:
        state = {prefix + name: x for name, x in model.state_dict().items()}
        torch.save({"model": state, "iteration": 7}, tmp_path / "model.pt", **options)
        if yaml:
            (tmp_path / "parameter.yaml").write_text(yaml)
        target, tokenizer = str(tmp_path / "out"), str(tmp_path / "bert")
        arguments = ["convert", str(tmp_path / "model.pt"), "--out", target]
        assert cli.main([*arguments, "--tokenizer", tokenizer]) == 0
        return tmp_path / "out"

    return converted


def inputs_for(frames: int, height: int = 48, width: int = 48) -> tuple[Any, Any]:
    rng = np.random.default_rng(1)
    pixels = rng.standard_normal((2, max(frames, 1), 3, height, width)).astype(np.float32)
    ids = rng.integers(104, WORDS, (2, 6))
    ids[:, 0] = 101
    return (pixels if frames else pixels[:, 0]), ids


def wanted_logits(model: Original, pixels: Any, ids: Any) -> Any:
    images = list(torch.from_numpy(pixels).unbind(1)) if pixels.ndim == 5 else [
        torch.from_numpy(pixels)
    ]  # fmt: skip
    with torch.no_grad():
        return model(images, torch.from_numpy(ids)).numpy()


def assert_close(found: Any, wanted: Any, tolerance: float = TOLERANCE) -> None:
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max()


KINDS = {
    "base": {},
    "large": {"width": 192, "patch": 14},
    "video": {"frames": 6},
}


@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_logits_are_those_of_the_original(kind: str, form: str, convert_it: Any) -> None:
    sizes = KINDS[kind]
    model, frames = original(**sizes), sizes.get("frames", 0)
    yaml = f"num_image_with_embedding: {frames}\nvisual_feature_size: {sizes.get('width', 128)}\n"
    folder = convert_it(
        model,
        prefix="module." if form == "legacy" else "",
        yaml=yaml,
        _use_new_zipfile_serialization=form == "zip",
    )
    side = 3 * sizes.get("patch", 16)
    pixels, ids = inputs_for(frames, side, side)
    wanted = wanted_logits(model, pixels, ids)
    ours = GitForCausalLM.from_pretrained(folder)(input_ids=ids, pixel_values=pixels).logits
    assert_close(to_numpy(ours), wanted)
    theirs, loading = transformers.GitForCausalLM.from_pretrained(
        folder, output_loading_info=True, attn_implementation="eager"
    )
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    assert not loading["mismatched_keys"]
    with torch.no_grad():
        found = theirs.eval()(torch.from_numpy(ids), pixel_values=torch.from_numpy(pixels)).logits
    assert_close(found.numpy(), wanted)


def test_an_image_that_keeps_its_ratio_has_the_logits_of_the_original(convert_it: Any) -> None:
    """From the picture on: resized by Microsoft's rule, its positions interpolated."""
    model = original()
    folder = convert_it(model, yaml="test_crop_size: 48\ntest_respect_ratio_max: 70\n")
    picture = np.random.default_rng(0).integers(0, 256, (50, 80, 3), np.uint8)
    pixels = GitProcessor.from_pretrained(folder)(images=picture, return_tensors="np")
    pixels = pixels["pixel_values"]
    assert pixels.shape == (1, 3, 44, 70)  # 70 / 80 * 50 is 43.75; the patches cover 32 by 64
    ids = np.array([[101, 105, 106]])
    wanted = wanted_logits(model, pixels, ids)
    found = GitForCausalLM.from_pretrained(folder)(
        input_ids=ids, pixel_values=pixels, interpolate_pos_encoding=True
    ).logits
    assert_close(to_numpy(found), wanted)


@pytest.mark.parametrize("frames", [0, 6])
def test_transformers_reads_the_processor_and_prepares_the_same(
    frames: int, convert_it: Any
) -> None:
    folder = convert_it(original(frames=frames))
    theirs = transformers.AutoProcessor.from_pretrained(folder, use_fast=False)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (60, 70, 3), np.uint8) for _ in range(max(frames, 1))]
    given = images if frames else images[0]
    text = "a b, c"
    found = theirs(images=given, text=text, return_tensors="np")
    ours = GitProcessor.from_pretrained(folder)(images=given, text=text, return_tensors="np")
    assert set(found) == set(ours) == {"pixel_values", "input_ids", "attention_mask"}
    for name, x in ours.items():
        np.testing.assert_array_equal(found[name], x)


def test_the_words_are_normalized_with_microsofts_epsilon(convert_it: Any) -> None:
    """Embeddings so narrow that 1e-8 beside their variance is seen, and 1e-12 is not."""
    if not hasattr(GitConfig, "embedding_layer_norm_eps"):
        pytest.skip("GitConfig has no embedding_layer_norm_eps yet: the decoder takes 1e-12")
    model = original(embeddings=1e-4)
    pixels, ids = inputs_for(0)
    wanted = wanted_logits(model, pixels, ids)
    folder = convert_it(model)
    found = GitForCausalLM.from_pretrained(folder)(input_ids=ids, pixel_values=pixels).logits
    assert_close(to_numpy(found), wanted)
    config = GitConfig.from_pretrained(folder)
    assert config.layer_norm_eps == 1e-12
    assert config.to_dict()["embedding_layer_norm_eps"] == 1e-8
