"""The searches: ways to choose the tokens of a text, one step after the other.

A new one is a file here that makes a `TokenSearch` (a row for each text) or a `BeamsSearch`
(several), and its name in `SEARCHES`.
"""

from __future__ import annotations

from refgit.generation.config import GenerationConfig
from refgit.generation.search.base import Search
from refgit.generation.search.beam import BEAM, BEAM_SAMPLE
from refgit.generation.search.legacy.constrained_beam import CONSTRAINED_BEAM
from refgit.generation.search.legacy.contrastive import CONTRASTIVE
from refgit.generation.search.legacy.diverse_beam import GROUP_BEAM
from refgit.generation.search.microsoft_beam import MICROSOFT_BEAM
from refgit.generation.search.token_by_token import GREEDY, SAMPLE

# The first whose fields a config sets is the one it asks for; greedy search takes any.
SEARCHES: dict[str, Search] = {
    search.name: search
    for search in (
        CONSTRAINED_BEAM,
        GROUP_BEAM,
        BEAM_SAMPLE,
        MICROSOFT_BEAM,
        BEAM,
        SAMPLE,
        CONTRASTIVE,
        GREEDY,
    )
}


def choose(config: GenerationConfig, name: str | None = None) -> Search:
    """Find the search that a config asks for, by the rules of transformers 4.56.2.

    Parameters
    ----------
    config : GenerationConfig
    name : str, optional
        The one to take; the fields of `config` must ask for it or for what it takes the place of.

    Raises
    ------
    ValueError
        There is no search of that name, or the fields ask for another.
    """
    asked = next(s for s in SEARCHES.values() if s.asked_by is not None and s.asked_by(config))
    if name is None or name == asked.name:
        return asked
    if not isinstance(name, str) or name not in SEARCHES:
        raise ValueError(f"search is {name!r}; expected one of {', '.join(SEARCHES)}, or None.")
    named = SEARCHES[name]
    if named.asked_by is not None or named.in_place_of != asked.name:
        raise ValueError(
            f"search is {name!r} and the other arguments ask for {asked.name!r}; leave search out, "
            f"or set the fields that go with {name!r}."
        )
    return named
