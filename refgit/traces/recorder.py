"""Recording refgit's own model: `record` runs it, `trace` keeps what the user's calls compute."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from refgit.model.base import PretrainedModel
from refgit.model.cache import KeyValueCache
from refgit.model.causal_lm import GitForCausalLM
from refgit.traces.cap import capped, kinds
from refgit.traces.container import FORMAT, Tensor, Trace
from refgit.traces.names import INPUTS, CallCounter, is_wanted
from refgit.version import __version__


def record(
    model: GitForCausalLM,
    pixel_values: Any = None,
    input_ids: Any = None,
    attention_mask: Any = None,
    *,
    position_ids: Any = None,
    tokens: int = 0,
    dtype: str | None = None,
    select: Sequence[str] | None = None,
    max_bytes: int | None = None,
    interpolate_pos_encoding: bool = False,
) -> Trace:
    """Run a model on an image and a text and keep every intermediate.

    Parameters
    ----------
    model : GitForCausalLM
    pixel_values, input_ids, attention_mask, position_ids, interpolate_pos_encoding
        See `GitModel`; without `input_ids` each image has a text that is the opening token.
    tokens : int
        Decode steps that follow: each reads the likeliest token, ended texts or not, on top of the
        cache. Their names begin with ``step.N.``, N from 1.
    dtype : str, optional
        Compute in this; the model's by default.
    select : sequence of str, optional
        Patterns of what to keep; see `Trace.select`.
    max_bytes : int, optional
        Leave out the largest kinds of tensors until the rest fits; see `capped`.

    Returns
    -------
    Trace

    Raises
    ------
    ValueError, TypeError
        An argument does not fit the model; or `max_bytes` does not even hold the inputs.
    """
    if dtype is not None and dtype != model.dtype:
        model = model.to(dtype=dtype)
    if input_ids is None:
        if pixel_values is None or model.config.bos_token_id is None:
            raise ValueError(
                "record needs input_ids, or pixel_values and a bos_token_id in the config to start "
                "from; found neither."
            )
        input_ids = np.full((len(pixel_values), 1), model.config.bos_token_id, np.int64)
    ids = model.numbers("input_ids", input_ids)
    _check_room(model, pixel_values, ids, tokens)
    with trace(model, select=select, max_bytes=max_bytes) as found:
        out: Any = model(
            input_ids,
            attention_mask,
            position_ids,
            pixel_values,
            use_cache=tokens > 0,
            interpolate_pos_encoding=interpolate_pos_encoding,
            return_dict=True,
        )
        for step in range(tokens):
            logits = model.backend.to_numpy(out.logits)
            likeliest = logits[:, -1].argmax(-1)[:, None]  # (B, L, V) -> (B, 1)
            positions = None
            if position_ids is not None and model.config.position_embedding_type == "absolute":
                positions = np.asarray(position_ids)[:, -1:] + 1 + step  # on from the prompt's
            out = model(
                likeliest,
                position_ids=positions,
                past_key_values=out.past_key_values,
                return_dict=True,
            )
    return found


def _check_room(model: GitForCausalLM, pixel_values: Any, ids: Tensor, tokens: int) -> None:
    """Refuse more steps than the model has positions for before any time is spent."""
    pixels = None if pixel_values is None else model.checked_pixels(pixel_values, any_size=True)
    room = model.config.text_room(0 if pixels is None else model.count_image_tokens(pixels))
    length = ids.shape[1] if ids.ndim == 2 else 0  # the model says what else is wrong
    if tokens and length + tokens > room:
        raise ValueError(
            f"tokens is {tokens} and the prompt has {length}; this model has positions for "
            f"{max(room, 0)} of them together. Ask for fewer."
        )


@contextmanager
def trace(
    model: PretrainedModel[Any],
    *,
    select: Sequence[str] | None = None,
    max_bytes: int | None = None,
) -> Iterator[Trace]:
    """Keep what a model computes inside a ``with`` block.

    ``with trace(model) as t: model(...)`` fills t while the model runs. The first call's names
    are the bare ones; a call that continues a cache is ``step.N.``, any other ``call.N.``.

    Parameters
    ----------
    model : GitForCausalLM, GitModel or GitVisionModel
        Hooks are installed in it for the duration; its results stay as they are. A part of a model,
        such as ``model.git``, is traced with the calls of the whole.
    select, max_bytes
        See `record`; `max_bytes` counts at the end of the block.

    Returns
    -------
    context manager that gives a Trace
    """
    recorder = _Recorder(model, select)
    with model.hooked(recorder.keep, recorder.begin):
        yield recorder.trace
    recorder.finish(max_bytes)


class _Recorder:
    """The hooks of a trace in the making."""

    def __init__(self, model: PretrainedModel[Any], select: Sequence[str] | None) -> None:
        self.model, self.patterns = model, None if select is None else list(select)
        self.calls = CallCounter()
        self.trace = Trace(
            meta={
                "format": FORMAT,
                "config": json.dumps(model.config.to_dict()),
                "dtype": model.dtype,
                "producer": f"refgit {__version__} {model.backend.name}",
                **self.calls.meta,
            }
        )

    def keep(self, name: str, array: Any) -> None:
        name = self.calls.prefix + name
        if is_wanted(name, self.patterns):
            # a copy: the model may go on in place
            self.trace.add(name, np.array(self.model.backend.to_numpy(array)))

    def begin(self, arguments: Mapping[str, Any]) -> None:
        """Start a call: find its prefix, and keep what it was given."""
        cache: KeyValueCache | None = arguments.get("past_key_values") or arguments.get("cache")
        past = 0 if cache is None else cache.image_length + cache.text_length
        length = _text_length(arguments)
        self.calls.count(length, continues=past > 0)
        self.trace.meta |= self.calls.meta
        for name in INPUTS:
            if arguments.get(name) is not None:
                self.keep(f"input.{name}", self._as_read(name, arguments[name]))
        absolute = getattr(self.model.config, "position_embedding_type", "") == "absolute"
        if absolute and length and arguments.get("position_ids") is None:
            first = 0 if cache is None else cache.text_length
            self.keep("input.position_ids", np.arange(first, first + length)[None])

    def _as_read(self, name: str, x: Any) -> Tensor:
        """An argument as the model reads it: floating point in its own dtype."""
        floating = name in ("pixel_values", "inputs_embeds", "head_mask")
        backend = self.model.backend
        return backend.to_numpy(backend.asarray(x, self.model.dtype if floating else None))

    def finish(self, max_bytes: int | None) -> None:
        if max_bytes is not None:
            kept = capped(self.trace, max_bytes)
            left_out = [name for name in self.trace if name not in kept]
            self.trace.remove(left_out)
            if left_out:
                self.trace.meta["left_out"] = json.dumps(kinds(left_out))


def _text_length(arguments: Mapping[str, Any]) -> int:
    text: Any = arguments.get("input_ids")
    text = arguments.get("inputs_embeds") if text is None else text
    shape = getattr(text, "shape", None) or np.shape(text)
    return int(shape[1]) if len(shape) > 1 else 0
