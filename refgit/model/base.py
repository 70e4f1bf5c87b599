"""What the three models share: configuration, parameters, backend, loading and saving."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from copy import copy
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import DTypeLike

from refgit.layers._array_api import Array
from refgit.layers._operations import Hook, Operations
from refgit.model.config import GitConfig, GitVisionConfig
from refgit.model.parameters import Shapes, flatten, nest, random_parameters
from refgit.validation import is_integer
from refgit_backends import Backend, get_backend
from refgit_backends.base import BackendError, host_array

FLOAT_DTYPES = ("float16", "float32", "float64", "bfloat16")
# What config.json says of the file it was read with, no longer true of another.
_OF_THE_FILE = ("dtype", "torch_dtype", "configuration_files", "transformers_weights")


class PretrainedModel:
    """What the three models share: configuration, parameters, backend, loading and saving."""

    config_class: ClassVar[type[GitConfig] | type[GitVisionConfig]]
    # Where a checkpoint of the whole model keeps what belongs to this one.
    prefix: ClassVar[str]

    def __init__(
        self,
        config: Any,
        *,
        seed: int = 0,
        backend: str | Backend | None = None,
        dtype: DTypeLike = "float32",
        kernels: str = "auto",
        _parameters: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(config, self.config_class):
            raise TypeError(
                f"{type(self).__name__} got a config of type {type(config).__name__}; expected "
                f"{self.config_class.__name__}."
            )
        if not is_integer(seed):
            raise ValueError(f"seed is {seed!r}; expected an integer of at least 0.")
        self.config = config
        self._place(
            self._random(config, seed) if _parameters is None else _parameters,
            get_backend(backend, kernels=kernels),
            dtype,
        )

    def _place(self, parameters: Mapping[str, Any], backend: Backend, wanted: DTypeLike) -> None:
        """Take up the parameters, on a backend and in a dtype; tied ones stay one array."""
        dtype = _float_name(wanted)
        if dtype == "bfloat16" and dtype not in backend.float_names:
            dtype = "float32"  # holds every bfloat16
        moved = {id(x): backend.asarray(x, dtype) for x in parameters.values()}
        self.dtype, self.backend = dtype, backend
        self.operations = Operations.with_kernels(backend.kernels)
        self.parameters = nest({name: moved[id(x)] for name, x in parameters.items()})

    @classmethod
    def shapes(cls, config: Any) -> Shapes:
        """Name and shape of every parameter of a model with this config."""
        raise NotImplementedError

    @classmethod
    def tied(cls, config: Any) -> dict[str, str]:
        """Parameters that are one array with another, by the other's name."""
        return {}

    @classmethod
    def _random(cls, config: Any, seed: int) -> Mapping[str, Any]:
        vision = config.vision_config if isinstance(config, GitConfig) else config
        drawn = random_parameters(
            cls.shapes(config),
            seed=seed,
            std=config.initializer_range,
            vision_std=vision.initializer_range,
            pad_token_id=getattr(config, "pad_token_id", None),
        )
        return drawn | {name: drawn[other] for name, other in cls.tied(config).items()}

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        backend: str | Backend | None = None,
        dtype: DTypeLike = "float32",
        kernels: str = "auto",
        revision: str | None = None,
        token: str | bool | None = None,
    ) -> Self:
        """Load a model from a checkpoint that transformers or refgit has written.

        Parameters
        ----------
        path : str or Path
            Directory with config.json and weights; or the id of a repository on the model hub,
            such as "microsoft/git-base-coco", which is downloaded into huggingface_hub's cache.
        backend : str, Backend or None
            Where it computes: "numpy", "cupy", ...; None takes REFGIT_BACKEND, else "numpy".
        dtype : str or dtype
            "float32", "float64", "float16" or "bfloat16"; or NumPy's own, such as np.float32.
            Weights stored otherwise are converted; those stored so are mapped from the file, not
            copied (NumPy). Where the backend has no bfloat16, it is computed in float32, which
            holds every bfloat16.
        kernels : {"auto", "off"}
            "off" runs the definitions of refgit/layers alone.
        revision, token : optional
            Which version to download, and with what right; see `checkpoint.hub`.

        Raises
        ------
        CheckpointError
            Something is wrong with a file; the message names file, tensor, found and expected.
        """
        from refgit.checkpoint import load_parameters
        from refgit.hub import find_checkpoint

        path = find_checkpoint(path, revision=revision, token=token)
        config = cls.config_class.from_pretrained(path)
        parameters = load_parameters(
            Path(path), cls.shapes(config), prefix=cls.prefix, tied=cls.tied(config)
        )
        model = cls(config, backend=backend, dtype=dtype, kernels=kernels, _parameters=parameters)
        model._read_further(Path(path))
        return model

    def _read_further(self, directory: Path) -> None:
        """Read what else a checkpoint holds for this class."""

    def save_pretrained(self, directory: str | Path) -> None:
        """Write config.json and model.safetensors, which transformers loads as well.

        Parameters
        ----------
        directory : str or Path
            Made if need be; files of the same names are replaced.
        """
        from refgit.checkpoint.video_files import save_weights_and_config

        arrays = {
            name: self.backend.to_numpy(x)
            for name, x in self.state_dict().items()
            if name not in self.tied(self.config)
        }
        save_weights_and_config(Path(directory), arrays, self._config_to_save().to_json_dict())

    def _config_to_save(self) -> Any:
        """The config with what is true of the file that is written; of others' keys, the rest."""

        def without(extra: Mapping[str, Any]) -> dict[str, Any]:
            return {k: v for k, v in extra.items() if k not in _OF_THE_FILE}

        config = self.config
        if isinstance(config, GitConfig):
            vision = config.vision_config
            config = config.replace(vision_config=vision.replace(extra=without(vision.extra)))
        ours = {"architectures": [type(self).__name__], "torch_dtype": self.dtype}
        return config.replace(extra={**without(config.extra), **ours})

    def state_dict(self) -> dict[str, Array]:
        """Every parameter by its checkpoint name."""
        return dict(flatten(self.parameters))

    def num_parameters(self) -> int:
        """How many numbers the model has learned."""
        return sum(int(x.size) for x in self.state_dict().values())

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model; ``model(...)`` does the same."""
        return self(*args, **kwargs)  # type: ignore[operator]  # every model can be called

    def eval(self) -> Self:
        """Return the model itself, which knows inference alone; dropout is never applied."""
        return self

    def to(self, backend: str | Backend | None = None, dtype: DTypeLike | None = None) -> Self:
        """Return the same model on another backend or in another dtype.

        Parameters
        ----------
        backend : str, Backend or None
            None keeps the model's.
        dtype : str, dtype or None
            "float16", "bfloat16", "float32" or "float64"; None keeps the model's.

        Returns
        -------
        The same class; arrays that need no change are shared.
        """
        target = self.backend
        if isinstance(backend, Backend):
            target = backend
        elif backend not in (None, target.name):
            target = get_backend(backend, kernels=target.kernel_setting)
        state = self.state_dict()
        if target.name != self.backend.name:  # by way of the host; tied parameters once
            home = {id(x): self.backend.to_numpy(x) for x in state.values()}
            state = {name: home[id(x)] for name, x in state.items()}
        other = copy(self)
        other._place(state, target, self.dtype if dtype is None else dtype)
        return other

    def astype(self, dtype: DTypeLike) -> Self:
        """Return the same model in another dtype; see `to`."""
        return self.to(dtype=dtype)

    def wanted(self, name: str, value: bool | None) -> bool:
        """An option of a call, or what config.json says of it, or transformers' default."""
        if value is not None:
            return bool(value)
        return bool(getattr(self.config, name))

    def hooked(self, hook: Hook | None) -> Operations:
        """The model's operations with one more hook, called after those they have."""
        return self.operations.with_hook(hook)

    def floats(self, name: str, x: Any) -> tuple[Array, np.ndarray[Any, Any]]:
        """An argument as a floating array of the backend, and a host view of it for the checks."""
        host = self.backend.to_numpy(x) if self.backend.owns(x) else _host(name, x)
        return (x if self.backend.owns(x) else self.backend.asarray(host)), host

    def numbers(self, name: str, x: Any) -> np.ndarray[Any, Any]:
        """An argument on the host, for checks and bookkeeping."""
        return self.backend.to_numpy(x) if self.backend.owns(x) else _host(name, x)


def _float_name(dtype: Any) -> str:
    """The name of a dtype that a model may have, or a ValueError."""
    name: object = dtype
    if dtype is not None and not isinstance(dtype, str):  # None is float64 to NumPy
        with suppress(TypeError, ValueError):
            name = np.dtype(dtype).name
    if not isinstance(name, str) or name not in FLOAT_DTYPES:  # "float" is another to torch
        raise ValueError(f"dtype is {dtype!r}; expected one of {', '.join(FLOAT_DTYPES)}.")
    return name


def _host(name: str, x: Any) -> np.ndarray[Any, Any]:
    try:
        return host_array(x)
    except BackendError as error:
        raise TypeError(f"{name}: {error}") from error
