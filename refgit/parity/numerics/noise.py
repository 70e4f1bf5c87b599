"""The noise floor: how far a correct implementation may be off, measured and not guessed.

Errors are given in multiples of it: an error of 8 floors is 8 times what rounding does.

Rounding errors depend on the weights and on the input. So the reference is run again on the very
input, in the other's precision, and its distance to float64 is what rounding does to each tensor:

    floor = max |reference in float32 - reference in float64|,   and the same as root mean square

In float32 it is run twice, as the model is and with sums taken backwards, and the larger distance
counts, since a tensor of few numbers may be lucky in one run. The floor is at least half a unit in
the last place of the tensor's largest number, and relative to that number at least as high as in
any other call of the same operation, such as a decode step. bfloat16 and float16 are float32 with
the weights and every named tensor rounded to the narrow type, as in libraries that accumulate in
float32. What is not measured is scaled by the ratio of the units: float64 from float32, float16
and bfloat16 from each other or from float32.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from refgit.model.causal_lm import GitForCausalLM
from refgit.parity.deadline import Deadline
from refgit.parity.numerics.floor import Floor, larger, measured_floor, pooled, scaled_floor
from refgit.parity.numerics.precision import UNIT_ROUNDOFF
from refgit.parity.numerics.rerun import replay, summed_backwards
from refgit.traces.container import Tensor, Trace
from refgit.traces.names import is_input

# Which floors to scale by the ratio of the units; those of float32, which sums in the precision in
# which it stores, then come out a few times too high.
_KIN = {
    "float64": ("float32",),
    "float16": ("bfloat16", "float32"),
    "bfloat16": ("float16", "float32"),
}
# Where nothing is measured: these many units of the tensor's scale. Of 13,324 tensors of 150
# random models (tests/live/test_parity_live.py) 99.9 % have a lower measured floor.
_ESTIMATE = (32.0, 20.0)
_UNFINISHED = (
    "there was no time to measure all noise floors: some are of one order of summation only and "
    "may be low, or estimated from the size of the tensor. --time gives it longer."
)


class NoiseFloor:
    """The floors of a reference trace, by precision and name.

    Parameters
    ----------
    floors : mapping of str to mapping of str to Floor
        Precision, then name.
    unfinished : str
        What there was no time to measure; "" where there was time for all.
    """

    def __init__(
        self, floors: Mapping[str, Mapping[str, Floor]] | None = None, unfinished: str = ""
    ) -> None:
        self.unfinished = unfinished
        self.floors: dict[str, dict[str, Floor]] = {k: dict(v) for k, v in (floors or {}).items()}

    @classmethod
    def measure(
        cls,
        model: GitForCausalLM,
        reference: Trace,
        precisions: Sequence[str] = ("float32", "float16", "bfloat16"),
        *,
        progress: Callable[[int, int], None] | None = None,
        deadline: Deadline | None = None,
    ) -> NoiseFloor:
        """Run the model on the inputs of a trace, in each precision.

        Parameters
        ----------
        model : GitForCausalLM
            The one the reference was made with.
        reference : Trace
            Its inputs are read; if it is in float64, its tensors are the exact ones.
        precisions : sequence of str
            Of float32, float16 and bfloat16.
        progress : callable, optional
            Called with the number of runs done so far, and of all runs.
        deadline : Deadline, optional
            After which no further tensor is computed; `unfinished` says what is lacking then.

        Raises
        ------
        ValueError
            The trace holds no inputs, or they do not fit the model.
        """
        exact = reference
        show = progress or (lambda done, total: None)
        first = int(reference.meta.get("dtype") != "float64")  # a run in float64 comes first
        runs = [(precision, False) for precision in precisions]
        if "float32" in precisions:
            runs.append(("float32", True))  # with sums taken backwards
        show(0, first + len(runs))
        if first:
            exact = replay(model, reference, "float64", deadline)
        found: dict[str, dict[str, Floor]] = {}
        for i, (precision, reverse) in enumerate(runs, first):
            show(i, first + len(runs))
            if deadline is not None and deadline.passed:
                break
            runner = summed_backwards(model) if reverse else model
            run = replay(runner, reference, precision, deadline)
            own = {
                name: measured_floor(run[name], exact[name], precision)
                for name in exact
                if name in run and run[name].shape == exact[name].shape
                if exact[name].dtype.kind == "f" and not is_input(name)
            }
            found[precision] = larger(pooled(own, exact), found.get(precision, {}))
        stopped = deadline is not None and deadline.passed
        return cls(found, _UNFINISHED if stopped else "")

    @classmethod
    def of_trace(cls, reference: Trace) -> NoiseFloor | None:
        """Return the floors that a trace's metadata holds, or None."""
        try:
            stored = json.loads(reference.meta["noise"])
            return cls(
                {
                    precision: {
                        name: Floor(_number(a), _number(b)) for name, (a, b) in floors.items()
                    }
                    for precision, floors in stored.items()
                }
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            return None

    def to_json(self) -> str:
        """Return what `of_trace` reads under ``noise`` in a trace's metadata."""

        def short(x: float) -> float | None:
            return float(f"{x:.4g}") if np.isfinite(x) else None

        pairs = {
            precision: {name: (short(f.max), short(f.rms)) for name, f in floors.items()}
            for precision, floors in self.floors.items()
        }
        return json.dumps(pairs, separators=(",", ":"))

    def of(self, name: str, reference: Tensor, precision: str = "float32") -> Floor:
        """Return the floor of a tensor.

        Parameters
        ----------
        name : str
            As in the reference.
        reference : array
            Its value there, which gives the scale.
        precision : str
            What the other implementation computes in.
        """
        if is_input(name):  # the same numbers, or these rounded once
            return scaled_floor(reference, precision, 1.0, 1.0, measured=True)
        for base in (precision, *_KIN.get(precision, ())):
            floor = self.floors.get(base, {}).get(name)
            if floor is not None:
                return floor.times(UNIT_ROUNDOFF[precision] / UNIT_ROUNDOFF[base])
        return scaled_floor(reference, precision, *_ESTIMATE, measured=False)

    def has(self, precision: str) -> bool:
        """Whether the floors of a precision were measured."""
        return precision in self.floors


def _number(x: float | None) -> float:
    return np.inf if x is None else float(x)
