"""Which tensor of a file is which parameter of the model, whatever wraps the names.

DistributedDataParallel puts ``module.`` in front, torch.compile ``_orig_mod.`` in front of the
whole or of a part, Lightning ``model.`` inside ``{"state_dict": ...}``, training scripts
``{"model": ..., "ema": ...}``. None of these is listed here: a name fits if a beginning is taken
off, and components that no parameter of the model has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


@dataclass(frozen=True)
class Fit:
    """How the names of a file are mapped.

    Attributes
    ----------
    names : dict of str to str
        Name in the file, by the parameter's name.
    left : list of str
        Names of the file that no parameter has.
    others : list of str
        Beginnings under which the file holds all parameters once more.
    beginning : str
        What was taken off, such as "module." or "".
    """

    names: dict[str, str]
    left: list[str]
    others: list[str]
    beginning: str


def fit_names(found: Shapes, shapes: Shapes, optional: Iterable[str] = ()) -> Fit:
    """Find the mapping under which all parameters are there with their shapes.

    Where there is none, the one under which most are there, so that a message can say what lacks.

    Parameters
    ----------
    found : mapping of str to tuple
        Name and shape of every tensor of a file.
    shapes : mapping of str to tuple
        Name and shape of every parameter.
    optional : iterable of str
        Parameters that a file may leave out.
    """
    needed = set(shapes) - set(optional)
    vocabulary = {part for name in shapes for part in name.split(".")}
    whole: list[tuple[str, dict[str, str]]] = []
    partial: list[tuple[str, dict[str, str]]] = []
    for beginning in _beginnings(found, shapes, vocabulary):
        names = _names_under(beginning, found, shapes, vocabulary)
        fits = needed <= set(names) and all(found[f] == tuple(shapes[n]) for n, f in names.items())
        (whole if fits else partial).append((beginning, names))
    if whole:
        beginning, names = min(whole, key=lambda fit: fit[0].count("."))
        others = [other for other, _ in whole if other != beginning]
    else:
        none: tuple[str, dict[str, str]] = ("", {})
        beginning, names = max(partial, key=lambda fit: len(fit[1]), default=none)
        others = []
    used = set(names.values())
    return Fit(names, [name for name in found if name not in used], others, beginning)


def _beginnings(found: Shapes, shapes: Shapes, vocabulary: set[str]) -> list[str]:
    """What stands before a parameter's name in some tensor's name; in the file's order."""
    beginnings: dict[str, None] = {}
    for name in found:
        parts = name.split(".")
        for start in range(len(parts)):
            known = [part for part in parts[start:] if part in vocabulary]
            # the beginning ends where the parameter's name begins
            if parts[start] in vocabulary and ".".join(known) in shapes:
                beginnings["".join(f"{part}." for part in parts[:start])] = None
                break
    return list(beginnings)


def _names_under(
    beginning: str, found: Shapes, shapes: Shapes, vocabulary: set[str]
) -> dict[str, str]:
    """Names in the file by the parameters' names, once a beginning is taken off."""
    names: dict[str, str] = {}
    for name in found:
        if not name.startswith(beginning):
            continue
        parts = name[len(beginning) :].split(".")
        plain = ".".join(part for part in parts if part in vocabulary)
        if plain not in shapes:
            continue
        known = names.get(plain)
        if known is None or _worth(name, found, shapes[plain]) > _worth(
            known, found, shapes[plain]
        ):
            names[plain] = name
    return names


def _worth(name: str, found: Shapes, shape: Shape) -> tuple[bool, int]:
    """The right shape first, then the fewest components taken out."""
    return found[name] == tuple(shape), -name.count(".")
