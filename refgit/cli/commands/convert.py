"""`refgit convert`: any checkpoint, as a directory that refgit and transformers load.

A file is Microsoft's model.pt; a directory or name is a checkpoint, which convert_checkpoint.py
rewrites.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from refgit.checkpoint.casting import cast_weight
from refgit.checkpoint.microsoft.convert import MicrosoftModel, read_microsoft
from refgit.checkpoint.video_files import save_weights_and_config
from refgit.cli.arguments import add_base, add_debug
from refgit.cli.commands.convert_checkpoint import convert_checkpoint
from refgit.cli.commands.info import refuse_microsoft
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

_OF_MICROSOFT = ("name", "parameters", "tokenizer")

DESCRIPTION = (
    "Turn a checkpoint into a model directory that refgit and transformers load: Microsoft's "
    "model.pt, an adapter with its base, or weights in another dtype."
)
EPILOG = f"""\
examples:
  refgit convert model.pt --out git-base-coco
  refgit convert model.pt --out git-base-vqav2 --name GIT_BASE_VQAv2
  refgit convert model.pt --out git-base --tokenizer DIR --dtype float16
  refgit convert my-lora --out merged            # a peft adapter, merged into its base
  refgit convert microsoft/git-base-coco --out half --dtype float16
  refgit convert run/checkpoint-500 --processor microsoft/git-base --out model

A directory or a name on the hub is a checkpoint as refgit caption --model takes it: it is written
anew with its processor, as model.safetensors, in the dtype it has (as-is) unless another is asked
for. A file is one of Microsoft's:

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
    parser.add_argument(
        "file",
        metavar="CHECKPOINT",
        help="a file: Microsoft's model.pt, as torch.save wrote it; a directory, or a name on the "
        "hub: a checkpoint or an adapter of peft",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="the directory to write")
    add_base(parser)
    parser.add_argument(
        "--processor",
        metavar="PROCESSOR",
        help="where a checkpoint's processor is, if not with it: a directory or a name on the hub",
    )
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
        choices=("as-is", "float16", "bfloat16", "float32"),
        help="what the weights become (default: as-is; float32 of Microsoft's)",
    )
    parser.add_argument(
        "--force", action="store_true", help="write into DIR even if there are files in it"
    )
    add_debug(parser)


def run(arguments: argparse.Namespace) -> int:
    """Convert the file; what is wrong with it is found before anything is written."""
    target = _free_directory(arguments.out, force=arguments.force)
    if not os.path.isfile(arguments.file) and not is_missing_file(arguments.file):
        refuse_microsoft(arguments.file)
        refuse_options(arguments, _OF_MICROSOFT, "a file of Microsoft's")
        return convert_checkpoint(arguments, target)
    refuse_options(arguments, ("base", "processor"), "a checkpoint, a directory or a name")
    given = None if arguments.tokenizer is None else load_tokenizer(arguments.tokenizer)
    with waiting(f"reading {one_line(arguments.file)}"):
        model = read_microsoft(
            arguments.file,
            name=arguments.name,
            parameters=arguments.parameters,
            dtype="float32" if arguments.dtype in (None, "bfloat16") else arguments.dtype,
        )
    if arguments.dtype == "bfloat16":
        model = in_bfloat16(model, Path(arguments.file))
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


def is_missing_file(name: str) -> bool:
    """Whether a name is that of a file of Microsoft's which is not there."""
    return name.endswith((".pt", ".pth")) and not os.path.exists(name)


def refuse_options(arguments: argparse.Namespace, names: Sequence[str], of: str) -> None:
    """Refuse options that belong to the other kind of checkpoint.

    Raises
    ------
    ValueError
        One is given.
    """
    for name in names:
        if getattr(arguments, name) is not None:
            raise ValueError(
                f"--{name} belongs to {of}; expected none with {arguments.file}. Leave it out."
            )


def in_bfloat16(model: MicrosoftModel, file: Path) -> MicrosoftModel:
    """Return the model with its weights rounded to bfloat16."""
    weights = {name: cast_weight(x, "bfloat16", name, file) for name, x in model.parameters.items()}
    return replace(model, parameters=weights, config={**model.config, "torch_dtype": "bfloat16"})


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
