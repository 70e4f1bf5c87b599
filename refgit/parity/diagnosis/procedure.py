r"""Which operation of another implementation is wrong, and why.

    diagnosis = diagnose(reference, other, model)
    print(*diagnosis.sentences, sep="\n")

Each tensor that the other implementation shows is recomputed from the other's own inputs to it.
Where the two differ by more than rounding does, that operation is wrong, whatever came before.
Then every hypothesis about it, a mistake that a port may make there, is tried with the same inputs,
and those that give exactly the other's tensor are its causes. Where tensors between are missing,
one mistake at a time is tried at every operation in the gap, and the same mistake at all of them
at once. The likeliest come first, since there may be time for some of them only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from refgit.model.causal_lm import GitForCausalLM
from refgit.parity.deadline import Deadline
from refgit.parity.diagnosis.examination import Examination
from refgit.parity.diagnosis.inputs import input_findings, own_tokens, repeats
from refgit.parity.diagnosis.result import Cause, Diagnosis, Finding
from refgit.parity.diagnosis.search import Progress, Search
from refgit.parity.graph.graph import Graph
from refgit.parity.numerics.floor import MULTIPLE
from refgit.parity.numerics.precision import precision_of, tensor_precision
from refgit.traces.container import Trace
from refgit.traces.names import TensorName, is_input
from refgit_backends import to_numpy

__all__ = ["Cause", "Diagnosis", "Finding", "diagnose"]

TRIALS = 1000  # hypotheses that are tried at most at one tensor: the rest is far-fetched


def diagnose(
    reference: Mapping[str, Any],
    other: Mapping[str, Any],
    model: GitForCausalLM,
    *,
    margin: float = MULTIPLE,
    trials: int = TRIALS,
    precision: str | None = None,
    time: float | Deadline | None = None,
    suspects: Iterable[str] = (),
    progress: Progress | None = None,
) -> Diagnosis:
    """Find the operations that are wrong in another implementation, and the likely causes.

    Parameters
    ----------
    reference : mapping of str to array
        refgit's trace; only its inputs (``input.pixel_values`` ...) are used.
    other : mapping of str to array
        The other implementation's tensors under refgit's names, as many as there are, in its own
        precision. Its inputs may be left out where they are the reference's.
    model : GitForCausalLM
        With the weights both have.
    margin : float
        How many multiples of the noise floor count as rounding. The floor is measured on the spot:
        the same operation in the other's precision and in float64.
    trials : int
        How many hypotheses are tried at most at one tensor, the likeliest first.
    precision : str, optional
        What the other implementation computes in, such as "bfloat16", whatever its tensors are
        stored in; a `Comparison` knows it. By default what the trace says, else what its numbers
        show.
    time : float or Deadline, optional
        Seconds, or until when. It is checked before each operation, so it is kept but for the
        time that one takes; what it did not suffice for, the diagnosis says. By default it takes
        as long as it takes.
    suspects : iterable of str
        Tensors to begin with, such as those that differ; by default the first computed.
    progress : callable, optional
        Called with what is done now, how much of it is done, and of how much.

    Returns
    -------
    Diagnosis

    Raises
    ------
    ValueError
        The reference has no inputs, or none of the other's tensors has a name of the model.
    """
    deadline, show = Deadline.of(time), progress or (lambda what, done, total: None)
    if not precision and isinstance(other, Trace) and "dtype" not in other.meta:
        precision = precision_of(other)
    inputs = {name: to_numpy(x) for name, x in reference.items() if is_input(name)}
    if not any(name.endswith(("input_ids", "inputs_embeds")) for name in inputs):
        raise ValueError(
            "the reference trace holds no input.input_ids; expected a trace of refgit with its "
            "inputs. Make it again with `refgit trace`."
        )
    of_inputs = list(input_findings(inputs, other, precision))
    given = inputs | _own_inputs(inputs, other) | own_tokens(reference, other)
    graph = Graph(_at_home(model.state_dict()), model.config, given)
    names = [name for name in graph.nodes if name in other]
    if not names:
        raise ValueError(
            f"none of the other trace's {len(other)} tensors has a name of this model, such as "
            f"{next(iter(graph.nodes))}; give the `canonical` of a comparison, which knows them by "
            "their names here, with a map of names if need be."
        )
    values = given | {name: other[name] for name in names}
    precisions = {name: tensor_precision(other, name, precision) for name in names}
    first = set(suspects)
    names.sort(key=lambda name: name not in first)  # else in the order of execution
    examined = Examination(Search(graph, margin, trials, show), values, precisions, deadline)
    findings = examined.findings(names)
    if findings and findings[0].name.endswith("patch_embedding"):
        pixels = TensorName.parse(findings[0].name).prefix + "input.pixel_values"
        if pixels not in other:
            findings[0].lead = f"your picture may be another; store {pixels}"
    return Diagnosis(
        _in_order(of_inputs, findings, graph),
        examined.checked,
        examined.unchecked,
        examined.unreached,
        deadline.seconds,
    )


def _own_inputs(inputs: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The other's inputs that fit the reference's, or repeat them."""
    own = {name: _as(right, other[name]) for name, right in inputs.items() if name in other}
    return {
        name: x
        for name, x in own.items()
        if x.shape == inputs[name].shape or repeats(x, inputs[name])
    }


def _as(right: Any, x: Any) -> Any:
    """An input of the other; integers that it stores as floating numbers as integers."""
    x = np.asarray(x)
    whole = right.dtype.kind in "iub" and x.dtype.kind == "f" and np.array_equal(x, np.rint(x))
    return x.astype(np.int64) if whole else x


def _in_order(of_inputs: list[Finding], findings: list[Finding], graph: Graph) -> list[Finding]:
    """Findings call by call, each call's inputs before its tensors."""

    def prefix(name: str) -> str:
        return TensorName.parse(name).prefix

    calls = {call: i for i, call in enumerate(dict.fromkeys(map(prefix, graph.nodes)))}
    both = [*of_inputs, *findings]  # sorting keeps this order in each call
    return sorted(both, key=lambda f: calls.get(prefix(f.name), len(calls)))


def _at_home(state: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters on the host; tied ones stay one array."""
    home = {id(x): to_numpy(x) for x in state.values()}
    return {name: home[id(x)] for name, x in state.items()}
