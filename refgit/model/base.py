"""What the three models share: configuration, parameters, backend, hooks, loading and saving."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any, ClassVar, Concatenate, Generic, ParamSpec, Self, TypeVar, cast

import numpy as np
from numpy.typing import DTypeLike

from refgit.checkpoint import load_parameters
from refgit.checkpoint.video_files import save_weights_and_config
from refgit.layers._array_api import Array
from refgit.layers._operations import Hook, Operations
from refgit.model.arguments import to_host
from refgit.model.config import GitConfig, GitVisionConfig
from refgit.model.parameters import Shapes, flatten, nest, random_parameters
from refgit.parts import find_parts
from refgit.validation import expect, is_integer, refuse_keywords
from refgit_backends import Backend, get_backend

FLOAT_DTYPES = ("float16", "float32", "float64", "bfloat16")
_LOADING = ("path", "backend", "dtype", "kernels", "revision", "token", "base")
# What config.json says of the file it was read with, no longer true of another.
_OF_THE_FILE = ("dtype", "torch_dtype", "configuration_files", "transformers_weights")

# Told of each call of a model, before anything is computed: the arguments by name.
OnCall = Callable[[Mapping[str, Any]], None]
P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound="PretrainedModel[Any]")
C = TypeVar("C", GitConfig, GitVisionConfig)


@dataclass
class State:
    """What a model shares with its parts: ``model``, ``model.git``, ``model.git.image_encoder``.

    Attributes
    ----------
    config : GitConfig or GitVisionConfig
        Of the whole model.
    parameters : dict
        All parameters, as a tree.
    backend : Backend
    dtype : str
    operations : Operations
        The backend's, with the hooks that are installed.
    on_calls : tuple of callable
        Told of each call.
    in_call : bool
        Whether a call has been told of that still runs: its inner calls belong to it.
    """

    config: Any
    parameters: dict[str, Any]
    backend: Backend
    dtype: str
    operations: Operations
    on_calls: tuple[OnCall, ...] = ()
    in_call: bool = False

    def own(self) -> State:
        """The same, for a model of its own: without hooks."""
        operations = replace(self.operations, hooks=())
        return replace(self, operations=operations, on_calls=(), in_call=False)

    def __getstate__(self) -> dict[str, Any]:
        """What `copy.deepcopy` copies: not the hooks."""
        return vars(self.own())

    @classmethod
    def on(
        cls, backend: Backend, config: Any, parameters: Mapping[str, Any], wanted: DTypeLike
    ) -> State:
        """Bring parameters to a backend and a dtype; tied ones stay one array."""
        dtype = _float_name(wanted)
        if dtype == "bfloat16" and dtype not in backend.float_names:
            dtype = "float32"  # holds every bfloat16
        moved = {id(x): backend.asarray(x, dtype) for x in parameters.values()}
        tree = nest({name: moved[id(x)] for name, x in parameters.items()})
        return cls(config, tree, backend, dtype, Operations.with_kernels(backend.kernels))


def announced(method: Callable[Concatenate[M, P], R]) -> Callable[Concatenate[M, P], R]:
    """Tell the model's `on_call` hooks of each call of a method; free where there are none."""
    signature = inspect.signature(method)

    @wraps(method)
    def call(self: M, /, *args: P.args, **kwargs: P.kwargs) -> R:
        state = self._state
        if state.in_call or not state.on_calls:
            return method(self, *args, **kwargs)
        arguments = dict(signature.bind(self, *args, **kwargs).arguments)
        del arguments["self"]
        for on_call in state.on_calls:
            on_call(arguments)
        state.in_call = True
        try:
            return method(self, *args, **kwargs)
        finally:
            state.in_call = False

    return call


class PretrainedModel(Generic[C]):
    """What the three models share: configuration, parameters, backend, hooks, loading and saving.

    A GitForCausalLM has a GitModel, ``model.git``, and that a GitVisionModel,
    ``model.git.image_encoder``. A part shares everything with the whole: parameters, backend,
    dtype and hooks. What a hook sees in a part has the name that it has in the whole. `to` makes a
    model of its own of a part.
    """

    config_class: ClassVar[type[GitConfig] | type[GitVisionConfig]]
    # Where a checkpoint of the whole model keeps what belongs to this one.
    prefix: ClassVar[str]
    # Name and shape of every parameter of a model with a config.
    shapes: ClassVar[staticmethod[[Any], Shapes]]
    _state: State
    # What the names of its parameters begin with in the whole model: "" or such as "git."
    _root: str

    def __init__(
        self,
        config: C,
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
        expect("seed", seed, is_integer(seed), "an integer of at least 0")
        parameters = _parameters
        if parameters is None:
            drawn = random_parameters(self.shapes(config), config, seed)
            parameters = drawn | {name: drawn[other] for name, other in self.tied(config).items()}
        self._attach(State.on(get_backend(backend, kernels=kernels), config, parameters, dtype))

    def _attach(self, state: State, root: str = "") -> None:
        """Make this model, with its parts, a window on a state."""
        self._state, self._root = state, root
        self._branches = root.split(".")[:-1]  # that lead to its parameters

    @classmethod
    def _part(cls, whole: PretrainedModel[Any], name: str) -> Self:
        """The part of a model whose parameters begin with `name`."""
        part = cls.__new__(cls)
        part._attach(whole._state, f"{whole._root}{name}.")
        return part

    def __copy__(self) -> Self:
        """A model of its own that shares the arrays, without hooks."""
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._attach(self._state.own(), self._root)
        return other

    @property
    def config(self) -> C:
        """What the model looks like."""
        config = self._state.config
        return cast("C", config if isinstance(config, self.config_class) else config.vision_config)

    @config.setter
    def config(self, config: C) -> None:
        whole = self._state.config
        is_own = isinstance(whole, self.config_class)
        self._state.config = config if is_own else whole.replace(vision_config=config)

    @property
    def backend(self) -> Backend:
        """Where the model computes."""
        return self._state.backend

    @property
    def dtype(self) -> str:
        """What the model computes in, such as "float32"."""
        return self._state.dtype

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters as a tree: names up to a dot lead to branches."""
        tree = self._state.parameters
        for branch in self._branches:
            tree = tree[branch]
        return tree

    @parameters.setter
    def parameters(self, tree: Mapping[str, Any]) -> None:
        rest = {k: x for k, x in flatten(self._state.parameters) if not k.startswith(self._root)}
        own = {self._root + k: x for k, x in flatten(tree)}
        self._state.parameters = nest(rest | own)

    @property
    def operations(self) -> Operations:
        """The functions that a call runs on, with the hooks that are installed."""
        return self._state.operations

    @operations.setter
    def operations(self, operations: Operations) -> None:
        self._state.operations = operations

    @classmethod
    def tied(cls, config: Any) -> dict[str, str]:
        """Parameters that are one array with another, by the other's name."""
        return {}

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
        base: str | Path | None = None,
        **others: Any,
    ) -> Self:
        """Load a model from a checkpoint that transformers, peft or refgit has written.

        Parameters
        ----------
        path : str or Path
            Directory with config.json and weights; or the id of a repository on the model hub,
            such as "microsoft/git-base-coco", which is downloaded into huggingface_hub's cache. An
            adapter of peft (a LoRA) is merged into its base; of a training run's directory the
            latest checkpoint is taken.
        backend : str, Backend or None
            Where it computes: "numpy", "cupy", ...; None takes REFGIT_BACKEND, else "numpy".
        dtype : str or dtype
            "float32", "float64", "float16" or "bfloat16"; or NumPy's own, such as np.float32.
            Weights stored otherwise are converted; those stored so are mapped from the file, not
            copied (NumPy). Where the backend has no bfloat16, it is computed in float32, which
            holds every bfloat16.
        kernels : {"auto", "off"}
            "off" runs only the definitions of refgit/layers.
        revision, token : optional
            Which version to download, and with what right; see `refgit.hub.find_checkpoint`.
        base : str or Path, optional
            The model that an adapter changes; by default what its adapter_config.json names.
        **others
            Refused, with what stands in their place here.

        Raises
        ------
        CheckpointError
            Something is wrong with a file; the message names file, tensor, found and expected.
        TypeError
            An argument is one of another library's, such as torch_dtype or device_map.
        """
        refuse_keywords(f"{cls.__name__}.from_pretrained", others, _LOADING)
        parts = find_parts(path, base=base, revision=revision, token=token)
        config: Any = cls.config_class.from_pretrained(parts.model)
        parameters = load_parameters(
            parts.model,
            cls.shapes(config),
            prefix=cls.prefix,
            tied=cls.tied(config),
            adapter=parts.adapter,
        )
        model = cls(config, backend=backend, dtype=dtype, kernels=kernels, _parameters=parameters)
        model._read_further(parts.model)
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
        """How many numbers the parameters are."""
        return sum(int(x.size) for x in self.state_dict().values())

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model; ``model(...)`` does the same."""
        return self(*args, **kwargs)  # type: ignore[operator]  # every model can be called

    def eval(self) -> Self:
        """Return the model itself, which only does inference; dropout is never applied."""
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
        The same class, without hooks; arrays that need no change are shared. A part, such as
        ``model.git``, becomes a model of its own.
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
        other._attach(State.on(target, self.config, state, self.dtype if dtype is None else dtype))
        return other

    def astype(self, dtype: DTypeLike) -> Self:
        """Return the same model in another dtype; see `to`."""
        return self.to(dtype=dtype)

    @contextmanager
    def hooked(self, hook: Hook | None = None, on_call: OnCall | None = None) -> Iterator[Self]:
        """Install hooks for the duration of a ``with`` block, beside those that are there.

        Parameters
        ----------
        hook : callable, optional
            Called with the name and the value of every intermediate; an array that it returns
            takes the intermediate's place.
        on_call : callable, optional
            Called with the arguments of each call, by name, before it begins. A call is
            ``model(...)``, `encode_image` or a step of generation; calls that one makes of its
            parts belong to it.

        Returns
        -------
        context manager that gives the model
            A copy, or a model that `to` makes, in the block has no hooks. Blocks may end in any
            order. Threads that share a model share its hooks: give each a ``copy.copy(model)``.
        """
        state = self._state
        before = state.operations
        state.operations = installed = before.with_hook(hook)
        if on_call is not None:
            state.on_calls += (on_call,)
        try:
            yield self
        finally:
            now = state.operations
            hooks = _without(now.hooks, hook)
            state.operations = before if now is installed else replace(now, hooks=hooks)
            state.on_calls = _without(state.on_calls, on_call)

    def _operations(self, hook: Hook | None) -> Operations:
        """The operations of a call that has a hook of its own, at this model's place."""
        operations = self._state.operations.with_hook(hook)
        return operations.at(self._root[:-1]) if self._root else operations

    def _option(self, name: str, value: bool | None) -> bool:
        """An option of a call, or what config.json says of it, or transformers' default."""
        return bool(getattr(self.config, name) if value is None else value)

    def numbers(self, name: str, x: Any) -> np.ndarray[Any, Any]:
        """Return an argument on the host, for checks and bookkeeping."""
        return to_host(self.backend, name, x)


def _without(hooks: tuple[Any, ...], hook: Any) -> tuple[Any, ...]:
    """Take out the last that is `hook`, if any is."""
    last = max((i for i, known in enumerate(hooks) if known is hook), default=len(hooks))
    return hooks[:last] + hooks[last + 1 :]


def _float_name(dtype: Any) -> str:
    """The name of a dtype that a model may have, or a ValueError."""
    name: object = dtype
    if dtype is not None and not isinstance(dtype, str):  # None is float64 to NumPy
        with suppress(TypeError, ValueError):
            name = np.dtype(dtype).name
    known = isinstance(name, str) and name in FLOAT_DTYPES  # "float" is another to torch
    expect("dtype", dtype, known, f"one of {', '.join(FLOAT_DTYPES)}")
    return str(name)
