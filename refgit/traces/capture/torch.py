"""Capture the tensors of a torch model by hooks, under refgit's names.

For transformers' GIT, a changed copy of it, or any other torch module. Hooks see what goes into
and out of every module; a torch function mode sees the scores and probabilities between them. The
model's results stay as they are. torch is imported when it is needed and not before.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import numpy as np

from refgit.model.config import GitConfig
from refgit.traces.capture.attention import Attention, function_mode, is_cache, tensors_in
from refgit.traces.capture.call import assembled, tokens_last
from refgit.traces.capture.names import Names
from refgit.traces.container import FORMAT, Tensor, Trace
from refgit.traces.names import CallCounter, is_wanted


@contextmanager
def capture_torch(model: Any, *, select: Sequence[str] | None = None) -> Iterator[Trace]:
    """Keep what a torch model computes inside a ``with`` block.

    ``with capture_torch(model) as t: model(...)`` or ``model.generate(...)``, then ``t.save(path)``
    for ``refgit compare``.

    Parameters
    ----------
    model : torch.nn.Module
        Where its modules are named as in transformers' GIT the tensors get refgit's names; the
        outputs of other modules get the module's path and ``.output``.
    select : sequence of str, optional
        Patterns of what to keep, see `Trace.select`; the rest is never copied.

    Returns
    -------
    context manager that gives a Trace
        It grows with every call of the model. The first call's names are the bare ones; one that
        continues a text is ``step.N.``, any other ``call.N.`` (of a model that is not a GIT
        every further call is a step). Of a step's tensors the new tokens are kept, and none of the
        image encoder: transformers 4 runs the image again at every step.

    Raises
    ------
    ImportError
        torch is not installed.
    TypeError
        `model` is not a torch module.

    Notes
    -----
    Attention that runs as one fused operation (``attn_implementation="sdpa"``) shows neither
    scores nor probabilities; load the model with ``"eager"``. Half precision is kept; NumPy has
    no bfloat16, so that comes as float32 of the same values. Where ``generate`` asks for the
    logits of the last position only, all are computed, so that they can be compared.
    """
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise ImportError(
            "capture_torch captures a torch model, and torch is not installed: pip install torch."
        ) from error
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model is a {type(model).__name__}; expected a torch.nn.Module.")
    capture = _Capture(torch, model, select)
    with ExitStack() as installed:
        for path, module in model.named_modules():
            for handle in capture.hooks(path, module):
                installed.callback(handle.remove)
        if capture.names.is_git:
            installed.enter_context(function_mode(capture.torch, capture.keep, capture.attentions))
        yield capture.trace


class _Capture:
    """What the hooks share: the call in progress and the trace it is added to."""

    def __init__(self, torch: Any, model: Any, select: Sequence[str] | None) -> None:
        self.torch = torch
        self.patterns = None if select is None else list(select)
        self.names = Names(path for path, _ in model.named_modules())
        self.trace = Trace(meta=_meta(torch, model))
        self.calls = _Calls(torch.equal, self.names.is_git)
        self.top: Any = None  # the module that was called from outside
        self.found: dict[str, list[Tensor]] = {}
        self.narrow: set[str] = set()  # what was bfloat16
        self.attentions: list[Attention] = []  # of the modules that are running, innermost last

    def hooks(self, path: str, module: Any) -> list[Any]:
        """Install the hooks of one module and return the handles that remove them."""
        names = self.names
        at_input, at_output = names.at_input(path), names.at_output(path)
        attention = names.attention(path)

        def before(module: Any, args: Any, kwargs: Any) -> Any:
            if self.top is None:
                kwargs = self.begin(module, args, kwargs)
            if at_input is not None:
                self.keep(at_input, next(iter((*args, *kwargs.values())), None))
            if attention is not None:
                given = [x for _, x in tensors_in(self.torch, [args[1:], kwargs])]
                self.attentions.append(Attention(attention, given))
            return args, kwargs

        def after(module: Any, args: Any, kwargs: Any, output: Any) -> None:
            if attention is not None and self.attentions:
                self.attentions.pop()
            if at_output is not None and output is not None:
                self.keep_output(at_output, output)
            if module is self.top:
                self.end()

        return [
            module.register_forward_pre_hook(before, with_kwargs=True),
            # called after an error as well: what was computed before it is worth seeing
            module.register_forward_hook(after, with_kwargs=True, always_call=True),
        ]

    def keep(self, name: str, x: Any) -> None:
        """Copy a tensor; a later operation may write into it."""
        if isinstance(x, self.torch.Tensor) and is_wanted(name, self.patterns):
            self.found.setdefault(name, []).append(tokens_last(name, self.to_numpy(name, x)))

    def keep_output(self, name: str, output: Any) -> None:
        """Copy what a module returns: of refgit's names the first tensor, else all of them."""
        parts = tensors_in(self.torch, output)
        if self.names.is_git and (name == "output" or not name.endswith(".output")):
            parts = parts[:1]
        for where, x in parts:
            self.keep(name if len(parts) == 1 else f"{name}.{where}", x)

    def to_numpy(self, name: str, x: Any) -> Tensor:
        x = x.detach()
        if x.dtype == self.torch.bfloat16:
            self.narrow.add(name)
            x = x.float()
        return np.array(x.cpu().numpy())

    def begin(self, module: Any, args: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Start a call: find its prefix, keep what it was given."""
        self.top, self.found = module, {}
        self.attentions.clear()
        arguments = _arguments(module, args, kwargs)
        self.calls.next(arguments)
        for name, x in arguments.items():
            for where, tensor in [] if is_cache(x) else tensors_in(self.torch, x):
                whole = f"input.{name}.{where}" if where else f"input.{name}"
                if not (self.calls.adds and name == "pixel_values"):
                    self.found[whole] = [self.to_numpy(whole, tensor)]
        if kwargs.get("logits_to_keep") is not None:
            kwargs = {**kwargs, "logits_to_keep": 0}
        return kwargs

    def end(self) -> None:
        """Finish a call: put its tensors into the trace."""
        new_tokens = self.calls.new_tokens if self.calls.adds else None
        prefix = self.calls.counter.prefix
        found = assembled(self.found, is_git=self.names.is_git, new_tokens=new_tokens)
        for name, x in found.items():
            dtype = "bfloat16" if name in self.narrow else None
            self.trace.add(prefix + name, np.ascontiguousarray(x), dtype)
        self.trace.meta |= self.calls.counter.meta
        self.top, self.found = None, {}


class _Calls:
    """Which call of the model this is, and how many of its text tokens are new."""

    def __init__(self, same: Any, is_git: bool) -> None:
        self.same, self.is_git = same, is_git
        self.counter = CallCounter()
        self.adds = False  # whether the call of a GIT adds tokens to those of the last one
        self.new_tokens = 0
        self.text: Any = None  # the whole text of the last call, where no cache was used
        self.pixels: Any = None

    def next(self, arguments: Mapping[str, Any]) -> None:
        text: Any = arguments.get("input_ids")
        text = arguments.get("inputs_embeds") if text is None else text
        length = int(text.shape[1]) if getattr(text, "ndim", 0) > 1 else 0
        pixels = arguments.get("pixel_values")
        cached = _cached_tokens(arguments.get("past_key_values")) > 0
        longer = not cached and self._longer(text, pixels)
        self.new_tokens = length - self.text.shape[1] if longer else length
        self.adds = self.is_git and self.counter.started and (cached or longer)
        self.counter.count(length, continues=self.adds or not self.is_git)
        self.text, self.pixels = (None, None) if cached else (_copy(text), _copy(pixels))

    def _longer(self, text: Any, pixels: Any) -> bool:
        """Whether a call without a cache reads the last one's text and image, and then more."""
        if text is None or self.text is None or text.ndim != self.text.ndim:
            return False
        past = self.text.shape[1]
        if text.shape[1] <= past or not self.same(text[:, :past], self.text):
            return False
        if pixels is None or self.pixels is None:
            return pixels is self.pixels
        return bool(self.same(pixels, self.pixels))


# ---- looking into what torch modules are given and return


def _cached_tokens(cache: Any) -> int:
    """Tokens in a cache of transformers', or in nested tuples of keys and values."""
    if cache is None:
        return 0
    if is_cache(cache):
        return int(cache.get_seq_length())
    while isinstance(cache, (tuple, list)) and cache:
        cache = cache[0]
    return int(cache.shape[-2]) if getattr(cache, "ndim", 0) > 1 else 0


def _copy(x: Any) -> Any:
    return None if x is None else x.detach().clone()


def _arguments(module: Any, args: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    signature = inspect.signature(module.forward)
    try:
        bound = dict(signature.bind_partial(*args, **kwargs).arguments)
    except TypeError:  # the call itself will say what is wrong
        return dict(kwargs)
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            bound |= bound.pop(parameter.name, {})
    return bound


def _meta(torch: Any, model: Any) -> dict[str, str]:
    meta = {"format": FORMAT, "producer": _producer(torch, model), "calls": "0"}
    floats = [p.dtype for p in model.parameters() if p.is_floating_point()]
    if floats:
        meta["dtype"] = str(floats[0]).removeprefix("torch.")
    config: Any = getattr(model, "config", None)
    if getattr(config, "model_type", None) == "git":
        with suppress(ValueError, TypeError):  # a changed GIT may have what refgit has not
            known = GitConfig.from_dict(json.loads(json.dumps(config.to_dict(), default=str)))
            plain = known.replace(extra={}, vision_config=known.vision_config.replace(extra={}))
            meta["config"] = json.dumps(plain.to_dict())
    return meta


def _producer(torch: Any, model: Any) -> str:
    package = type(model).__module__.partition(".")[0]
    if package == "transformers":
        return f"transformers {importlib.import_module(package).__version__}"
    return f"torch {torch.__version__}"
