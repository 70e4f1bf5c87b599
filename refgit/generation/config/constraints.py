"""Constraints: phrases that a text must contain, as constrained beam search keeps track of them.

A constraint is a small machine that is fed the tokens of one text. It says which token would bring
it further (`advance`), whether one would (`does_advance`), takes it (`update`), and knows how many
are missing (`remaining`). `ConstraintListState` holds the constraints of one beam; one is in
progress at a time.

Source: Post and Vilar 2018, "Fast lexically constrained decoding with dynamic beam allocation",
arXiv 1804.06609, and transformers 4.56.2, whose beams these follow.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Self

from refgit.validation import are_id_lists, are_ids, expect, is_integer

Update = tuple[bool, bool, bool]  # stepped forward, completed, reset


class Constraint(ABC):
    """What a text must contain. Subclass it for other rules than the two below.

    Attributes
    ----------
    seqlen : int
        Tokens that fulfil the constraint, at most.
    """

    seqlen: int

    @abstractmethod
    def advance(self) -> int | list[int] | None:
        """Return the token or tokens that would bring the constraint further, if any."""

    @abstractmethod
    def does_advance(self, token_id: int) -> bool:
        """Say whether this token would bring the constraint further."""

    @abstractmethod
    def update(self, token_id: int) -> Update:
        """Take the next token of the text; return (stepped, completed, reset).

        A token that does not bring the constraint further sets it back to its start.
        """

    @abstractmethod
    def reset(self) -> None:
        """Go back to the start, as if no token had come."""

    @abstractmethod
    def remaining(self) -> int:
        """Return the number of tokens that are missing, at most."""

    @abstractmethod
    def copy(self, stateful: bool = False) -> Self:
        """Return a copy, at the start or (`stateful`) as far as this one."""


class PhrasalConstraint(Constraint):
    """The text must contain these tokens in a row.

    Notes
    -----
    In transformers `reset` goes back to after the first token, which its search never lets show;
    here it goes back to the start.
    """

    def __init__(self, token_ids: Sequence[int]) -> None:
        holds = are_ids(token_ids, 1)
        expect("token_ids", token_ids, holds, "a list of at least one token id")
        self.token_ids = list(map(int, token_ids))
        self.seqlen = len(self.token_ids)
        self.done = 0

    @property
    def completed(self) -> bool:
        """Whether all tokens have come."""
        return self.done == self.seqlen

    def advance(self) -> int | None:
        """See `Constraint`: the next token of the phrase."""
        return None if self.completed else self.token_ids[self.done]

    def does_advance(self, token_id: int) -> bool:
        """Say whether this is the next token of the phrase."""
        return _token(token_id) == self.advance()

    def update(self, token_id: int) -> Update:
        """Take a token: the next of the phrase, or back to its start."""
        stepped = self.does_advance(token_id)
        self.done = self.done + 1 if stepped else 0
        return stepped, self.completed, not stepped

    def reset(self) -> None:
        """Go back to the start of the phrase."""
        self.done = 0

    def remaining(self) -> int:
        """Return the number of tokens of the phrase that are missing."""
        return self.seqlen - self.done

    def copy(self, stateful: bool = False) -> Self:
        """Return a copy, at the start or (`stateful`) as far as this one."""
        other = type(self)(self.token_ids)
        other.done = self.done if stateful else 0
        return other


class DisjunctiveConstraint(Constraint):
    """The text must contain one of several phrases, of which none begins another.

    Notes
    -----
    Stateful copies share their progress: a token that one takes, the others have taken. That is
    so in transformers, where beams see it whose next tokens could be several (``[[1, 2], [1, 3]]``
    after 1: the second candidate is compared as if the first had been taken); ids would not be
    equal otherwise.
    """

    def __init__(self, nested_token_ids: Sequence[Sequence[int]]) -> None:
        expected = "a list of lists of token ids, none of them empty"
        expect("nested_token_ids", nested_token_ids, are_id_lists(nested_token_ids), expected)
        self.token_ids = [list(map(int, ids)) for ids in nested_token_ids]
        # in order, what a phrase begins comes right after it
        pairs = pairwise(sorted(self.token_ids))
        apart = not any(after[: len(phrase)] == phrase for phrase, after in pairs)
        expected = "phrases of which none begins another"
        expect("nested_token_ids", nested_token_ids, apart, expected)
        self.seqlen = max(map(len, self.token_ids))
        self.progress: list[int] = []
        self.completed = False

    def _next(self) -> list[int]:
        n = len(self.progress)
        begun = [ids for ids in self.token_ids if ids[:n] == self.progress and len(ids) > n]
        return list(dict.fromkeys(ids[n] for ids in begun))

    def advance(self) -> list[int] | None:
        """Return the tokens that continue one of the phrases."""
        return self._next() or None

    def does_advance(self, token_id: int) -> bool:
        """Say whether this token continues one of the phrases."""
        return _token(token_id) in self._next()

    def update(self, token_id: int) -> Update:
        """Take a token: the next of a phrase, or back to the start."""
        stepped = self.does_advance(token_id)
        if stepped:
            self.progress.append(int(token_id))
        else:
            self.reset()
        self.completed = not self._next()
        return stepped, self.completed, not stepped

    def reset(self) -> None:
        """Go back to the start."""
        self.progress, self.completed = [], False

    def remaining(self) -> int:
        """Return the number of tokens that the longest phrase lacks; 0 once one is complete."""
        return 0 if self.completed else self.seqlen - len(self.progress)

    def copy(self, stateful: bool = False) -> Self:
        """Return a copy, at the start or (`stateful`) as far as this one; see the notes."""
        other = type(self)(self.token_ids)
        if stateful:
            other.progress, other.completed = self.progress, self.completed
        return other


class ConstraintListState:
    """How far one beam is with all its constraints.

    Attributes
    ----------
    constraints : list of Constraint
        All of them, at their start.
    complete_constraints, pending_constraints : list of Constraint
        Those fulfilled, and those not begun.
    inprogress_constraint : Constraint or None
        The one of which the last token was a part.
    """

    def __init__(self, constraints: Sequence[Constraint]) -> None:
        holds = len(constraints) > 0 and all(isinstance(c, Constraint) for c in constraints)
        expect("constraints", constraints, holds, "a list of at least one Constraint")
        self.constraints = list(constraints)
        self.max_seqlen = max(constraint.seqlen for constraint in constraints)
        self.reset(None)

    @property
    def completed(self) -> bool:
        """Whether all are fulfilled."""
        return not self.pending_constraints and self.inprogress_constraint is None

    def get_bank(self) -> int:
        """Return a number that grows with what is fulfilled; beams compete among equal ones."""
        banked = len(self.complete_constraints) * self.max_seqlen
        if self.inprogress_constraint is not None:
            banked += self.max_seqlen - self.inprogress_constraint.remaining()
        return banked

    def advance(self) -> list[int] | None:
        """Return the tokens that bring a constraint further: the one in progress, or any."""
        current = self.inprogress_constraint
        found: list[int] = []
        for constraint in self.pending_constraints if current is None else [current]:
            tokens = constraint.advance()
            found += tokens if isinstance(tokens, list) else [] if tokens is None else [tokens]
        return found or None

    def reset(self, token_ids: Iterable[int] | None) -> None:
        """Begin anew and take the tokens of a text, until all constraints are fulfilled."""
        self.complete_constraints: list[Constraint] = []
        self.inprogress_constraint: Constraint | None = None
        self.pending_constraints = [constraint.copy() for constraint in self.constraints]
        for token in token_ids or ():
            self.add(token)
            if self.completed:
                break

    def add(self, token_id: int) -> tuple[bool, bool]:
        """Take the next token of the text; return (a constraint was completed, brought further).

        Once all are fulfilled, every further token gives (True, False).
        """
        token = _token(token_id)
        if self.completed:
            return True, False
        constraint, begins = self.inprogress_constraint, self.inprogress_constraint is None
        if constraint is None:
            constraint = self._begun_by(token)
        if constraint is None:
            return False, False
        stepped, complete, reset = constraint.update(token)
        if begins and not stepped:
            raise ValueError(
                f"{type(constraint).__name__}.update({token}) did not step, though "
                "does_advance is true; expected both to agree."
            )
        self.inprogress_constraint = None if complete or reset else constraint
        if reset:  # it waits again, after the others
            self.pending_constraints.append(constraint.copy())
        if complete:
            self.complete_constraints.append(constraint)
        return complete, stepped

    def _begun_by(self, token: int) -> Constraint | None:
        for index, constraint in enumerate(self.pending_constraints):
            if constraint.does_advance(token):
                return self.pending_constraints.pop(index)
        return None

    def copy(self, stateful: bool = True) -> ConstraintListState:
        """Return a copy, as far as this one or (not `stateful`) at the start."""
        other = ConstraintListState(self.constraints)
        if stateful:
            other.complete_constraints = [c.copy(stateful=True) for c in self.complete_constraints]
            if self.inprogress_constraint is not None:
                other.inprogress_constraint = self.inprogress_constraint.copy(stateful=True)
            other.pending_constraints = [c.copy() for c in self.pending_constraints]
        return other


def are_forced_words(value: Any) -> bool:
    """Whether `value` is a list of phrases, or of lists of alternative phrases."""
    several = isinstance(value, list | tuple) and len(value) > 0
    return several and all(are_ids(entry, 1) or are_id_lists(entry) for entry in value)


def forced_words(force_words_ids: Any) -> list[Constraint]:
    """Turn `force_words_ids` into constraints: each entry a phrase, or a list of alternatives."""
    expected = "a list of phrases (lists of token ids), or of lists of alternative phrases"
    expect("force_words_ids", force_words_ids, are_forced_words(force_words_ids), expected)
    return [
        PhrasalConstraint(entry) if are_ids(entry) else DisjunctiveConstraint(entry)
        for entry in force_words_ids
    ]


def _token(token_id: int) -> int:
    if not is_integer(token_id):
        raise TypeError(f"token_id is {token_id!r}; expected one token id, an integer.")
    return int(token_id)
