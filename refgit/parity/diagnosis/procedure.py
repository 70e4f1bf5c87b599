r"""Which operation of another implementation is wrong, and why.

    diagnosis = diagnose(reference, other, model)
    print(*diagnosis.sentences, sep="\n")

Each tensor that the other implementation shows is recomputed from the other's own inputs to it.
Where the two differ by more than rounding does, that operation is wrong, whatever came before.
Then every hypothesis about it, a mistake that a port may make there, is tried with the same inputs,
and those that give exactly the other's tensor are its causes. Where tensors between are missing,
one mistake at a time is tried at every operation in the gap, and the same mistake at all of them
at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from refgit.model.causal_lm import GitForCausalLM
from refgit.parity.diagnosis.inputs import input_findings, own_tokens, repeats
from refgit.parity.diagnosis.local import measure
from refgit.parity.diagnosis.result import Cause, Diagnosis, Finding
from refgit.parity.diagnosis.search import Search
from refgit.parity.graph.graph import Graph
from refgit.parity.numerics.floor import MULTIPLE
from refgit.parity.numerics.precision import precision_of, tensor_precision
from refgit.traces.container import Trace
from refgit.traces.names import TensorName, is_input
from refgit_backends import to_numpy

__all__ = ["Cause", "Diagnosis", "Finding", "diagnose"]

EFFORT = 5e11  # multiplications a finding may cost before the far-fetched is left out


def diagnose(
    reference: Mapping[str, Any],
    other: Mapping[str, Any],
    model: GitForCausalLM,
    *,
    margin: float = MULTIPLE,
    effort: float = EFFORT,
    precision: str | None = None,
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
    effort : float
        Roughly, how many multiplications the search for one finding's causes may cost.
    precision : str, optional
        What the other implementation computes in, such as "bfloat16", whatever its tensors are
        stored in; a `Comparison` knows it. By default what the trace says, else what its numbers
        show.

    Returns
    -------
    Diagnosis

    Raises
    ------
    ValueError
        The reference has no inputs, or none of the other's tensors has a name of the model.
    """
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
    search = Search(graph, margin, effort)
    findings: list[Finding] = []
    checked, unchecked = 0, []
    for name in names:
        local = measure(graph, graph.nodes[name], values, tensor_precision(other, name, precision))
        if local is None:
            unchecked.append(name)
            continue
        checked += 1
        finding = search.explain(local) if local.multiples > margin else search.weak(local)
        if finding is not None:
            findings.append(finding)
    findings = search.confirmed(findings)
    if findings and findings[0].name.endswith("patch_embedding"):
        pixels = TensorName.parse(findings[0].name).prefix + "input.pixel_values"
        if pixels not in other:
            findings[0].lead = f"your picture may be another; store {pixels}"
    return Diagnosis(_in_order(of_inputs, findings, graph), checked, unchecked)


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
