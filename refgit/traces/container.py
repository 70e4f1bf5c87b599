"""A trace: every named tensor of a run in the order of execution, and the file it lies in.

`record` runs a model and keeps what it computes; `trace(model)` does so for calls of one's own.
Tensors are named by the checkpoint's modules, such as git.encoder.layer.0.attention.self.query.
Other implementations write the same file, or plain .npz or .npy files with any names.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from refgit.checkpoint.safetensors_file import save_safetensors
from refgit.model.config import GitConfig
from refgit.traces.names import INPUTS, TensorName
from refgit.version import __version__

if TYPE_CHECKING:
    from refgit.model.base import PretrainedModel
    from refgit.model.cache import KeyValueCache
    from refgit.model.causal_lm import GitForCausalLM

Tensor = np.ndarray[Any, Any]

FORMAT = "refgit-trace/1"


class TraceError(ValueError):
    """A trace cannot be read or made: the message names the file, found and expected."""


class Trace(Mapping[str, Tensor]):
    """Named tensors in the order of execution.

    Parameters
    ----------
    tensors : mapping of str to array
    order : sequence of str, optional
        All the names, first computed first; the mapping's order by default.
    meta : mapping of str to str, optional
        What the file says about itself: format, config (JSON), dtype, producer, calls (decode
        steps), prompt_length, model, sha256.
    order_known : bool
        False where the order is that of the alphabet, for want of better.
    dtypes : mapping of str to str, optional
        What a tensor was stored in, where NumPy has no such type: "bfloat16".
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor] | None = None,
        *,
        order: Sequence[str] | None = None,
        meta: Mapping[str, str] | None = None,
        order_known: bool = True,
        dtypes: Mapping[str, str] | None = None,
    ) -> None:
        self._tensors: dict[str, Tensor] = dict(tensors or {})
        self.order: list[str] = list(self._tensors if order is None else order)
        self.meta: dict[str, str] = dict(meta or {})
        self.order_known = order_known
        self._dtypes = dict(dtypes or {})

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.order)

    def __len__(self) -> int:
        return len(self.order)

    def __repr__(self) -> str:
        producer = self.meta.get("producer", "an unknown producer")
        return f"<Trace of {len(self)} tensors, {self.nbytes} bytes, by {producer}>"

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors together."""
        return sum(int(x.nbytes) for x in self._tensors.values())

    @property
    def inputs(self) -> dict[str, Tensor]:
        """What the first call was given, by names such as input.pixel_values."""
        return {name: self[name] for name in self if name.startswith("input.")}

    @property
    def config(self) -> GitConfig | None:
        """The model's config, where the metadata holds one."""
        try:
            stored = json.loads(self.meta["config"])
            return GitConfig.from_dict(stored) if "vision_config" in stored else None
        except (KeyError, TypeError, ValueError):
            return None

    def dtype_of(self, name: str) -> str:
        """Return what a tensor was stored in, "bfloat16" included, which is held as float32."""
        return self._dtypes.get(name, str(self[name].dtype))

    def select(self, patterns: Iterable[str]) -> Trace:
        """Keep the inputs and what a pattern matches.

        Parameters
        ----------
        patterns : iterable of str
            Names with ``*``, ``?`` and ``[...]``, or the path of a module, which stands for all
            that is in it. A pattern without ``step.N.`` matches in every step.
        """
        patterns = list(patterns)
        kept = [name for name in self if is_input(name) or any(_fits(name, p) for p in patterns)]
        return self._of(kept)

    def _of(self, names: Sequence[str]) -> Trace:
        return Trace(
            {name: self[name] for name in names},
            meta=self.meta,
            order_known=self.order_known,
            dtypes={name: kind for name, kind in self._dtypes.items() if name in names},
        )

    def save(self, path: str | Path) -> None:
        """Write a .safetensors file with the order and `meta` in its metadata.

        Raises
        ------
        TraceError
            The path ends in another suffix, or the file cannot be written.
        """
        path = Path(path)
        if path.suffix not in ("", ".safetensors"):
            raise TraceError(f"a trace is written as .safetensors; found {path.name}.")
        meta = {**self.meta, "format": FORMAT, "order": json.dumps(self.order)}
        try:
            save_safetensors(path, {name: self[name] for name in self}, meta)
        except Exception as error:  # the library has several kinds for a full disk and the like
            raise TraceError(f"{path} cannot be written: {error}.") from error

    @classmethod
    def load(cls, path: str | Path) -> Trace:
        """Read a trace: .safetensors, .npz, or a directory of .npy files.

        The order is that of the metadata; of order.json (a list of names) or names.txt (a name a
        line) in the directory; of the .npz file; else that of the names, with numbers counted.

        Raises
        ------
        TraceError
            The file is missing, truncated or none of these, or holds something else than numbers.
        """
        from refgit.traces.files import load_trace

        return load_trace(Path(path))


def split_call(name: str) -> tuple[str, str]:
    """Return the prefix of the call, "" for the first one or such as "step.2.", and the rest."""
    found = TensorName.parse(name)
    return found.prefix, found.path


def is_input(name: str) -> bool:
    """Whether a tensor was given to a call rather than computed by it."""
    return TensorName.parse(name).is_input


def _fits(name: str, pattern: str) -> bool:
    return TensorName.parse(name).matches(pattern)


# ---- making one


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
        Decode steps that follow: each reads the likeliest word, ended texts or not, on top of the
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
            words = logits[:, -1].argmax(-1)[:, None]  # (B, L, V) -> (B, 1)
            positions = None
            if model.config.position_embedding_type == "absolute":
                positions = _next_positions(position_ids, ids.shape[1], step)
            out = model(
                words,
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


def _next_positions(given: Any, length: int, step: int) -> Tensor:
    """Where the word of a step stands: they count on from the prompt's, (1 or B, 1)."""
    if given is None:
        return np.array([[length + step]])
    return np.asarray(given)[:, -1:] + 1 + step


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
        It listens to itself for the duration; its results stay as they are.
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
    """What a model shows while it runs becomes a trace."""

    def __init__(self, model: PretrainedModel[Any], select: Sequence[str] | None) -> None:
        self.model, self.patterns = model, None if select is None else list(select)
        self.trace = Trace(
            meta={
                "format": FORMAT,
                "config": json.dumps(model.config.to_dict()),
                "dtype": model.dtype,
                "producer": f"refgit {__version__} {model.backend.name}",
                "calls": "0",
                "prompt_length": "0",
            }
        )
        self.prefix = ""
        self.counts = {"call": 0, "step": 0}
        self.started = False

    def keep(self, name: str, array: Any) -> None:
        """Add one tensor, behind the prefix of the call."""
        name = self.prefix + name
        wanted = self.patterns is None or any(_fits(name, p) for p in self.patterns)
        if wanted or is_input(name):
            if name not in self.trace._tensors:
                self.trace.order.append(name)
            at_home = isinstance(array, np.ndarray)
            home = array if at_home else self.model.backend.to_numpy(array)
            self.trace._tensors[name] = np.array(home)  # a copy: the model may go on in place

    def begin(self, arguments: Mapping[str, Any]) -> None:
        """Start a call: find its prefix, and keep what it was given."""
        cache: KeyValueCache | None = arguments.get("past_key_values") or arguments.get("cache")
        past = 0 if cache is None else cache.image_length + cache.text_length
        self.prefix = self._prefix_of(past > 0)
        for name in INPUTS:
            if arguments.get(name) is not None:
                self.keep(f"input.{name}", self._seen(name, arguments[name]))
        length = _length(arguments)
        absolute = getattr(self.model.config, "position_embedding_type", "") == "absolute"
        if absolute and length and arguments.get("position_ids") is None:
            first = 0 if cache is None else cache.text_length
            self.keep("input.position_ids", np.arange(first, first + length)[None])
        if not self.prefix:
            self.trace.meta["prompt_length"] = str(length)

    def _prefix_of(self, continues: bool) -> str:
        if continues and self.started:
            self.counts["step"] += 1
            if not self.counts["call"]:
                self.trace.meta["calls"] = str(self.counts["step"])
        elif self.started:
            self.counts = {"call": self.counts["call"] + 1, "step": 0}
        self.started = True
        return "".join(f"{kind}.{n}." for kind, n in self.counts.items() if n)

    def _seen(self, name: str, x: Any) -> Any:
        """An argument as the model sees it: floating point in its own dtype."""
        array = self.model.backend.to_numpy(self.model.backend.asarray(x))
        if name in ("pixel_values", "inputs_embeds", "head_mask"):
            array = self.model.backend.to_numpy(self.model.backend.asarray(x, self.model.dtype))
        return array

    def finish(self, max_bytes: int | None) -> None:
        """Cut the trace down to size."""
        if max_bytes is not None:
            kept = capped(self.trace, max_bytes)
            left_out = [name for name in self.trace if name not in kept]
            for name in left_out:
                del self.trace._tensors[name]
            self.trace.order[:] = list(kept)
            if left_out:
                self.trace.meta["left_out"] = json.dumps(kinds(left_out))


def _length(arguments: Mapping[str, Any]) -> int:
    """Text tokens of a call."""
    text: Any = arguments.get("input_ids")
    text = arguments.get("inputs_embeds") if text is None else text
    shape = getattr(text, "shape", None) or np.shape(text)
    return int(shape[1]) if len(shape) > 1 else 0


def kinds(names: Iterable[str]) -> list[str]:
    """Names with the numbers of layers and steps as ``*``, each once."""
    return list(dict.fromkeys(kind_of(name) for name in names))


def kind_of(name: str) -> str:
    """Return a name without its call and with ``*`` for the number of the layer."""
    return TensorName.parse(name).kind


def capped(found: Trace, max_bytes: int) -> Trace:
    """Leave out whole kinds of tensors, the largest first, until the rest fits.

    Inputs stay; what every layer puts out and the logits go last.

    Parameters
    ----------
    found : Trace
    max_bytes : int

    Returns
    -------
    Trace
        With at most `max_bytes` bytes of tensors.

    Raises
    ------
    TraceError
        The inputs alone take more.
    """
    sizes: dict[str, int] = {}
    for name in found:
        sizes[kind_of(name)] = sizes.get(kind_of(name), 0) + found[name].nbytes
    total, gone = sum(sizes.values()), set()
    for kind in sorted(sizes, key=lambda k: (_is_essential(k), -sizes[k])):
        if total > max_bytes and not kind.startswith("input."):
            total -= sizes[kind]
            gone.add(kind)
    if total > max_bytes:
        raise TraceError(
            f"the inputs alone take {total} bytes, and the trace may take {max_bytes}; allow more."
        )
    return found._of([name for name in found if kind_of(name) not in gone])


def _is_essential(kind: str) -> bool:
    last = ("layers.*", "output.LayerNorm", "post_layernorm", "visual_projection.1")
    return kind.endswith(last) or kind == "output"
