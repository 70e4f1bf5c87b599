"""A trace: every named tensor of a run in the order of execution.

`recorder` makes one of refgit's model, `capture` of others. Tensors are named by the checkpoint's
modules, such as git.encoder.layer.0.attention.self.query. Other implementations write the same
file, or plain .npz or .npy files with any names.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from refgit.checkpoint.safetensors_file import save_safetensors
from refgit.errors import TraceError
from refgit.model.config import GitConfig
from refgit.traces.files import Tensor as Tensor
from refgit.traces.files import read_tensors
from refgit.traces.names import is_wanted

FORMAT = "refgit-trace/1"


class Trace(Mapping[str, Tensor]):
    """Named tensors in the order of execution.

    Parameters
    ----------
    tensors : mapping of str to array
    order : sequence of str, optional
        All the names, first computed first; the mapping's order by default.
    meta : mapping of str to str, optional
        What the file says about itself: format, config (JSON), dtype, producer, calls (decode
        steps), prompt_length, model, sha256.
    order_known : bool
        False where the order is that of the names, for want of a better one.
    dtypes : mapping of str to str, optional
        What a tensor was stored in, where NumPy has no such type: "bfloat16".
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor] | None = None,
        *,
        order: Sequence[str] | None = None,
        meta: Mapping[str, str] | None = None,
        order_known: bool = True,
        dtypes: Mapping[str, str] | None = None,
    ) -> None:
        given = tensors or {}
        names = given if order is None else order
        self._tensors: dict[str, Tensor] = {name: given[name] for name in names}
        self.meta: dict[str, str] = dict(meta or {})
        self.order_known = order_known
        self._dtypes = dict(dtypes or {})

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __repr__(self) -> str:
        producer = self.meta.get("producer", "an unknown producer")
        return f"<Trace of {len(self)} tensors, {self.nbytes} bytes, by {producer}>"

    @property
    def order(self) -> list[str]:
        """All the names, first computed first."""
        return list(self._tensors)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors together."""
        return sum(int(x.nbytes) for x in self._tensors.values())

    @property
    def inputs(self) -> dict[str, Tensor]:
        """What the first call was given, by names such as input.pixel_values."""
        return {name: self[name] for name in self if name.startswith("input.")}

    @property
    def config(self) -> GitConfig | None:
        """The model's config, where the metadata holds one."""
        try:
            stored = json.loads(self.meta["config"])
            return GitConfig.from_dict(stored) if "vision_config" in stored else None
        except (KeyError, TypeError, ValueError):
            return None

    def dtype_of(self, name: str) -> str:
        """Return what a tensor was stored in, "bfloat16" included, which is held as float32."""
        return self._dtypes.get(name, str(self[name].dtype))

    def select(self, patterns: Iterable[str]) -> Trace:
        """Keep the inputs and what a pattern matches.

        Parameters
        ----------
        patterns : iterable of str
            Names with ``*``, ``?`` and ``[...]``, or the path of a module, which means all
            that is in it. A pattern without ``step.N.`` matches in every step.
        """
        wanted = list(patterns)
        return self.restricted(name for name in self if is_wanted(name, wanted))

    def restricted(self, names: Iterable[str]) -> Trace:
        """Keep these tensors only, in the order of the names."""
        kept = {name: self[name] for name in names}
        return Trace(kept, meta=self.meta, order_known=self.order_known, dtypes=self._dtypes)

    def add(self, name: str, tensor: Tensor, dtype: str | None = None) -> None:
        """Add a tensor at the end, or put it in the place of the one of that name.

        `dtype` says what it was stored in, where NumPy has no such type.
        """
        self._tensors[name] = tensor
        if dtype is not None:
            self._dtypes[name] = dtype

    def remove(self, names: Iterable[str]) -> None:
        """Take tensors out."""
        for name in set(names):
            del self._tensors[name]

    def save(self, path: str | Path) -> None:
        """Write a .safetensors file with the order and `meta` in its metadata.

        Raises
        ------
        TraceError
            The path ends in another suffix, or the file cannot be written.
        """
        path = Path(path)
        if path.suffix not in ("", ".safetensors"):
            raise TraceError(f"a trace is written as .safetensors; found {path.name}.")
        meta = {**self.meta, "format": FORMAT, "order": json.dumps(self.order)}
        try:
            save_safetensors(path, self._tensors, meta)
        except Exception as error:  # the library has several kinds for a full disk and the like
            raise TraceError(f"{path} cannot be written: {error}.") from error

    @classmethod
    def load(cls, path: str | Path) -> Trace:
        """Read a trace: .safetensors, .npz, or a directory of .npy files.

        The order is that of the metadata; of order.json (a list of names) or names.txt (a name a
        line) in the directory; of the .npz file; else that of the names, with numbers counted.

        Raises
        ------
        TraceError
            The file is missing, truncated or none of these, or holds something else than numbers.
        """
        return cls(**vars(read_tensors(Path(path))))
