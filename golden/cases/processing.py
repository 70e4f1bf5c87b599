"""Golden values of the processor, from transformers 4.56.2: pixel values, token ids, texts.

Used by generate.py: `generate.py processing` writes golden/data/processing.*. Images are drawn
from seeds; the vocabulary is made up here.
"""

from __future__ import annotations

import json
import pathlib
import tempfile
from typing import Any

import numpy as np
import transformers
from PIL import Image
from safetensors.numpy import save_file

SMALL = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
HALVES = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}

# name: (mode, width, height, settings)
PICTURES: dict[str, tuple[str, int, int, dict[str, Any]]] = {
    **{f"mode_{m}": (m, 23, 19, SMALL) for m in ("1", "L", "LA", "RGB", "RGBA", "CMYK")},
    **{f"mode_{m}": (m, 19, 23, SMALL) for m in ("YCbCr", "HSV", "I", "F", "P")},
    **{f"resample_{n}": ("RGB", 37, 21, {**SMALL, "resample": n}) for n in range(6)},
    "width_1": ("RGB", 1, 20, SMALL),
    "one_pixel_channels_stated": ("RGB", 1, 1, SMALL),
    "height_1_channels_stated": ("RGB", 11, 1, SMALL),
    "height_3_read_as_channels": ("RGB", 11, 3, SMALL),
    "defaults_but_size": ("RGB", 40, 28, {"size": 20, "crop_size": 20}),
    "stretched": ("RGB", 31, 17, {**SMALL, "size": {"height": 20, "width": 18}}),
    "padded_odd": ("RGB", 30, 20, {"size": 12, "crop_size": {"height": 17, "width": 15}}),
    "padded_one_axis": ("RGB", 40, 10, {"size": 10, "crop_size": {"height": 15, "width": 21}}),
    "cropped_odd": ("RGB", 22, 19, {"do_resize": False, "crop_size": {"height": 8, "width": 9}}),
    "no_crop": ("RGB", 25, 14, {**SMALL, "do_center_crop": False}),
    "no_normalize": ("RGB", 25, 14, {**SMALL, "do_normalize": False}),
    "no_rescale": ("RGB", 25, 14, {**SMALL, "do_rescale": False}),
    "resize_only": ("RGB", 25, 14, {**SMALL, "do_rescale": False, "do_normalize": False}),
    "halves": ("RGB", 25, 14, {**SMALL, **HALVES, "rescale_factor": 0.01}),
}

# name: (dtype, shape, drawn from [0, 1] instead of 0..255, settings)
ARRAYS: dict[str, tuple[str, tuple[int, ...], bool, dict[str, Any]]] = {
    "uint8_last": ("uint8", (20, 24, 3), False, SMALL),
    "uint8_first": ("uint8", (3, 20, 24), False, SMALL),
    "uint8_batch_first": ("uint8", (2, 3, 20, 24), False, SMALL),
    "uint8_ambiguous": ("uint8", (3, 20, 3), False, SMALL),
    "int64_last": ("int64", (20, 24, 3), False, SMALL),
    "float32_whole_numbers": ("float32", (20, 24, 3), False, SMALL),
    "float32_fractions": ("float32", (20, 24, 3), True, {**SMALL, "do_rescale": False}),
    "float32_fractions_rescaled_twice": ("float32", (20, 24, 3), True, SMALL),
    "float64_first_fractions": ("float64", (3, 20, 24), True, {**SMALL, "do_rescale": False}),
    "float16_no_resize": ("float16", (3, 18, 18), True, {**SMALL, "do_resize": False}),
}

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] a cat ##s the dog is . , ? ! ' - n t s don ##n e é 2 ##0"
VOCAB = [*WORDS.split(), "##e", "漢", "字", "🙂", "b", "##b", "##a", "İ"]
TEXTS = [
    "a cat",
    "The CATS, the dog!",
    "",
    "   \t\n ",
    "don't - isn't 's",
    "Élan é e\u0301",
    "漢字cat🙂",
    "[MASK] is [SEP]the[PAD] [mask]",
    "b" + "a" * 99,
    "b" + "a" * 100,
    "2020 \u00a0 a\u200bcat \ufffd \x00dog",
]
TOKENIZERS: dict[str, dict[str, Any]] = {
    "uncased": {},
    "cased": {"do_lower_case": False},
    "accents_kept": {"strip_accents": False},
    "chinese_whole": {"tokenize_chinese_chars": False, "strip_accents": True},
    "more_special_tokens": {"bos_token": "<s>", "additional_special_tokens": ["dog"]},
    "left": {"padding_side": "left", "truncation_side": "left", "model_max_length": 8},
}
CALLS: list[dict[str, Any]] = [
    {},
    {"add_special_tokens": False},
    {"padding": True},
    {"padding": "longest", "truncation": True, "max_length": 5},
    {"padding": "max_length", "truncation": True, "max_length": 6},
    {"padding": True, "padding_side": "left", "return_token_type_ids": True},
]


def draw_picture(rng: np.random.Generator, mode: str, width: int, height: int) -> Image.Image:
    if mode in ("I", "F"):
        values = rng.integers(-60, 320, (height, width))
        return Image.fromarray(values.astype(np.int32 if mode == "I" else np.float32))
    colours = Image.fromarray(rng.integers(0, 256, (height, width, 4), dtype=np.uint8), "RGBA")
    if mode == "P":
        return colours.convert("RGB").quantize(13)
    if mode in ("1", "CMYK", "YCbCr", "HSV"):
        return colours.convert("RGB").convert(mode)
    return colours.convert(mode)


def picture_cases(tensors: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    cases = []
    for seed, (name, (mode, width, height, settings)) in enumerate(PICTURES.items()):
        picture = draw_picture(np.random.default_rng(seed), mode, width, height)
        options = {"input_data_format": "channels_last"} if "stated" in name else {}
        tensors[f"{name}.input"] = np.frombuffer(picture.tobytes(), np.uint8)
        if mode == "P":
            tensors[f"{name}.palette"] = np.array(picture.getpalette(), np.uint8)
        tensors[f"{name}.pixel_values"] = oracle_pixels(picture, settings, options)
        cases.append(
            {"name": name, "mode": mode, "size": [width, height]}
            | {"settings": settings, "options": options}
        )
    return cases


def array_cases(tensors: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    cases = []
    for seed, (name, (dtype, shape, fractions, settings)) in enumerate(ARRAYS.items()):
        rng = np.random.default_rng(1000 + seed)
        array = (rng.random(shape) if fractions else rng.integers(0, 256, shape)).astype(dtype)
        tensors[f"{name}.input"] = array
        tensors[f"{name}.pixel_values"] = oracle_pixels(array, settings, {})
        cases.append({"name": name, "settings": settings, "options": {}})
    return cases


def oracle_pixels(images: Any, settings: dict[str, Any], options: dict[str, Any]) -> np.ndarray:
    slow = transformers.CLIPImageProcessor(**settings)
    pixel_values = slow(images, return_tensors="np", **options)["pixel_values"]
    return np.ascontiguousarray(pixel_values, np.float32)


def tokenizer_cases() -> list[dict[str, Any]]:
    cases = []
    for name, config in TOKENIZERS.items():
        config = {"model_input_names": ["input_ids", "attention_mask"], **config}
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder)
            (path / "vocab.txt").write_text("\n".join(VOCAB) + "\n", encoding="utf-8")
            (path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
            tokenizer = transformers.BertTokenizerFast.from_pretrained(folder)
            calls = [{"options": call, "output": dict(tokenizer(TEXTS, **call))} for call in CALLS]
            tokenizer.save_pretrained(folder)
            written = {
                file.name: file.read_text(encoding="utf-8") for file in sorted(path.iterdir())
            }
        ids = [tokenizer(text)["input_ids"] for text in TEXTS] + [[len(VOCAB) + 9, 6, 7], []]
        decoded = [
            {
                "skip_special_tokens": skip,
                "clean_up_tokenization_spaces": clean,
                "texts": tokenizer.batch_decode(
                    ids, skip_special_tokens=skip, clean_up_tokenization_spaces=clean
                ),
            }
            for skip in (False, True)
            for clean in (None, True, False)
        ]
        cases.append(
            {"name": name, "config": config, "calls": calls, "ids": ids, "decoded": decoded}
            | {"vocabulary": tokenizer.get_vocab(), "files": written if name == "cased" else None}
        )
    return cases


def generate(out: pathlib.Path) -> list[dict[str, Any]]:
    """Write processing.safetensors and processing.json into `out`; return manifest entries."""
    transformers.logging.set_verbosity_error()  # two cases are ambiguous on purpose
    out.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, np.ndarray] = {}
    content = {
        "pictures": picture_cases(tensors),
        "arrays": array_cases(tensors),
        "vocab": VOCAB,
        "texts": TEXTS,
        "tokenizers": tokenizer_cases(),
    }
    save_file(tensors, out / "processing.safetensors")
    (out / "processing.safetensors").chmod(0o644)  # safetensors writes for the owner only
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    (out / "processing.json").write_text(text + "\n", encoding="utf-8")
    return [
        {
            "case": "processing",
            "files": ["processing.safetensors", "processing.json"],
            "description": (
                f"{len(PICTURES)} PIL images and {len(ARRAYS)} arrays with the pixel_values of the "
                f"slow CLIPImageProcessor; {len(TOKENIZERS)} tokenizers over a made-up vocabulary "
                "with ids and decoded texts of BertTokenizerFast"
            ),
        }
    ]
