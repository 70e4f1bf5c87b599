"""The noise floor: how far a correct implementation may be off, measured and not guessed.

"Floors" elsewhere are multiples of it: an error of 8 floors is 8 times what rounding does.

Rounding errors depend on the weights and on the input. So the reference is run again on the very
input, in the other's precision, and its distance to float64 is what rounding does to each tensor:

    floor = max |reference in float32 - reference in float64|,   and the same as root mean square

In float32 it is run twice, as the model is and with sums taken backwards, and the larger distance
counts: one run alone may be lucky, where the numbers of a tensor are few. The floor is no less
than half a unit in the last place of the tensor's largest number, and relative to that
number no less than in any other call, such as a decode step, of the same operation. bfloat16 and
float16 are float32 with the weights and every named tensor rounded to the narrow type, which is
what libraries do that accumulate in float32. What is not measured is scaled by the ratio of the
units: float64 from float32, float16 and bfloat16 from one another or from float32.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from refgit.parity.numerics.summation import OrderedBackend, backwards
from refgit.traces.container import Tensor, Trace, is_input, split_call, trace

if TYPE_CHECKING:
    from refgit.model.cache import KeyValueCache
    from refgit.model.git import GitForCausalLM

PRECISIONS = ("float64", "float32", "float16", "bfloat16")
# Half the distance from 1 to the next number.
UNIT_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
# Whose floors to scale by the ratio of the units; float32's, which sums in the same precision as it
# stores, is then a few times too high.
_KIN = {
    "float64": ("float32",),
    "float16": ("bfloat16", "float32"),
    "bfloat16": ("float16", "float32"),
}
# Where nothing is measured: these many units of the tensor's scale. Of 13,324 tensors of 150
# random models (tests/live/test_parity_live.py) 99.9 % have a lower measured floor.
_ESTIMATE = (32.0, 20.0)
_BLOCK = 16384  # numbers that stay in a processor's cache


@dataclass(frozen=True)
class Floor:
    """What rounding does to one tensor.

    Attributes
    ----------
    max, rms : float
        Largest and root mean square error; infinite where the reference itself overflows.
    measured : bool
        False where it is an estimate from the tensor's scale.
    """

    max: float
    rms: float
    measured: bool = True


class NoiseFloor:
    """The floors of a reference trace, by precision and name.

    Parameters
    ----------
    floors : mapping of str to mapping of str to Floor
        Precision, then name.
    """

    def __init__(self, floors: Mapping[str, Mapping[str, Floor]] | None = None) -> None:
        self.floors: dict[str, dict[str, Floor]] = {k: dict(v) for k, v in (floors or {}).items()}

    @classmethod
    def measure(
        cls,
        model: GitForCausalLM,
        reference: Trace,
        precisions: Sequence[str] = ("float32", "float16", "bfloat16"),
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> NoiseFloor:
        """Run the model on the inputs of a trace, in each precision.

        Parameters
        ----------
        model : GitForCausalLM
            The one the reference was made with.
        reference : Trace
            Its inputs are read; if it is of float64, its tensors are the truth.
        precisions : sequence of str
            Of float32, float16 and bfloat16.
        progress : callable, optional
            Called with the number of runs done so far, and of all of them.

        Raises
        ------
        ValueError
            The trace holds no inputs, or they do not fit the model.
        """
        exact = reference
        show = progress or (lambda done, total: None)
        more = int(reference.meta.get("dtype") != "float64")  # runs before those of precisions
        runs = [(precision, False) for precision in precisions]
        if "float32" in precisions:
            runs.append(("float32", True))  # with sums taken backwards
        show(0, more + len(runs))
        if more:
            exact = replay(model, reference, "float64")
        found: dict[str, dict[str, Floor]] = {}
        for i, (precision, turned) in enumerate(runs):
            show(more + i, more + len(runs))
            run = replay(_backwards(model) if turned else model, reference, precision)
            own = {
                name: measured_floor(run[name], exact[name], precision)
                for name in exact
                if name in run and run[name].shape == exact[name].shape
                if exact[name].dtype.kind == "f" and not is_input(name)
            }
            found[precision] = _larger(pooled(own, exact), found.get(precision, {}))
        return cls(found)

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
            return _scaled(reference, precision, 1.0, 1.0, measured=True)
        for base in (precision, *_KIN.get(precision, ())):
            floor = self.floors.get(base, {}).get(name)
            if floor is not None:
                ratio = UNIT_ROUNDOFF[precision] / UNIT_ROUNDOFF[base]
                return Floor(floor.max * ratio, floor.rms * ratio)
        return _scaled(reference, precision, *_ESTIMATE, measured=False)

    def has(self, precision: str) -> bool:
        """Whether the floors of a precision were measured."""
        return precision in self.floors


def measured_floor(run: Tensor, exact: Tensor, precision: str) -> Floor:
    """Return the floor that one run in a precision shows against the exact tensor."""
    with np.errstate(all="ignore"):
        largest, rms = _extent(np.subtract(run, exact, dtype=np.float64))
    if not np.isfinite(largest):
        return Floor(np.inf, np.inf)
    least = _scaled(exact, precision, 1.0, 1.0, measured=True)
    return Floor(max(largest, least.max), max(rms, least.rms))


def _larger(floors: Mapping[str, Floor], others: Mapping[str, Floor]) -> dict[str, Floor]:
    """Take the larger of two floors of each tensor."""
    found = dict(floors)
    for name, other in others.items():
        floor = floors.get(name, other)
        found[name] = Floor(max(floor.max, other.max), max(floor.rms, other.rms))
    return found


def pooled(floors: Mapping[str, Floor], exact: Mapping[str, Tensor]) -> dict[str, Floor]:
    """Give a tensor's calls the largest of their floors, relative to the tensor's size.

    What one decode step shows is a draw of a hundred numbers, and a lucky one now and then; all
    calls run through the same operation.
    """
    extents = {name: _extent(exact[name].astype(np.float64, copy=False)) for name in floors}
    shares: dict[str, tuple[float, float]] = {}
    for name, floor in floors.items():
        (largest, rms), kind = extents[name], split_call(name)[1]
        if largest > 0.0 and np.isfinite(largest) and np.isfinite(floor.max):
            before = shares.get(kind, (0.0, 0.0))
            shares[kind] = max(before[0], floor.max / largest), max(before[1], floor.rms / rms)
    found = {}
    for name, floor in floors.items():
        (largest, rms), share = extents[name], shares.get(split_call(name)[1], (0.0, 0.0))
        if np.isfinite(largest):
            floor = Floor(max(floor.max, share[0] * largest), max(floor.rms, share[1] * rms))
        found[name] = floor
    return found


def _scaled(x: Tensor, precision: str, largest: float, rms: float, *, measured: bool) -> Floor:
    """Return so many units of the last place of a tensor's largest number and of its rms."""
    unit = UNIT_ROUNDOFF[precision]
    wide = x.astype(np.float64, copy=False)
    extent = _extent(wide)
    if not np.isfinite(extent[0]):
        extent = _extent(wide[np.isfinite(wide)])
    # a tensor of zeros leaves no room but for what the type cannot tell from zero
    least = 2.0**-126 if precision in ("float32", "bfloat16") else 2.0**-24 * unit
    return Floor(
        max(largest * unit * extent[0], least), max(rms * unit * extent[1], least), measured
    )


def _extent(x: Tensor) -> tuple[float, float]:
    """Largest absolute value and root mean square, in few passes: NaN where there is one."""
    if not x.size:
        return 0.0, 0.0
    flat = x.reshape(-1)
    largest = np.maximum(flat.max(), -flat.min())
    with np.errstate(over="ignore"):
        return float(largest), float(np.sqrt(flat @ flat / x.size))


def _number(x: float | None) -> float:
    return np.inf if x is None else float(x)


# ---- running the reference again


def replay(model: GitForCausalLM, reference: Trace, precision: str) -> Trace:
    """Run a model on the inputs that a trace holds, step by step, in another precision.

    Parameters
    ----------
    model : GitForCausalLM
    reference : Trace
        Its inputs are fed again, the words of each step included.
    precision : str
        One of PRECISIONS.

    Returns
    -------
    Trace
        Of the same names.

    Raises
    ------
    ValueError
        The trace holds no inputs.
    """
    calls: dict[str, dict[str, Tensor]] = {}
    for name in reference:
        prefix, rest = split_call(name)
        if is_input(name):
            calls.setdefault(prefix, {})[rest.removeprefix("input.")] = reference[name]
    if not calls:
        raise ValueError(
            "the reference holds no inputs (input.pixel_values, input.input_ids); the noise floor "
            "is measured on the very input. Make it with refgit trace."
        )
    narrow = precision in ("float16", "bfloat16")
    runner = _narrowed(model, precision) if narrow else model.to(dtype=precision)
    cache: KeyValueCache | None = None
    quiet = np.errstate(all="ignore") if narrow else np.errstate()  # what overflows is infinite
    with quiet, trace(runner) as found:
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


def _backwards(model: GitForCausalLM) -> GitForCausalLM:
    """The model in float32 on the host, with sums taken from the last term to the first.

    Those of large products are taken in runs of terms, see `summation`.
    """
    state = model.to(backend="numpy", dtype="float32").state_dict()
    order = OrderedBackend(backwards)
    return type(model)(model.config, backend=order, dtype="float32", _parameters=state)


def _narrowed(model: GitForCausalLM, precision: str) -> GitForCausalLM:
    """A float32 model on the host whose weights and named tensors are rounded to a narrow type."""
    home = model.to(backend="numpy", dtype="float32")
    state = {name: rounded(x, precision) for name, x in home.state_dict().items()}
    other = type(model)(model.config, backend="numpy", dtype="float32", _parameters=state)

    def listener(name: str, array: Tensor) -> None:
        array[...] = rounded(array, precision)  # in place: the model goes on with it

    other.operations = replace(other.operations, listener=listener)
    return other


def rounded(x: Tensor, precision: str) -> Tensor:
    """Round to the nearest number of a narrower type, ties to even, and keep the dtype.

    Parameters
    ----------
    x : array, float32 or float64
    precision : {"float16", "bfloat16", "float32", "float64"}

    Returns
    -------
    array of the dtype of `x`; what is too large for the type becomes infinite
    """
    if precision != "bfloat16":
        with np.errstate(over="ignore"):
            return x.astype(precision).astype(x.dtype)
    y = np.array(x, np.float32)
    bits = y.reshape(-1).view(np.uint32)
    for start in range(0, bits.size, _BLOCK):
        block = bits[start : start + _BLOCK]
        finite = np.isfinite(block.view(np.float32))
        up = block >> np.uint32(16)
        up &= np.uint32(1)
        up += np.uint32(0x7FFF)  # half of what is cut off, less where that makes it even
        np.add(block, up, out=block, where=finite)
        np.bitwise_and(block, np.uint32(0xFFFF0000), out=block, where=finite)
    return y.astype(x.dtype, copy=False)


# ---- what an implementation computes in


def is_exact_in(x: Tensor, precision: str) -> bool:
    """Whether every number of a tensor is one of the precision's."""
    finite = x[np.isfinite(x)] if x.dtype.kind == "f" else x
    return bool((rounded(finite, precision) == finite).all())


def precision_of(other: Trace) -> str:
    """Return what an implementation computes in, by the numbers it puts out.

    Numbers that were computed in float16 remain numbers of float16 when they are stored in a wider
    type. With mixed precision some tensors are narrow and the others as wrong; a third of them
    decides. Tensors of fewer than eight different numbers say nothing.
    """
    votes = []
    for name in other:
        x = other[name]
        if x.dtype.kind == "f" and not is_input(name) and x.size >= 8:
            sample = np.asarray(x.reshape(-1)[:: max(1, x.size // 4096)])
            if len(np.unique(sample[np.isfinite(sample)])) >= 8:
                votes.append(_narrowest(sample, other.dtype_of(name)))
    for narrow in ("bfloat16", "float16"):
        if votes.count(narrow) * 3 > len(votes):
            return narrow
    return "float64" if votes.count("float64") * 2 > len(votes) else "float32"


def _narrowest(x: Tensor, stored: str) -> str:
    if stored in ("bfloat16", "float16"):
        return stored
    for precision in ("bfloat16", "float16", "float32"):
        if is_exact_in(x, precision):
            return precision
    return "float64"
