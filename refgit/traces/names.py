"""The name of a tensor in a trace, taken apart once: call, step, module, layer and leaf."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache

# What a call may be given, in the order in which a trace holds it.
INPUTS = (
    "pixel_values", "input_ids", "inputs_embeds", "attention_mask", "position_ids", "head_mask",
)  # fmt: skip

_NUMBER = r"(?:0|[1-9][0-9]{0,8})"  # as str() writes it, so that a name is written as it was read
_CALL = re.compile(rf"(?:call\.({_NUMBER})\.)?(?:step\.({_NUMBER})\.)?")
_LAYER = re.compile(rf"((?:.+?\.)?layers?)\.({_NUMBER})(?:\.(.+))?", re.DOTALL)
_DIGITS = re.compile(r"([0-9]+)")


@dataclass(frozen=True)
class TensorName:
    """The name of a tensor: which call computed it, and where in the model.

    ``call.1.step.2.git.encoder.layer.0.attention.self.query`` is `call` 1, `step` 2, `module`
    ``git.encoder.layer``, `layer` 0 and `leaf` ``attention.self.query``. ``str(name)`` writes what
    `parse` has read, whatever it was: other implementations' names are taken apart alike.

    Attributes
    ----------
    call : int or None
        N of ``call.N.``; None in the first call.
    step : int or None
        N of ``step.N.``, a call that continues a cache; None in a call that begins.
    module : str
        Of a tensor of a layer, the stack of layers: ``git.encoder.layer``. Of any other, all but
        the last part of its path: ``git.embeddings`` of ``git.embeddings.word_embeddings``,
        ``input`` of ``input.pixel_values``, "" of ``output``.
    layer : int or None
        The layer's number; None outside the layers.
    leaf : str
        The path within the layer, "" for what the layer itself returns; outside the layers the
        last part: ``1`` of ``git.visual_projection.visual_projection.1``.
    """

    call: int | None = None
    step: int | None = None
    module: str = ""
    layer: int | None = None
    leaf: str = ""

    @classmethod
    def parse(cls, text: str) -> TensorName:
        """Take a name apart; any text is one."""
        return _parse(text)

    def __str__(self) -> str:
        return self.prefix + self.path

    @property
    def prefix(self) -> str:
        """What says which call it is: "" for the first one, or ``step.2.``, ``call.1.step.2.``."""
        call = "" if self.call is None else f"call.{self.call}."
        return call if self.step is None else f"{call}step.{self.step}."

    @property
    def path(self) -> str:
        """The name within its call: ``git.encoder.layer.0.attention.self.query``."""
        return _joined(self.module, self.layer, self.leaf)

    @property
    def bare(self) -> str:
        """The path as a GitModel has it, without the ``git.`` of a GitForCausalLM."""
        return self.path.removeprefix("git.")

    @property
    def kind(self) -> str:
        """The path with ``*`` for the number of the layer; the same in all layers and calls."""
        return _joined(self.module, None if self.layer is None else "*", self.leaf)

    @property
    def block(self) -> str:
        """The layer it belongs to, its call included; "" outside the layers."""
        return "" if self.layer is None else str(replace(self, leaf=""))

    @property
    def is_input(self) -> bool:
        """Whether it was given to a call rather than computed by it."""
        return self.path.startswith("input.")

    @property
    def is_image(self) -> bool:
        """Whether it is computed from the image only: image encoder and projection."""
        return self.bare.startswith(("image_encoder.", "vision_model.", "visual_projection."))

    @property
    def is_decoder(self) -> bool:
        """Whether it belongs to a layer of the text decoder."""
        return self.layer is not None and self.bare.startswith("encoder.")

    def matches(self, pattern: str) -> bool:
        """Whether a pattern of `Trace.select` means this tensor, or a module that it belongs to."""
        names = (str(self), self.path)
        return any(fnmatchcase(n, pattern) or fnmatchcase(n, f"{pattern}.*") for n in names)


@lru_cache(maxsize=2**14)  # a trace is asked for the same names again and again
def _parse(text: str) -> TensorName:
    begun = _CALL.match(text)
    assert begun is not None  # it matches the empty string
    call, step = (None if number is None else int(number) for number in begun.groups())
    path = text[begun.end() :]
    found = _LAYER.fullmatch(path)
    if found is not None:
        return TensorName(call, step, found[1], int(found[2]), found[3] or "")
    module, _, leaf = path.rpartition(".")
    if not module or not leaf:  # a dot at an end is part of the only part
        module, leaf = "", path
    return TensorName(call, step, module, None, leaf)


def _joined(module: str, layer: int | str | None, leaf: str) -> str:
    return ".".join(part for part in (module, "" if layer is None else str(layer), leaf) if part)


def is_input(name: str) -> bool:
    """Whether a tensor was given to a call rather than computed by it."""
    return TensorName.parse(name).is_input


def is_wanted(name: str, patterns: Sequence[str] | None) -> bool:
    """Whether `Trace.select` keeps a tensor: an input, or what a pattern matches; None is all."""
    if patterns is None:
        return True
    parsed = TensorName.parse(name)
    return parsed.is_input or any(parsed.matches(pattern) for pattern in patterns)


class CallCounter:
    """Numbers the calls of a model: a call that continues a text is a step, any other begins.

    Attributes
    ----------
    call, step : int
        Of the last call; 0 for the first.
    started : bool
        Whether there was one.
    meta : dict of str to str
        What a trace tells of the first: the steps that continued it, and its text tokens.
    """

    def __init__(self) -> None:
        self.call, self.step, self.started = 0, 0, False
        self.meta = {"calls": "0", "prompt_length": "0"}

    def count(self, length: int, *, continues: bool) -> None:
        """Count one more call, of so many tokens; the first one begins a text in any case."""
        if not self.started:
            self.started, self.meta["prompt_length"] = True, str(length)
        elif continues:
            self.step += 1
        else:
            self.call, self.step = self.call + 1, 0
        if not self.call:
            self.meta["calls"] = str(self.step)

    @property
    def prefix(self) -> str:
        """What the names of the last call's tensors begin with."""
        return TensorName(self.call or None, self.step or None).prefix


def natural_order(names: Iterable[str]) -> list[str]:
    """Sort names with their numbers counted, so that layer.2 comes before layer.10."""

    def key(name: str) -> list[tuple[bool, int, str]]:
        parts = (part for part in _DIGITS.split(name) if part)
        return [(not p.isdigit(), int(p) if p.isdigit() else 0, p) for p in parts]

    return sorted(names, key=key)
