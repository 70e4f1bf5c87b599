"""`refgit convert`: Microsoft's model.pt, as a directory that refgit and transformers load."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from refgit.checkpoint.microsoft.convert import MicrosoftModel, read_microsoft
from refgit.checkpoint.video_files import save_weights_and_config
from refgit.cli.arguments import add_debug
from refgit.cli.output import one_line, put, reason, say
from refgit.cli.terminal import waiting
from refgit.errors import CheckpointError
from refgit.files import whole_directory, write_json
from refgit.hub import find_checkpoint
from refgit.model.config import GitConfig
from refgit.processing import BertTokenizer, CLIPImageProcessor, VideoMAEImageProcessor
from refgit.processing.image.processor import CLIP_MEAN, CLIP_STD

_BERT = "bert-base-uncased"  # what all of Microsoft's models were trained with
_BERT_ON_THE_HUB = f"google-bert/{_BERT}"

DESCRIPTION = "Turn one of Microsoft's GIT checkpoints into a model directory."
EPILOG = f"""\
examples:
  refgit convert model.pt --out git-base-coco
  refgit convert model.pt --out git-base-vqav2 --name GIT_BASE_VQAv2
  refgit convert model.pt --out git-base --tokenizer DIR --dtype float16

Reads what Microsoft's code of GIT (microsoft/GenerativeImage2Text) has saved: model.pt, and the
parameter.yaml beside it if there is one. Weights and settings are checked; nothing is guessed.

A checkpoint is a model's weights with its settings. A tokenizer cuts text into the words and
pieces of words of a vocabulary. The vocabulary is that of {_BERT}, which refgit does not
bring along: it is taken from --tokenizer, else from the Hugging Face hub or its cache. Without it
all else is written, and it can be added later.

exit codes: 0 all well, 1 all but the tokenizer was written, 2 nothing was written
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("file", metavar="FILE", help="model.pt, as torch.save wrote it")
    parser.add_argument("--out", required=True, metavar="DIR", help="the directory to write")
    parser.add_argument(
        "--name", metavar="NAME", help="which model it is, such as GIT_BASE_VQAv2; it is checked"
    )
    parser.add_argument(
        "--parameters",
        metavar="YAML",
        help="the model's parameter.yaml; the one beside FILE by default",
    )
    parser.add_argument(
        "--tokenizer",
        metavar="TOKENIZER",
        help=f"directory or name on the model hub with the vocabulary (default: {_BERT})",
    )
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=("float32", "float16", "as-is"),
        help="what the weights become (default: float32)",
    )
    parser.add_argument(
        "--force", action="store_true", help="write into DIR even if there are files in it"
    )
    add_debug(parser)


def run(arguments: argparse.Namespace) -> int:
    """Convert the file; what is wrong with it is found before anything is written."""
    target = _free_directory(arguments.out, force=arguments.force)
    given = None if arguments.tokenizer is None else load_tokenizer(arguments.tokenizer)
    with waiting(f"reading {one_line(arguments.file)}"):
        model = read_microsoft(
            arguments.file,
            name=arguments.name,
            parameters=arguments.parameters,
            dtype=arguments.dtype,
        )
    config = GitConfig.from_dict(model.config)
    tokenizer, missing = given, None
    try:
        tokenizer = tokenizer or load_tokenizer(_BERT)
        _check_tokenizer(tokenizer, config)
    except CheckpointError as error:
        if given is not None:
            raise
        tokenizer, missing = None, error
    with waiting(f"writing {one_line(arguments.out)}"), whole_directory(target) as folder:
        save_model(model, config, folder)
        save_processor(model, tokenizer, folder)
    for note in model.notes:
        say(note)
    put(one_line(f"{arguments.out}: {_summary(model, config)}"))
    if missing is None:
        return 0
    say(
        f"{arguments.out} has no tokenizer: {reason(missing)} All else is written. Copy vocab.txt "
        f"of {_BERT} into it, or run this again with --tokenizer DIR --force."
    )
    return 1


def _summary(model: MicrosoftModel, config: GitConfig) -> str:
    count = sum(x.size for x in model.parameters.values())
    frames = config.num_image_with_embedding
    image = f"{frames} frames of" if frames else "images of"
    return (
        f"{count:,} parameters, {config.extra['torch_dtype']}, "
        f"{image} {config.vision_config.image_size} pixels"
    )


def save_model(model: MicrosoftModel, config: GitConfig, folder: Path) -> None:
    """Write generation_config.json, the weights and config.json, in this order."""
    ids = ("bos_token_id", "eos_token_id", "pad_token_id")
    write_json(folder / "generation_config.json", {name: model.config[name] for name in ids})
    save_weights_and_config(folder, model.parameters, config.to_json_dict())


# ---- the processor


def load_tokenizer(name: str) -> BertTokenizer:
    """Load a tokenizer from a directory, the model hub or its cache.

    Parameters
    ----------
    name : str
        A directory or a repository's id; "bert-base-uncased", as the hub used to call it, as well.

    Raises
    ------
    CheckpointError
        There is none, or it is broken.
    """
    old_name = name == _BERT and not os.path.isdir(name)
    cached = _cached(name) if old_name else None
    path = cached or find_checkpoint(_BERT_ON_THE_HUB if old_name else name, weights=False)
    return BertTokenizer.from_pretrained(path)


def _cached(name: str) -> Path | None:
    """The snapshot under a name without owner that older programs have left in the hub's cache."""
    try:
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(name, local_files_only=True))
    except Exception:  # not installed, or not there: the hub is asked next, and says what is wrong
        return None
    complete = any((folder / file).exists() for file in ("tokenizer.json", "vocab.txt"))
    return folder if complete else None


def _check_tokenizer(tokenizer: BertTokenizer, config: GitConfig) -> None:
    known = tokenizer.backend.get_vocab_size(with_added_tokens=True)
    if known != config.vocab_size:
        raise CheckpointError(
            f"The tokenizer has {known} tokens and the model {config.vocab_size}; expected as many "
            f"of either, as with {_BERT}."
        )
    wanted = {
        "cls_token_id": config.bos_token_id,
        "sep_token_id": config.eos_token_id,
        "pad_token_id": config.pad_token_id,
    }
    for name, index in wanted.items():
        found = getattr(tokenizer, name)
        if found != index:
            raise CheckpointError(
                f"The tokenizer's {name} is {found}; expected {index}, as with {_BERT}."
            )


def save_processor(model: MicrosoftModel, tokenizer: BertTokenizer | None, folder: Path) -> None:
    """Write preprocessor_config.json and the tokenizer's files.

    Images are brought to pixels as Microsoft's code does when it evaluates: bicubic, CLIP's mean
    and deviation, a crop from the centre or, after `test_respect_ratio_max`, none. Frames of a
    video likewise.

    Parameters
    ----------
    model : MicrosoftModel
    tokenizer : BertTokenizer or None
        Without one only its settings are written, so that vocab.txt is all that is missing.
    folder : Path
    """
    size = model.config["vision_config"]["image_size"]
    images: VideoMAEImageProcessor | CLIPImageProcessor
    if model.config["num_image_with_embedding"]:
        images = VideoMAEImageProcessor(
            size=size, crop_size=size, resample=3, image_mean=CLIP_MEAN, image_std=CLIP_STD
        )
    else:
        longest = model.settings.test_respect_ratio_max
        images = CLIPImageProcessor(size=size, crop_size=size, respect_ratio_max=longest)
    owner = "GitProcessor"
    images.save_pretrained(folder, processor_class=owner)
    # GIT's decoder takes no token types, whatever BERT's own files say.
    inputs = {"model_input_names": ["input_ids", "attention_mask"]}
    if tokenizer is not None:
        tokenizer.config |= inputs
        tokenizer.save_pretrained(folder, processor_class=owner)
    else:
        settings = {"do_lower_case": True, "tokenizer_class": "BertTokenizer"}
        write_json(
            folder / "tokenizer_config.json", {**settings, **inputs, "processor_class": owner}
        )


# ---- the directory


def _free_directory(name: str, *, force: bool) -> Path:
    """The directory to write, which is not there, is empty, or may be written into."""
    if not name:
        raise CheckpointError("--out is empty; expected the name of a directory to write.")
    target = Path(name).resolve()
    if target.exists() and not target.is_dir():
        raise CheckpointError(f"{name} is a file; expected a directory, or nothing yet.")
    if target.is_dir() and not force and any(target.iterdir()):
        raise CheckpointError(
            f"{name} is not empty; expected an empty directory, or nothing yet. --force writes "
            "into it: files of the same names are replaced, others stay."
        )
    return target
