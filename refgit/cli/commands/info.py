"""`refgit info`: what a model is made of, how large it is and what a caption costs.

All of it is counted from config.json and from the headers of the weights' files; no weights are
read, so a model of any size is described at once.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from refgit.cli.arguments import add_base, add_dtype, add_output_options, count_of
from refgit.cli.output import human_bytes, one_line, print_json, put
from refgit.cli.table import print_table
from refgit.demo import NAME, find_model
from refgit.errors import CheckpointError
from refgit.files import CONFIG_NAME
from refgit.model.config import GitConfig
from refgit.parts import find_parts
from refgit.sizes.description import describe

DESCRIPTION = (
    "Describe a model: its architecture, its parameters part by part, its bytes on "
    "disk and in memory, and what one caption costs. No weights are loaded."
)
EPILOG = """\
examples:
  refgit info
  refgit info microsoft/git-base-coco
  refgit info DIR --dtype float16 --tokens 40
  refgit info DIR --json

It needs only config.json. Of the weights only the headers of their files are read, which say how
many numbers there are and of which type (dtype).

Words used below: a parameter is a number that training has set. A token is what the model reads
and writes: a patch of the image, or a word or piece of a word. The cache holds what the text
decoder has computed of earlier tokens (their keys and values). A FLOP is an operation on two
numbers; 1 GFLOP is a thousand million of them. A multiply-add counts as two.

exit codes: 0 all well, 2 nothing could be described
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help="directory with a config.json, or a name on the Hugging Face hub such as "
        "microsoft/git-base-coco; by default the small model that comes with refgit",
    )
    parser.add_argument(
        "--tokens",
        type=count_of(1),
        default=20,
        metavar="N",
        help="tokens of the caption whose cost is counted, the one that ends it included "
        "(default: 20)",
    )
    add_base(parser)
    add_dtype(parser, "the type of number that a caption is computed in (default: float32)")
    add_output_options(parser, "print all of it as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Describe the model that the arguments name."""
    name = arguments.model or NAME
    path = find_directory(name)
    parts = find_parts(path, base=arguments.base, weights=False)
    config = GitConfig.from_pretrained(parts.model)
    described = describe(
        config, parts.model, arguments.tokens, arguments.dtype, adapter=parts.adapter
    )
    found = {"model": name, **described}
    if arguments.json:
        print_json(**found)
    else:
        print_description(found)
    return 0


def find_directory(name: str) -> Path:
    """Find the directory of a model; of one on the hub only the small files are downloaded.

    Raises
    ------
    CheckpointError
        There is none, or it holds a checkpoint of another kind.
    """
    refuse_microsoft(name)
    return find_model(name, weights=False)


def refuse_microsoft(name: str) -> None:
    """Refuse a file or directory of Microsoft's, saying how to make a checkpoint of it.

    Raises
    ------
    CheckpointError
        It is one.
    """
    path = Path(name)
    others = [*path.glob("*.pt"), *path.glob("snapshot/*.pt")]  # as Microsoft's code has them
    if path.is_file() and path.suffix == ".pt":
        others = [path]
    if others and not (path / CONFIG_NAME).is_file():
        raise CheckpointError(
            f"{others[0]} is a checkpoint of Microsoft's code, which has no {CONFIG_NAME}; "
            f"expected a directory with one. Make one first: refgit convert {others[0]} --out DIR."
        )


# ---- how it is printed


def print_description(found: dict[str, Any]) -> None:
    """Print what `describe` found as tables."""
    put(one_line(str(found["model"])) + "\n")
    image, text = found["architecture"].values()
    names = [*dict.fromkeys((*image, *text))]
    rows = [[n.replace("_", " "), _shown(image.get(n, "")), _shown(text.get(n, ""))] for n in names]
    print_table("architecture", ("", "image encoder", "text decoder"), rows)
    _print_parameters(found["parameters"])
    _print_weights(found["weights"])
    _print_adapter(found["adapter"])
    _print_memory(found["memory"])
    _print_flops(found["flops"])


def _shown(value: Any) -> str:
    """An entry of the architecture as a cell; what does not apply is a dash."""
    if value is None or value == {}:
        return "-"
    if isinstance(value, dict):
        return "; ".join(f"layer {k}: {', '.join(map(str, v))}" for k, v in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)


def _print_parameters(found: dict[str, Any]) -> None:
    total = found["total"]
    rows = [
        [p["part"], f"{p['tensors']:,}", f"{p['parameters']:,}", f"{p['parameters'] / total:.1%}"]
        for p in found["parts"]
    ]
    tensors = sum(p["tensors"] for p in found["parts"])
    rows.append(["total", f"{tensors:,}", f"{total:,}", f"{1:.1%}"])
    print_table("parameters", ("part", "tensors", "parameters", "share"), rows)
    for part in found["parts"]:
        if part["note"]:
            put(f"{part['part']}: {part['note']}, and counted once, there.\n")


def _print_weights(found: dict[str, Any] | None) -> None:
    if found is None:
        put("weights on disk: there are none beside config.json; all of this is counted from it.\n")
        return
    rows = [
        [dtype, f"{entry['numbers']:,}", human_bytes(entry["bytes"])]
        for dtype, entry in found["by_dtype"].items()
    ]
    rows.append(["files", "", human_bytes(found["file_bytes"])])
    print_table(f"weights on disk: {', '.join(found['files'])}", ("dtype", "numbers", "size"), rows)
    if found["difference"]:
        put(f"The files and config.json disagree: {found['difference']}.\n")


def _print_adapter(found: dict[str, Any] | None) -> None:
    if found is not None:
        put(
            f"The adapter in {found['file']} is merged into these weights when they are loaded: "
            f"{found['type']}, rank {found['rank']}, alpha {found['alpha']:g}, "
            f"{found['tensors']:,} tensors, {found['numbers']:,} numbers; its base is "
            f"{one_line(found['base'])}.\n"
        )


def _print_memory(found: dict[str, Any]) -> None:
    rows = [[dtype, human_bytes(size)] for dtype, size in found["weights"].items()]
    print_table("weights in memory", ("computed in", "size"), rows)
    put("NumPy has no bfloat16: there it is computed in float32 and takes as much.\n")
    caption = found["caption"]
    entries = [
        ("weights", caption["weights"]),
        ("cache of an image", caption["cache_per_image"]),
        ("cache of a text token", caption["cache_per_text_token"]),
        ("activations, estimated", caption["activations"]),
        (f"together, at {caption['tokens']} text tokens", caption["total"]),
    ]
    rows = [[name, human_bytes(size)] for name, size in entries]
    print_table(f"memory of one caption in {caption['dtype']}", ("", "size"), rows)


def _print_flops(found: dict[str, Any]) -> None:
    total = found["total"]
    entries = [
        ("vision encoder", "vision_encoder"),
        ("visual projection", "visual_projection"),
        ("decoder over the image", "decoder_image_part"),
        (f"text, {found['tokens']} steps", "text_steps"),
        ("total", "total"),
    ]
    rows = [[name, giga(found[key]), f"{found[key] / total:.1%}"] for name, key in entries]
    print_table("operations of one caption", ("part", "GFLOP", "share"), rows)
    put(
        f"One text step takes {giga(found['first_text_step'])} GFLOP at the first token and "
        f"{giga(found['last_text_step'])} at the last."
    )


def giga(count: int) -> str:
    """Return a number of operations in thousands of millions, to four digits."""
    return f"{count / 1e9:.4g}" if count >= 1e5 else f"{count / 1e9:.1e}"
