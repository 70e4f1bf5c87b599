"""What is measured: names, inputs and options, the same for refgit and every peer.

A case is a dict, since it travels to the workers as JSON. Inputs are in files beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refgit.model.config import GitConfig

Case = dict[str, Any]
TOKENS = 20  # of a caption
TEXT = 11  # tokens that a decode step looks at, its own included
BATCH = 8
BEAMS = 4
PICTURE = (480, 640)  # height, width of the image to be preprocessed

MEANINGS = {
    "start": "cold start: process start to a caption of {tokens} tokens",
    "load": "open the checkpoint",
    "preprocess": "preprocess one image of 640 x 480",
    "vision-1": "image encoder, 1 image",
    "vision-8": "image encoder, 8 images",
    "prefill": "encode 1 image and read the opening token",
    "decode": "one more token at {keys} keys",
    "greedy-1": "greedy caption of {tokens} tokens, 1 image",
    "greedy-8": "greedy captions of {tokens} tokens, 8 images",
    "beam-4": "beam search, 4 beams, {tokens} tokens, 1 image",
}


def make_cases(config: GitConfig, folder: Path, names: Sequence[str] | None = None) -> list[Case]:
    """Return the cases of a model, with their inputs written to a folder.

    Parameters
    ----------
    config : GitConfig
    folder : Path
        Where pixel values (.npy) and the picture (.png) go; it exists.
    names : sequence of str, optional
        Which of `MEANINGS`; all by default.

    Raises
    ------
    ValueError
        A name is unknown.
    """
    wanted = list(MEANINGS) if names is None else list(names)
    unknown = [name for name in wanted if name not in MEANINGS]
    if unknown:
        raise ValueError(
            f"--only names {', '.join(map(repr, unknown))}; expected some of {', '.join(MEANINGS)}."
        )
    room = config.max_position_embeddings
    tokens, text = min(TOKENS, room - 1), min(TEXT, room)
    random = np.random.default_rng(0)
    start = config.bos_token_id if config.bos_token_id is not None else 0
    more = random.integers(0, config.vocab_size, text - 1).tolist()
    image = draw_picture(folder / "picture.png")
    one, many = (write_pixels(config, folder, batch) for batch in (1, BATCH))
    caption = {"kind": "generate", "tokens": tokens, "beams": 1}
    keys = config.num_image_tokens() + text
    cases: list[Case] = [
        {"name": "start", **caption, "kind": "once", "image": image, "pixels": one},
        {"name": "load", "kind": "load"},
        {"name": "preprocess", "kind": "preprocess", "image": image},
        {"name": "vision-1", "kind": "vision", "pixels": first_frames(one), "batch": 1},
        {"name": "vision-8", "kind": "vision", "pixels": first_frames(many), "batch": BATCH},
        {"name": "prefill", "kind": "prefill", "pixels": one, "ids": [[start]], "batch": 1},
        {
            "name": "decode",
            "kind": "decode",
            "pixels": one,
            "ids": [[start, *more]],
            "keys": keys,
        },
        {"name": "greedy-1", **caption, "pixels": one, "batch": 1},
        {"name": "greedy-8", **caption, "pixels": many, "batch": BATCH},
        {"name": "beam-4", **caption, "beams": BEAMS, "pixels": one, "batch": 1},
    ]
    for case in cases:
        case["meaning"] = MEANINGS[case["name"]].format(tokens=tokens, keys=keys)
    return [case for case in cases if case["name"] in wanted]


def limit_cases(case: Case, config: GitConfig) -> list[Case]:
    """List what has to be measured so that `limit_of` can tell the limit of a case."""
    keys = config.num_image_tokens() + TEXT
    needed: list[Case] = [
        {"name": f"limit {of}-{batch}", "kind": "limit", "of": of, "batch": batch, "keys": keys}
        for of, batch in parts_of(case)
    ]
    if case["kind"] in ("decode", "generate"):
        needed.append({"name": "limit read", "kind": "limit", "of": "read"})
    return needed


def parts_of(case: Case) -> list[tuple[str, int]]:
    """Bare products that a case cannot do without: (kind, batch)."""
    batch = case.get("batch", 1)
    if case["kind"] in ("vision", "prefill"):
        return [(case["kind"], batch)]
    if case["kind"] == "decode":
        return [("step", 1)]
    if case["kind"] == "generate":
        return [("prefill", batch)]
    return []


def limit_of(case: Case, seconds: dict[str, float]) -> float | None:
    """The least time of a case by what was measured, {name of limit case: seconds}.

    A caption encodes its image once, which gives the first token; for each further one the weights
    of the decoder are read, however many batch rows there are.
    """
    names = [f"limit {of}-{batch}" for of, batch in parts_of(case)]
    times = [1.0] * len(names)
    if case["kind"] == "generate":
        names, times = [*names, "limit read"], [*times, case["tokens"] - 1.0]
    if not names or any(name not in seconds for name in names):
        return None
    return sum(n * seconds[name] for n, name in zip(times, names, strict=True))


def write_pixels(
    config: GitConfig, folder: Path, batch: int, *, side: int | None = None, frames: int = 0
) -> str:
    """Write random pixel values and return the file's name."""
    vision = config.vision_config
    side, frames = side or vision.image_size, frames or config.num_image_with_embedding or 0
    shape = (batch, *([frames] if frames else []), vision.num_channels, side, side)
    file = folder / f"pixels-{'-'.join(map(str, shape))}.npy"
    if not file.exists():
        np.save(file, np.random.default_rng(batch).standard_normal(shape).astype(np.float32))
    return str(file)


def first_frames(file: str) -> str:
    """The same file where it holds images; of videos, another with each one's first frame."""
    pixels = np.load(file, mmap_mode="r")
    if pixels.ndim == 4:
        return file
    target = Path(file).with_name("first-" + Path(file).name)
    np.save(target, pixels[:, 0])
    return str(target)


def draw_picture(file: Path) -> str:
    """Write a picture of soft random blots and return its file's name."""
    from PIL import Image

    blots = np.random.default_rng(1).integers(0, 256, (12, 16, 3), np.uint8)
    height, width = PICTURE
    Image.fromarray(blots).resize((width, height), Image.Resampling.BICUBIC).save(file)
    return str(file)
