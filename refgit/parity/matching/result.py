"""What matching finds: pairs of tensors, wrong shapes, and tensors without a counterpart."""

from __future__ import annotations

from dataclasses import dataclass, field

from refgit.parity.matching.layouts import Layout
from refgit.traces.container import Tensor, Trace
from refgit.traces.names import TensorName

# How a pair was found.
BY_MAP = "the map"
BY_NAME = "same name"
BY_RULE = "a naming pattern"
BY_VALUES = "shape, order and values"
BY_ORDER = "shape and order only"


@dataclass(frozen=True)
class Match:
    """One of their tensors, and which of ours it is.

    Attributes
    ----------
    ours, theirs : str
        Names.
    how : str
        How it was found.
    layout : Layout
        From theirs to ours.
    certain : bool
        False where several layouts were possible and the values favour none.
    """

    ours: str
    theirs: str
    how: str
    layout: Layout
    certain: bool = True


@dataclass(frozen=True)
class Misfit:
    """One of their tensors that is ours by its name, and by its shape is not.

    Attributes
    ----------
    ours, theirs : str
        Names.
    how : str
        How it was found.
    shape, expected : tuple of int
        Of theirs and of ours.
    """

    ours: str
    theirs: str
    how: str
    shape: tuple[int, ...]
    expected: tuple[int, ...]


@dataclass
class Matching:
    """Which tensors were matched.

    Attributes
    ----------
    matches : dict of str to Match
        By our name, in our order.
    missing : list of str
        Ours that have no counterpart.
    extra : list of str
        Theirs that have none.
    misfits : dict of str to Misfit
        By our name, where names agree and shapes do not.
    notes : list of str
        Sentences about the map, and about tensors that need one.
    """

    matches: dict[str, Match] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    misfits: dict[str, Misfit] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def canonical(self, other: Trace) -> Trace:
        """Return their tensors under our names and in our layout.

        Only whole ones, and the logits of the last positions.
        """
        tensors: dict[str, Tensor] = {}
        dtypes: dict[str, str] = {}
        for name, found in self.matches.items():
            part = found.layout.part
            if part is None or (TensorName.parse(name).path == "output" and part[1] > 0):
                tensors[name] = found.layout.to_ours(other[found.theirs])
                dtypes[name] = other.dtype_of(found.theirs)
        meta = {key: value for key, value in other.meta.items() if key != "order"}
        return Trace(tensors, meta=meta, order_known=True, dtypes=dtypes)
