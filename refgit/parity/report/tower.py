"""Where a tensor stands in the report's picture of the model: section, layer, and its short name.

The tower is read from top to bottom in the order of execution: inputs, image tower, projection,
text embedding, decoder, head, then the decode steps, each a small tower of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from refgit.traces.container import split_call

# What a name begins with, the section it belongs to, and the layer's title (a group or a text).
_PLACES = (
    (r"input\.()", "Inputs", "inputs"),
    (r"(?:image_encoder\.)?vision_model\.encoder\.layers\.(\d+)(?:\.|$)", "Image tower", "layer"),
    (r"(?:image_encoder\.)?vision_model\.(embeddings)(?:\.|$)", "Image tower", ""),
    (r"(?:image_encoder\.)?vision_model\.(\w+)(?:\.|$)", "Image tower", ""),
    (r"visual_projection\.(?:visual_projection\.)?()", "Projection", "projection"),
    (r"embeddings\.()", "Text embedding", "text embedding"),
    (r"encoder\.layer\.(\d+)(?:\.|$)", "Decoder", "layer"),
    (r"(output)$", "Head", "logits"),
)


@dataclass
class Layer:
    """One row of the tower.

    Attributes
    ----------
    title : str
    rows : list of (int, str)
        Which rows of the comparison lie in it, each with its name inside the layer.
    """

    title: str
    rows: list[tuple[int, str]] = field(default_factory=list)


@dataclass
class Section:
    """Layers under one heading, in the order of execution.

    Attributes
    ----------
    title : str
    layers : list of Layer
    step : bool
        Whether it is a decode step.
    """

    title: str
    layers: list[Layer] = field(default_factory=list)
    step: bool = False


def place(name: str) -> tuple[str, str, str]:
    """Return section, layer and short name of a tensor.

    Parameters
    ----------
    name : str
        As in the reference, such as step.2.git.encoder.layer.0.attention.self.query.

    Returns
    -------
    tuple of three str
        Such as ("Decode step 2", "decoder layer 0", "attention.self.query").
    """
    prefix, rest = split_call(name)
    section, layer, short = _place_in_call(rest)
    called = re.match(r"(?:call\.(\d+)\.)?(?:step\.(\d+)\.)?", prefix)
    call, step = called.groups() if called else (None, None)
    if step is not None:
        layer = f"decoder {layer}" if section == "Decoder" else layer
        section = f"Decode step {step}"
    if call is not None:
        section = f"Call {call}: {section}"
    return section, layer, short


def _place_in_call(rest: str) -> tuple[str, str, str]:
    bare = rest.removeprefix("git.")
    for pattern, section, title in _PLACES:
        found = re.match(pattern, bare)
        if found is not None:
            layer = " ".join(part for part in (title, found[1]) if part)
            if title == "logits":
                layer = title
            return section, layer, bare[found.end() :] or "output"
    return "Other tensors", "other", rest


def sections(names: Iterable[str]) -> list[Section]:
    """Group names, in their order, into sections and layers.

    Parameters
    ----------
    names : iterable of str
        In the order of execution.

    Returns
    -------
    list of Section
        A section that is interrupted and goes on later is one.
    """
    found: dict[str, Section] = {}
    layers: dict[tuple[str, str], Layer] = {}
    for row, name in enumerate(names):
        title, layer, short = place(name)
        if title not in found:
            found[title] = Section(title, step="Decode step" in title)
        if (title, layer) not in layers:
            layers[title, layer] = Layer(layer)
            found[title].layers.append(layers[title, layer])
        layers[title, layer].rows.append((row, short))
    return list(found.values())
