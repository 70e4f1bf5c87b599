"""`{{ fields refgit.model.config.GitConfig }}`: every field with type, default and meaning.

Names and defaults are the dataclass's own, types and meanings those of its docstring. A field that
the docstring leaves out stops a strict build.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from importlib import import_module
from typing import Any


class UndescribedFieldError(LookupError):
    """A field without a description, or no such class."""


def show(name: str) -> str:
    """Return the table of a dataclass."""
    module, _, kind = name.rpartition(".")
    try:
        cls = getattr(import_module(module), kind)
    except (ImportError, AttributeError, ValueError) as error:
        raise UndescribedFieldError(f"{name}: {error}") from error
    described, instance = _described(cls), cls()
    rows = []
    for field in dataclasses.fields(cls):
        if field.name not in described:
            raise UndescribedFieldError(f"{name}.{field.name} is not in the class's docstring")
        types, meaning = described[field.name]
        default = _shown(getattr(instance, field.name))
        rows.append(f"| `{field.name}` | {types} | {default} | {meaning} |")
    return "\n".join(["| field | may be | default | meaning |", "|---|---|---|---|", *rows])


def _described(cls: type) -> dict[str, tuple[str, str]]:
    """Return type and meaning of each field, from the docstring's list."""
    text = inspect.getdoc(cls) or ""
    section = re.search(r"^(?:Attributes|Parameters)\n-+\n(.*?)(?=^\S+\n-+$|\Z)", text, re.M | re.S)
    entries = re.findall(r"^(\S.*?) : (.*)\n((?:[ ]+.*\n?)*)", section[1] if section else "", re.M)
    rules = _rules() if cls.__name__ == "GenerationConfig" else {}
    found = {}
    for names, kind, meaning in entries:
        for name in names.split(", "):
            words = _cell(" ".join(meaning.split()))
            found[name] = (_cell(rules.get(name, kind)), words)
    return found


def _rules() -> dict[str, str]:
    """Return what each field of a GenerationConfig may be."""
    from refgit.generation.config.checks import RULES

    return {name: expected for names, expected, _ in RULES for name in names.split()}


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def _shown(value: Any) -> str:
    if dataclasses.is_dataclass(value):
        return f"`{type(value).__name__}()`"
    if value is None or value == {}:
        return "" if value == {} else "None"
    return f"`{value!r}`" if not isinstance(value, float) else f"`{value:.6g}`"
