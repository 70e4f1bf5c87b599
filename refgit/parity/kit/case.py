"""A case of the conformance kit: inputs, what to compute from them, and what should come out.

A case says how to compute its tensors in a given *evaluation*: a dtype and a backend.
`tolerance.py` runs it in float64 for the expected values, and in several float32 evaluations to
measure how far apart two right answers may be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import getitem
from typing import Any, TypeAlias

import numpy as np

from refgit.layers._array_api import Array
from refgit.layers._operations import Operations
from refgit.model.causal_lm import GitForCausalLM
from refgit.model.config import GitConfig
from refgit.traces.container import Tensor
from refgit_backends import Backend

Tensors: TypeAlias = dict[str, Tensor]

# In the order of attack: what a port is built from comes first. Each level with what to look at
# when a case of it is the first to fail.
LEVELS: dict[str, str] = {
    "layer": "the formula in the case's description; nothing else runs in it.",
    "embed": "the order class token, positions, layer norm; text positions count from 0; the time "
    "vector of a frame is added to all its tokens.",
    "vision block": "pre-norm: x + Attention(LayerNorm(x)), then x + MLP(LayerNorm(x)); "
    "quick_gelu; the eps of vision_config; heads are runs of D/H channels.",
    "vision": "the layer norm before the first block (pre_layrnorm) and behind the last "
    "(post_layernorm), and the projection with its own layer norm, eps of vision_config.",
    "decoder block": "post-norm: LayerNorm(x + Attention(x)), then LayerNorm(x + MLP(x)); gelu "
    "with erf; eps 1e-12; the mask: image sees image, text sees image and the text up to itself.",
    "decoder": "the order of the layers, and that all of them take the same mask.",
    "model": "how image and text are joined (image first), and the head; for a padded text the "
    "padding mask; for several texts an image text b belongs to image b modulo the images.",
    "decode step": "position ids: they count text alone, the image takes none; and that new tokens "
    "see everything in the cache.",
    "greedy": "the loop: start with [CLS] or the prompt, append the likeliest word, stop a row at "
    "[SEP] and fill it with [PAD].",
    "beam": "sums of log-probabilities, divided by (words without the prompt) to the power of "
    "length_penalty; ended texts are kept, 2 k candidates are looked at.",
    "preprocess": "resize (antialiased, on bytes), centre crop, divide by 255, subtract the mean, "
    "divide by the deviation; channels are red, green, blue.",
    "tokenize": "cleaning, lower case, accents stripped, spaces around punctuation and Chinese "
    "characters, then longest match first with ##.",
}


@dataclass(frozen=True)
class Evaluation:
    """One way to compute: a dtype, and the backend that orders the sums.

    Attributes
    ----------
    name : str
    dtype : str
    backend : Backend
    """

    name: str
    dtype: str
    backend: Backend

    def array(self, x: Tensor) -> Array:
        """`x` on the backend; floating arrays in the dtype of the evaluation."""
        floating = np.issubdtype(x.dtype, np.floating)
        return self.backend.asarray(x, self.dtype if floating else None)

    def arrays(self, tensors: Mapping[str, Tensor]) -> dict[str, Array]:
        """All of them on the backend."""
        return {name: self.array(x) for name, x in tensors.items()}

    def host(self, tensors: Mapping[str, Array]) -> Tensors:
        """All of them as NumPy arrays in row-major order, as files have them."""
        return {name: np.array(self.backend.to_numpy(x), order="C") for name, x in tensors.items()}

    def operations(self, seen: dict[str, Array]) -> Operations:
        """The backend's operations; `seen` takes up what they hook."""
        return Operations.with_kernels(self.backend.kernels).with_hook(seen.__setitem__)


@dataclass
class Checkpoint:
    """Weights that cases share, and the models made of them.

    Attributes
    ----------
    name : str
        Its folder in the kit.
    config : GitConfig
    parameters : mapping of str to float32 array
    path : str or None
        Where the user's own checkpoint is; its weights are not copied into the kit.
    """

    name: str
    config: GitConfig
    parameters: Mapping[str, Any]
    path: str | None = None
    _made: dict[str, GitForCausalLM] = field(default_factory=dict)

    def model(self, evaluation: Evaluation) -> GitForCausalLM:
        """The model in an evaluation, made once."""
        if evaluation.name not in self._made:
            self._made[evaluation.name] = GitForCausalLM(
                self.config,
                backend=evaluation.backend,
                dtype=evaluation.dtype,
                _parameters=self.parameters,
            )
        return self._made[evaluation.name]

    def branch(self, evaluation: Evaluation, prefix: str) -> Any:
        """The model's parameters below a prefix such as "git.encoder.", nested."""
        return reduce(getitem, prefix.split(".")[:-1], self.model(evaluation).parameters)


@dataclass(frozen=True)
class Part:
    """What a case computes from in an evaluation.

    Attributes
    ----------
    evaluation : Evaluation
    given : dict of str to array
        The inputs.
    p : nested mapping of arrays
        The parameters below the case's prefix.
    ops : Operations
    hooked : dict of str to array
        What the hooks of `ops` have seen.
    """

    evaluation: Evaluation
    given: dict[str, Array]
    p: Any
    ops: Operations
    hooked: dict[str, Array]


@dataclass(frozen=True)
class Case:
    """One thing a port is asked to compute.

    Attributes
    ----------
    id : str
        Also the name of the files with its results.
    level : str
        A key of `LEVELS`.
    operation : str
        What to compute; several cases may ask for the same with other inputs.
    description : str
        In plain words.
    inputs : mapping of str to array
    compute : callable
        Computes the tensors, from a `Part`.
    arguments : mapping
        Further numbers, as JSON.
    checkpoint : Checkpoint or None
        Whose weights it needs.
    prefix : str
        What the names of its weights begin with.
    required : tuple of str
        Tensors that must be there; the others help to find where an error begins.
    counts : mapping of str to array
        For a tensor, which of its rows are compared.
    """

    id: str
    level: str
    operation: str
    description: str
    inputs: Mapping[str, Tensor]
    compute: Callable[[Part], Mapping[str, Array]]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: Checkpoint | None = None
    prefix: str = ""
    required: tuple[str, ...] = ("y",)
    counts: Mapping[str, Tensor] = field(default_factory=dict)

    def run(self, evaluation: Evaluation) -> Tensors:
        """Compute the tensors, as files have them."""
        hooked: dict[str, Array] = {}
        p = None if self.checkpoint is None else self.checkpoint.branch(evaluation, self.prefix)
        given, ops = evaluation.arrays(self.inputs), evaluation.operations(hooked)
        return evaluation.host(self.compute(Part(evaluation, given, p, ops, hooked)))


@dataclass(frozen=True)
class TextCase:
    """A case whose results are ids and texts, or pixels that were computed one way only.

    Attributes
    ----------
    id, level, operation, description, arguments
        See `Case`.
    inputs : mapping
        As JSON (texts, ids), or arrays.
    expected : mapping
        As JSON, or arrays.
    noise : mapping of str to float
        Measured noise of each tensor among `expected`.
    margin : float
        Tolerance over noise.
    pictures : mapping of str to bytes
        Further files, by name.
    """

    id: str
    level: str
    operation: str
    description: str
    inputs: Mapping[str, Any]
    expected: Mapping[str, Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    noise: Mapping[str, float] = field(default_factory=dict)
    margin: float = 1.0
    pictures: Mapping[str, bytes] = field(default_factory=dict)
