"""The pickle inside a file of torch.save, run by a machine that can do nothing else.

A pickle is a program for a stack machine. The machine here knows only the instructions that dicts,
lists, scalars and tensors need, so a file can ask for nothing else: it imports nothing and calls
nothing. Python's own unpickler, however its names are restricted, would still hash any key and
make any memo a file asks for, which takes for ever or all memory.
"""

from __future__ import annotations

import io
import math
import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from refgit.checkpoint.safetensors_file import ITEMSIZE
from refgit.errors import CheckpointError

Array = np.ndarray[Any, Any]

# A model of ten thousand tensors needs a third of this; a broken file must not run for minutes.
_MOST_INSTRUCTIONS = 1_000_000
_MOST_AXES = 64
# What torch calls a storage; the name of its dtype in safetensors files.
_STORAGES = {
    "torch.DoubleStorage": "F64",
    "torch.FloatStorage": "F32",
    "torch.HalfStorage": "F16",
    "torch.BFloat16Storage": "BF16",
    "torch.LongStorage": "I64",
    "torch.IntStorage": "I32",
    "torch.ShortStorage": "I16",
    "torch.CharStorage": "I8",
    "torch.ByteStorage": "U8",
    "torch.BoolStorage": "BOOL",
}
_TENSOR = "torch._utils._rebuild_tensor_v2"
_PARAMETER = "torch._utils._rebuild_parameter"
_DICT = "collections.OrderedDict"
_SIZE = "torch.Size"
_KNOWN = {
    tuple(name.rsplit(".", 1)): name for name in (_TENSOR, _PARAMETER, _DICT, _SIZE, *_STORAGES)
}


class _OrderedDict(dict[Any, Any]):
    """Apart from a plain dict, since only this may be given a state, which is then ignored."""


@dataclass(frozen=True, slots=True)
class _Global:
    """A name that the pickle asked for: not an object, only its name."""

    name: str


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of elements that tensors look into.

    Attributes
    ----------
    dtype : str
        As safetensors files call it, such as F32.
    key : str
        Its name in the file.
    numel : int
        How many elements.
    """

    dtype: str
    key: str
    numel: int

    @property
    def itemsize(self) -> int:
        """Bytes of an element in the file."""
        return ITEMSIZE[self.dtype]


# Gives a storage's elements as an array of one axis; or only takes note that it is wanted.
Find = Callable[[Storage], Array]
Note = Callable[[Storage], None]


def run_pickle(file: io.BytesIO, path: Path, find: Find | Note) -> Any:
    """Make what a pickle describes.

    Parameters
    ----------
    file : BytesIO
        Positioned where the pickle begins, and then where it has ended.
    path : Path
        For messages.
    find : callable
        Gives the elements of a storage as an array of one axis. If it gives None, as one may to
        learn what storages there are, tensors are left empty.

    Returns
    -------
    object
        Of arrays, dicts, lists, tuples, text and numbers.

    Raises
    ------
    CheckpointError
        The pickle asks for anything else, or for elements outside a storage.
    ValueError
        It is broken.
    """
    return _Machine(path, find).run(file)


class _Machine:
    def __init__(self, path: Path, find: Find | Note) -> None:
        self.path = path
        self.find = find
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, file: io.BytesIO) -> Any:
        """Follow the instructions from where the file is up to STOP, and leave it there."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of odd escapes in strings
                for count, (code, argument, _) in enumerate(pickletools.genops(file)):
                    if count > _MOST_INSTRUCTIONS:
                        raise ValueError(f"its pickle has over {_MOST_INSTRUCTIONS} instructions")
                    self.step(code.name, argument)
        except (IndexError, KeyError) as error:  # of stack and memo
            raise ValueError("its pickle takes what is not on its stack") from error
        if len(self.stack) != 1 or self.marks:
            raise ValueError("its pickle leaves things behind")
        return self.stack.pop()

    def step(self, code: str, argument: Any) -> None:
        """Follow one instruction; the names are those of pickletools."""
        push = self.stack.append
        match code:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "MARK":
                self.marks.append(len(self.stack))
            case "NONE":
                push(None)
            case "NEWTRUE" | "NEWFALSE":
                push(code == "NEWTRUE")
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                push(argument)
            case "BINUNICODE" | "SHORT_BINUNICODE" | "BINSTRING" | "SHORT_BINSTRING":
                push(argument)
            case "EMPTY_TUPLE":
                push(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                push(tuple(self.take(int(code[-1]))))
            case "TUPLE":
                push(tuple(self.take_marked()))
            case "EMPTY_LIST":
                push([])
            case "EMPTY_DICT":
                push({})
            case "APPEND" | "APPENDS":
                items = self.take(1) if code == "APPEND" else self.take_marked()
                self.top(list).extend(items)
            case "SETITEM" | "SETITEMS":
                items = self.take(2) if code == "SETITEM" else self.take_marked()
                self.set_items(items)
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = self.stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.stack[-1]
            case "BINGET" | "LONG_BINGET":
                push(self.memo[argument])
            case "GLOBAL":
                push(self.known(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                push(self.known(*self.take(2)))
            case "REDUCE":
                push(self.call(*self.take(2)))
            case "BUILD":
                self.take(1)
                self.top(_OrderedDict)  # its state is the _metadata of a state dict: no weights
            case "BINPERSID":
                push(self.storage(*self.take(1)))
            case "INST":
                self.refuse(shown(argument.replace(" ", ".")))
            case _:
                detail = "" if argument is None else f" {shown(argument)}"
                self.refuse(f"the pickle instruction {code}{detail}")

    def take(self, count: int) -> list[Any]:
        """Take so many things off the stack, though none below the last mark."""
        floor = self.marks[-1] if self.marks else 0
        if len(self.stack) - floor < count:
            raise IndexError
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def take_marked(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            name = kind.__name__.lstrip("_")
            raise ValueError(f"its pickle fills a {kind_of(self.stack[-1])} as if it were a {name}")
        return self.stack[-1]

    def set_items(self, items: list[Any]) -> None:
        if len(items) % 2:
            raise ValueError("its pickle has a dict with a key but no value")
        target = self.top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | int | float | None):  # whose hash takes no time
                raise ValueError(f"its pickle has a dict with a {kind_of(key)} for a key")
            target[key] = value

    def known(self, module: object, name: object) -> _Global:
        if isinstance(module, str) and isinstance(name, str):
            if (module, name) not in _KNOWN:
                self.refuse(shown(f"{module}.{name}"))
            return _Global(_KNOWN[module, name])
        raise ValueError("its pickle asks for something whose name is not text")

    def refuse(self, what: str) -> NoReturn:
        raise CheckpointError(
            f"{self.path} asks for {what}; expected tensors of real numbers, dicts, lists "
            "and scalars only. Nothing of the file was run. Only a file of plain weights can be "
            "read: save model.state_dict(), or better a .safetensors file."
        )

    def call(self, function: object, arguments: object) -> Any:
        if not isinstance(function, _Global) or not isinstance(arguments, tuple):
            raise ValueError(f"its pickle calls a {kind_of(function)}")
        match function.name:
            case name if name == _TENSOR and len(arguments) in (6, 7):
                return self.tensor(*arguments[:4])
            case name if name == _PARAMETER and len(arguments) == 3:
                if isinstance(arguments[0], np.ndarray):
                    return arguments[0]
            case name if name == _DICT and not arguments:
                return _OrderedDict()
            case name if name == _SIZE and len(arguments) == 1:
                if isinstance(arguments[0], tuple | list):
                    return tuple(arguments[0])
        raise ValueError(f"its pickle calls {function.name} with other arguments than torch does")

    def storage(self, identity: object) -> Storage:
        match identity:
            case ("storage", _Global(kind), str(key), _, int(numel), *view):
                if kind in _STORAGES and view in ([], [None]) and 0 <= numel < 1 << 60:
                    return Storage(_STORAGES[kind], key, int(numel))
        raise ValueError("its pickle describes a storage in another way than torch does")

    def tensor(self, storage: object, offset: object, shape: object, strides: object) -> Array:
        """Look into a storage: element i, j, ... is number offset + i strides[0] + ... of it."""
        if not (
            isinstance(storage, Storage)
            and isinstance(shape, tuple)
            and isinstance(strides, tuple)
            and len(shape) == len(strides) <= _MOST_AXES
            and all(type(n) is int and 0 <= n < 1 << 60 for n in (offset, *shape, *strides))
        ):
            raise ValueError("its pickle describes a tensor in another way than torch does")
        first = int(offset)  # type: ignore[call-overload]
        elements = self.find(storage)
        if elements is None:
            return np.empty(0)
        if math.prod(max(n, 1) for n in shape) >= 1 << 59:
            raise CheckpointError(
                f"{self.path}: a tensor has shape {shape}; expected one that memory can hold."
            )
        if 0 in shape:
            nothing = np.empty(shape, elements.dtype)
            nothing.setflags(write=False)
            return nothing
        last = first + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        if last >= storage.numel:
            raise CheckpointError(
                f"{self.path}: a tensor of shape {shape}, strides {strides} and offset {first} "
                f"reaches element {last} of storage {shown(storage.key)}; expected fewer than "
                f"{storage.numel}."
            )
        step_bytes = [
            step * elements.itemsize if n > 1 else elements.itemsize
            for n, step in zip(shape, strides, strict=True)
        ]
        return np.ndarray(
            shape, elements.dtype, buffer=elements[first : last + 1], strides=step_bytes
        )


# ---- messages


def kind_of(x: object) -> str:
    """What a thing of the pickle is called in a message."""
    names = ((np.ndarray, "tensor"), (Storage, "storage"), (_Global, "name"), (dict, "dict"))
    return next((name for kind, name in names if isinstance(x, kind)), type(x).__name__)


def shown(x: object) -> str:
    """Text or number of the file as a message can quote it, whatever it is."""
    if isinstance(x, str):
        return repr(x if len(x) <= 200 else f"{x[:200]}...")
    return repr(x) if isinstance(x, int | float | None) else f"a {kind_of(x)}"
