"""Running a model again on the inputs of a trace: in another precision, or order of summation."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from refgit.model.cache import KeyValueCache
from refgit.model.causal_lm import GitForCausalLM
from refgit.parity.deadline import Deadline, TimeIsUpError
from refgit.parity.numerics.precision import HALF, rounded
from refgit.parity.numerics.summation import OrderedBackend, backwards
from refgit.traces.container import Tensor, Trace
from refgit.traces.names import TensorName
from refgit.traces.recorder import trace


def replay(
    model: GitForCausalLM, reference: Trace, precision: str, deadline: Deadline | None = None
) -> Trace:
    """Run a model on the inputs that a trace holds, step by step, in another precision.

    Parameters
    ----------
    model : GitForCausalLM
    reference : Trace
        Its inputs are fed again, the tokens of each step included.
    precision : str
        One of PRECISIONS.
    deadline : Deadline, optional
        After which no further tensor is computed.

    Returns
    -------
    Trace
        With the same names, as far as there was time.

    Raises
    ------
    ValueError
        The trace holds no inputs.
    """
    calls: dict[str, dict[str, Tensor]] = {}
    for name in map(TensorName.parse, reference):
        if name.is_input:
            calls.setdefault(name.prefix, {})[name.leaf] = reference[str(name)]
    if not calls:
        raise ValueError(
            "the reference holds no inputs (input.pixel_values, input.input_ids); the noise floor "
            "is measured on the very input. Make it with refgit trace."
        )
    narrow = precision in HALF
    runner = narrowed(model, precision) if narrow else model.to(dtype=precision)
    cache: KeyValueCache | None = None
    until = deadline or Deadline()
    quiet = np.errstate(all="ignore") if narrow else np.errstate()  # what overflows is infinite

    def check(_name: str, _x: Any) -> None:
        until.check()

    with suppress(TimeIsUpError), quiet, trace(runner) as found, runner.hooked(check):
        for prefix, inputs in calls.items():
            given: dict[str, Any] = dict(inputs)
            if narrow and "pixel_values" in given:
                given["pixel_values"] = rounded(given["pixel_values"], precision)
            if "input_ids" not in given and "inputs_embeds" not in given:
                cache = runner.encode_image(given["pixel_values"], interpolate_pos_encoding=True)
                continue
            past = cache if "step." in prefix else None
            out: Any = runner(
                **given,
                past_key_values=past,
                use_cache=True,
                interpolate_pos_encoding=True,
                return_dict=True,
            )
            cache = out.past_key_values
    found.meta["dtype"] = precision
    return found


def summed_backwards(model: GitForCausalLM) -> GitForCausalLM:
    """The model in float32 on the host, with sums taken from the last term to the first.

    Sums of large products are taken in runs of terms, see `summation`.
    """
    return model.to(OrderedBackend(backwards), "float32")


def narrowed(model: GitForCausalLM, precision: str) -> GitForCausalLM:
    """A float32 model on the host that rounds its weights and intermediates to a narrow type.

    It goes on with the rounded ones, in kernels of whole layers too.
    """
    home = model.to(backend="numpy", dtype="float32")
    state = {name: rounded(x, precision) for name, x in home.state_dict().items()}
    other = type(model)(model.config, backend="numpy", dtype="float32", _parameters=state)
    other.operations = other.operations.with_hook(lambda _name, x: rounded(x, precision))
    return other
