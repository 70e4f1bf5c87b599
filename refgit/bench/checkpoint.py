"""The weights that are measured when no model is named: git-base's size, drawn at random.

Time does not depend on the weights' values, so a checkpoint can be made where none can be
downloaded: 177 million numbers, 707 MB, written once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from refgit.files import whole_directory
from refgit.model.causal_lm import GitForCausalLM
from refgit.model.config import GitConfig
from refgit.processing import BertTokenizer, CLIPImageProcessor, GitProcessor

DEFAULT = "git-base-random"
VERSION = 1  # of what is written; a new number has it written again


def cache_folder() -> Path:
    """Where checkpoints, graphs and environments of the benchmark are kept."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "refgit" / "bench"


def default_model(say: Callable[[str], None]) -> Path:
    """Return the folder of the random checkpoint of git-base's size, made on first use."""
    folder = cache_folder() / f"{DEFAULT}-{VERSION}"
    if folder.exists():
        return folder
    say(f"writing random weights of git-base's size (707 MB, once) to {folder}")
    return write_model(GitForCausalLM(GitConfig(), seed=0), folder)


def write_model(model: GitForCausalLM, folder: Path) -> Path:
    """Write a model with a processor whose vocabulary is made up; all of it or nothing."""
    with whole_directory(folder) as partial:
        model.save_pretrained(partial)
        side = model.config.vision_config.image_size
        GitProcessor(
            CLIPImageProcessor(size=side, crop_size=side),
            BertTokenizer.from_vocab(made_up_words(model.config.vocab_size)),
        ).save_pretrained(partial)
    return folder


def made_up_words(count: int) -> list[str]:
    """A vocabulary with BERT's special tokens where BERT has them, as far as there is room."""
    special = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
    if count <= max(special):
        special = dict(enumerate(("[PAD]", "[CLS]", "[SEP]", "[UNK]")))
    return [special.get(i, f"w{i}") for i in range(count)]
