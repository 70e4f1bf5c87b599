"""Labels as a tree of tokens, in which a common prefix occurs once.

Below the root are the first tokens of all labels, below each of these the tokens that may follow
it, and so on; every label ends with the end token, so a label that is a prefix of others has a
leaf, too. A search that only walks down the tree can write nothing but labels. (De Cao et al.,
arXiv 2010.00904, section 3.2.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from refgit.generation.logits.scores import Ids
from refgit.validation import are_ids, is_integer

LARGEST = 2**31 - 1  # no vocabulary comes near it, and a label's number times it is an int64


class LabelError(ValueError):
    """A label cannot be used.

    Attributes
    ----------
    label : int
        Which one, counted from 0.
    why : str
        What is wrong with it, to be read after its name.
    """

    def __init__(self, label: int, why: str) -> None:
        super().__init__(f"label {label} {why}")
        self.label, self.why = label, why


class Trie:
    """The tree of labels, in arrays.

    Nodes are numbered level by level from the root, 0; the children of a node are neighbours, their
    tokens in ascending order.

    Parameters
    ----------
    labels : iterable of sequences of int
        Token ids of each label, without special tokens. A label may be a prefix of another; equal
        labels share a leaf.
    end : int or sequence of int
        The token that ends a text; it is appended to each label. Of several, any one may end it.

    Attributes
    ----------
    labels : list of int64 arrays
        As they were given.
    ends : tuple of int
        All end tokens, each once.
    end : int
        The first of them, which represents all of them in `token`.
    parent, token : int64 arrays (n,)
        Of each node: the node above it, and the token on the way. The root has -1 and -1.
    depth : int64 array (n,)
        Tokens on the way from the root.
    first : int64 array (n + 1,)
        Nodes first[i] to first[i + 1] - 1 are the children of node i.
    leaf : int64 array (labels,)
        Where each label ends.

    Raises
    ------
    LabelError
        A label is empty, is not a sequence of ids, or holds an end token.
    ValueError, TypeError
        There are no labels, or `end` is not a token id.
    """

    def __init__(self, labels: Iterable[Sequence[int]], end: int | Sequence[int]) -> None:
        ends: Any = [end] if is_integer(end) else end
        if not are_ids(ends, 1) or max(ends) > LARGEST:
            raise TypeError(
                f"end is {end!r}; expected the id of the token that ends a text, or a list of them."
            )
        if not isinstance(labels, Iterable):
            raise TypeError(f"labels is {labels!r}; expected lists of token ids.")
        self.ends = tuple(dict.fromkeys(map(int, ends)))
        self.end = self.ends[0]
        self.labels = [_checked(i, label, self.ends) for i, label in enumerate(labels)]
        if not self.labels:
            raise ValueError("labels is empty; expected at least one label, a list of token ids.")
        closed = [part for label in self.labels for part in (label, [self.end])]
        lengths = np.array([len(label) + 1 for label in self.labels])
        tokens = np.concatenate(closed)  # all labels, one after another
        start = np.cumsum(lengths) - lengths
        size = int(tokens.max()) + 1
        self.leaf = np.zeros(len(lengths), np.int64)  # how far each label has come
        levels, count = [np.array([[-1], [-1], [0]])], 1
        for depth in range(1, int(lengths.max()) + 1):
            here = np.flatnonzero(lengths >= depth)
            step = self.leaf[here] * size + tokens[start[here] + depth - 1]
            steps, self.leaf[here] = np.unique(step, return_inverse=True)
            self.leaf[here] += count
            levels.append(np.stack([steps // size, steps % size, np.full(len(steps), depth)]))
            count += len(steps)
        self.parent, self.token, self.depth = np.concatenate(levels, axis=1)
        # Level by level, parents never decrease.
        self.first: Ids = 1 + np.searchsorted(self.parent[1:], np.arange(count + 1))

    def __len__(self) -> int:
        return len(self.token)

    @property
    def longest(self) -> int:
        """Tokens of the longest label, its end counted in: a search needs as many new tokens."""
        return int(self.depth[-1])

    @property
    def inner(self) -> int:
        """Nodes between the root and the leaves: the distinct prefixes of labels."""
        return int((self.token != self.end).sum()) - 1

    def below(self, nodes: Ids) -> tuple[Ids, Ids]:
        """Find the children of some nodes (k,), and the place of each one's parent.

        Returns
        -------
        children, places : int64 arrays (c,)
            Child i is below nodes[places[i]].
        """
        first, counts = self.first[nodes], self.first[nodes + 1] - self.first[nodes]
        places = np.repeat(np.arange(len(nodes)), counts)
        number = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
        return first[places] + number, places

    def find(self, prefix: Any) -> int | None:
        """Walk down from the root by these tokens; None where no label begins so."""
        node = 0
        for given in np.asarray(prefix, np.int64).tolist():
            token = self.end if given in self.ends else given
            start, stop = self.first[node], self.first[node + 1]
            node = int(start + np.searchsorted(self.token[start:stop], token))
            if node == stop or self.token[node] != token:
                return None
        return node

    def allowed(self, prefix: Any) -> Ids:
        """Tokens that may follow the first ones of a label.

        Parameters
        ----------
        prefix : sequence of int (T,)
            May be empty.

        Returns
        -------
        int64 array (c,), ascending
            Only the end tokens after a whole label, and where no label begins so.
        """
        node = self.find(prefix)
        tokens = [] if node is None else self.token[self.first[node] : self.first[node + 1]]
        if len(tokens) and self.end not in tokens:
            return np.asarray(tokens, np.int64)
        return np.union1d(np.asarray(tokens, np.int64), self.ends)

    def allowed_after(self, prompt_length: int) -> Callable[[int, Ids], Ids]:
        """Make a ``prefix_allowed_tokens_fn`` for texts that start with so many other tokens.

        What `generate` writes is then one of the labels, in every search, given that
        ``max_new_tokens`` is at least `longest`.
        """
        return lambda _, ids: self.allowed(ids[prompt_length:])


def _checked(number: int, label: Any, ends: tuple[int, ...]) -> Ids:
    try:
        ids = np.asarray(label)
    except (ValueError, TypeError):  # lists that differ in length; an array on another device
        ids = np.empty((0, 0))
    if ids.shape == (0,):
        raise LabelError(number, "is empty; expected at least one token id.")
    if ids.ndim != 1 or ids.dtype.kind not in "iu" or ids.min() < 0 or ids.max() > LARGEST:
        raise LabelError(
            number,
            f"is {label!r}; expected a list of token ids, none below 0 or above {LARGEST}.",
        )
    found = ids[np.isin(ids, ends)]
    if found.size:
        raise LabelError(
            number,
            f"holds {found[0]}, the token that ends a text; expected the label's own tokens, as "
            "tokenizer(label, add_special_tokens=False) returns them.",
        )
    return ids.astype(np.int64)
