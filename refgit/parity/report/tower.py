"""Where a tensor is in the report's picture of the model: section, layer, and its short name.

The tower is read from top to bottom in the order of execution: inputs, image tower, projection,
text embedding, decoder, head, then the decode steps, each a small tower itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from refgit.traces.names import TensorName


@dataclass
class Layer:
    """One row of the tower.

    Attributes
    ----------
    title : str
    rows : list of (int, str)
        Which rows of the comparison are in it, each with its name inside the layer.
    """

    title: str
    rows: list[tuple[int, str]]


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
    layers: list[Layer]
    step: bool


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
    parsed = TensorName.parse(name)
    section, layer, short = _place_in_call(parsed)
    if parsed.step is not None:
        layer = f"decoder {layer}" if section == "Decoder" else layer
        section = f"Decode step {parsed.step}"
    if parsed.call is not None:
        section = f"Call {parsed.call}: {section}"
    return section, layer, short


def _place_in_call(name: TensorName) -> tuple[str, str, str]:
    first, _, rest = name.bare.removeprefix("image_encoder.").partition(".")
    if name.is_decoder or (name.is_image and name.layer is not None):
        section = "Decoder" if name.is_decoder else "Image tower"
        return section, f"layer {name.layer}", name.leaf or "output"
    if first == "vision_model":
        module, _, leaf = rest.partition(".")
        return "Image tower", module, leaf or "output"
    if first == "visual_projection":
        return "Projection", "projection", rest.removeprefix("visual_projection.")
    if first == "embeddings":
        return "Text embedding", "text embedding", rest
    if name.is_input:
        return "Inputs", "inputs", rest
    if name.path == "output":
        return "Head", "logits", "output"
    return "Other tensors", "other", name.path


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
    found: dict[str, dict[str, Layer]] = {}
    for row, name in enumerate(names):
        title, layer, short = place(name)
        layers = found.setdefault(title, {})
        layers.setdefault(layer, Layer(layer, [])).rows.append((row, short))
    return [
        Section(title, list(layers.values()), "Decode step" in title)
        for title, layers in found.items()
    ]
