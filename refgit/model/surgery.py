"""Changing a trained model's shape: another vocabulary, fewer heads.

Both take the parameters by checkpoint name and return new ones; the model's methods
`resize_token_embeddings` and `prune_heads` put them in place and change the config.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from refgit.layers._array_api import Array, arange, array_namespace
from refgit.model.config import GitConfig
from refgit.validation import expect, is_integer

State = dict[str, Array]


def with_vocabulary(state: Mapping[str, Array], names: Iterable[str], size: int) -> State:
    r"""Give the parameters `names` one row for each of `size` tokens.

    .. math:: E'_v = E_v \;\text{for } v < V, \qquad
              E'_v = \frac1V \sum_{u < V} E_u \;\text{for } V \le v < V'

    Parameters
    ----------
    state : mapping of str to array
        Parameters by name.
    names : iterable of str
        Parameters with a row for each token: (V, D) or (V,).
    size : int
        V', the new size of the vocabulary.

    Returns
    -------
    dict of str to array
        All of `state`; what was one array under two names still is. Rows beyond V' are gone; new
        rows are the mean of the old ones, so that new tokens start out as likely as an average one.

    Notes
    -----
    Source: Hewitt, "Initializing new word embeddings for pretrained language models", 2021.
    transformers draws the new rows around the same mean with a tiny spread.
    """
    changed, made = dict(state), dict[int, Array]()
    for name in names:
        old = state[name]
        if id(old) not in made:
            made[id(old)] = _with_rows(old, size)
        changed[name] = made[id(old)]
    return changed


def _with_rows(old: Array, size: int) -> Array:
    """The first `size` rows, and their mean for each that is missing."""
    xp = array_namespace(old)
    added = size - old.shape[0]
    if added <= 0:
        return xp.asarray(old[:size, ...], copy=True)
    mean = xp.mean(old, axis=0, keepdims=True)
    return xp.concat([old, xp.broadcast_to(mean, (added, *old.shape[1:]))], axis=0)


def without_heads(
    state: Mapping[str, Array], prefix: str, config: GitConfig, layer: int, heads: set[int]
) -> State:
    """Take heads out of one decoder layer ("prune" them).

    Parameters
    ----------
    state : mapping of str to array
        Parameters by name.
    prefix : str
        In front of ``encoder.layer`` in these names.
    config : GitConfig
        Before the change; its `pruned_heads` say which heads are gone already.
    layer : int
    heads : set of int
        Heads to take out, counted as in the unpruned model; some may be gone already.

    Returns
    -------
    dict of str to array
        All of `state`: the layer's query, key and value lose rows, its output loses columns.

    Notes
    -----
    Source: Michel, Levy and Neubig, arXiv 1905.10650, section 2.2 (heads are masked; leaving out
    what a zero mask silences changes nothing).
    """
    gone = config.pruned_heads.get(layer, set())
    present = [h for h in range(config.num_attention_heads) if h not in gone]
    width = config.hidden_size // config.num_attention_heads
    changed = dict(state)
    root = f"{prefix}encoder.layer.{layer}.attention."
    some = state[f"{root}self.query.weight"]
    xp = array_namespace(some)
    channels = xp.reshape(arange(0, some.shape[0], like=some), (len(present), width))
    kept = [channels[i, :] for i, head in enumerate(present) if head not in heads]
    index = xp.concat(kept) if kept else channels[:0, 0]
    for name in ("query", "key", "value"):
        for part in ("weight", "bias"):
            key = f"{root}self.{name}.{part}"
            changed[key] = xp.take(state[key], index, axis=0)
    key = f"{root}output.dense.weight"
    changed[key] = xp.take(state[key], index, axis=1)
    return changed


def checked_heads(config: GitConfig, heads: Mapping[int, Any]) -> dict[int, set[int]]:
    """Return the heads to prune by layer, or refuse them.

    Parameters
    ----------
    config : GitConfig
    heads : mapping of int to iterable of int
        Layer to heads, counted as in the unpruned model.

    Raises
    ------
    ValueError
        A layer or head does not exist, or a layer would be left without heads.
    """
    expected = "a mapping of layers to lists of heads, such as {0: [1, 2]}"
    expect("heads_to_prune", heads, isinstance(heads, Mapping), expected)
    chosen: dict[int, set[int]] = {}
    for layer, some in heads.items():
        if not is_integer(layer) or layer >= config.num_hidden_layers:
            raise ValueError(
                f"heads of layer {layer!r} were to be pruned; the text decoder has layers 0 to "
                f"{config.num_hidden_layers - 1}."
            )
        listed: list[Any] = list(some) if isinstance(some, Iterable) else [None]
        if not all(is_integer(head) for head in listed):
            raise ValueError(
                f"heads of layer {layer} are {some!r}; expected a list of integers of at least 0."
            )
        wanted = chosen[int(layer)] = {int(head) for head in listed}
        strange = wanted - set(range(config.num_attention_heads))
        if strange:
            raise ValueError(
                f"head {min(strange)!r} of layer {layer} was to be pruned; the layer has heads 0 "
                f"to {config.num_attention_heads - 1}."
            )
        if len(wanted | config.pruned_heads.get(layer, set())) == config.num_attention_heads:
            raise ValueError(
                f"all {config.num_attention_heads} heads of layer {layer} were to be pruned; "
                "leave at least one."
            )
    return chosen
