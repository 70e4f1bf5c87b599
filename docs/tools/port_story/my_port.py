"""Stands for a port in another language: the story of docs/port-story.md.

    python docs/tools/port_story/my_port.py --version 1 caption PICTURE ...
    python docs/tools/port_story/my_port.py --version 1 dump PICTURE mine.npz [--only layers]

The mathematics is tests/helpers/other_git.py, which shares no code with refgit: einsum, own names,
and places where mistakes can be put. Preparing the picture and writing words are below. Version 1
has two mistakes, version 2 one, version 3 none.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "tests"))

from helpers.other_git import Mutation, OtherGit  # noqa: E402

MODEL = ROOT / "refgit" / "demo"
CONFIG = json.loads((MODEL / "config.json").read_text())
WEIGHTS = load_file(MODEL / "model.safetensors")
WORDS = (MODEL / "vocab.txt").read_text().splitlines()
BEGIN, END, MOST = 2, 3, 12

ACTIVATION = [Mutation("v.act", "gelu", i) for i in range(5)]  # erf, where quick_gelu should be
CLASS_TOKEN = [Mutation("vemb", "class_no_position")]  # positions added before the class token
# What a port may show of itself: names that fit are written, the inputs always.
SHOWN = {"all": r".*", "layers": r"v\d+\.end|t\d+\.n2|p\.norm|logits", "logits": r"logits"}
VERSIONS = {1: [*ACTIVATION, *CLASS_TOKEN], 2: CLASS_TOKEN, 3: []}


def prepared(path: str) -> np.ndarray:
    """A square picture as pixel values (1, C, S, S)."""
    picture = Image.open(path).convert("RGB").resize((84, 84), Image.Resampling.BICUBIC)
    mean = np.array([0.48145466, 0.4578275, 0.40821073])
    std = np.array([0.26862954, 0.26130258, 0.27577711])
    x = (np.asarray(picture) / 255 - mean) / std
    return x.transpose(2, 0, 1)[None].astype(np.float32)


def port(version: int) -> OtherGit:
    """A fresh model."""
    return OtherGit(WEIGHTS, CONFIG, VERSIONS[version])


def caption(version: int, pixels: np.ndarray) -> str:
    """The likeliest word again and again; all is computed anew for each."""
    ids = [BEGIN]
    while ids[-1] != END and len(ids) < MOST:
        logits = port(version).run(pixels, np.array([ids]))["output"]
        ids.append(int(logits[0, -1].argmax()))
    return " ".join(WORDS[i] for i in ids[1:] if i != END).replace(" ##", "")


def dump(version: int, pixels: np.ndarray, out: str, shown: str) -> None:
    """The tensors of one call under the port's own names, in the order of execution."""
    ids, model = np.array([[BEGIN]]), port(version)
    model.run(pixels, ids)
    hooks = {name.removeprefix("0/"): x for name, x in model.hooks.items()}
    tensors = {name: x for name, x in hooks.items() if re.fullmatch(SHOWN[shown], name)}
    np.savez(out, **{"pixel_values": pixels, "input_ids": ids}, **tensors)
    print(f"{out}: {len(tensors) + 2} tensors")


def main() -> None:
    """Read the command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--version", type=int, choices=VERSIONS, default=3)
    parser.add_argument("--only", choices=SHOWN, default="all")
    parser.add_argument("command", choices=("caption", "dump"))
    parser.add_argument("files", nargs="+")
    given = parser.parse_args()
    if given.command == "dump":
        picture, out = given.files
        dump(given.version, prepared(picture), out, given.only)
        return
    for path in given.files:
        print(f"{Path(path).name}: {caption(given.version, prepared(path))}")


if __name__ == "__main__":
    main()
