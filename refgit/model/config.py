"""What a GIT model looks like, as data: GitVisionConfig and GitConfig.

Names, defaults and meanings are as in transformers 4.56's classes of the same names, and in the
config.json beside every checkpoint. Keys refgit does not know are kept and written back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from functools import wraps
from pathlib import Path
from typing import Any, Self, TypeVar

from refgit.errors import CheckpointError
from refgit.files import CONFIG_NAME, json_text, read_json, write_whole
from refgit.layers.activation import ACTIVATIONS
from refgit.parts import find_parts
from refgit.validation import (
    Rule,
    is_flag,
    is_id_or_ids,
    is_integer,
    is_number,
    is_size,
    make_plain,
    or_none,
    plain,
    require,
    require_mapping,
    require_rules,
)

C = TypeVar("C", bound=type[Any])
POSITION_EMBEDDINGS = ("absolute", "relative_key", "relative_key_query")


def _is_activation(value: Any) -> bool:
    return callable(value) or (isinstance(value, str) and value in ACTIVATIONS)


# Rules that several fields have.
_POSITIVE = ("a positive integer", is_size)
_AT_LEAST_0 = ("a number of at least 0", lambda value: is_number(value, 0))
_PROBABILITY = ("a number from 0 to 1", lambda value: is_number(value, 0, 1))
_TOKEN_ID = "a token id, which is an integer of at least 0"
# What both configs have.
_SHARED_RULES: tuple[Rule, ...] = (
    ("hidden_size intermediate_size num_hidden_layers num_attention_heads", *_POSITIVE),
    ("hidden_act", f"one of {', '.join(sorted(ACTIVATIONS))}", _is_activation),
    ("layer_norm_eps initializer_range", *_AT_LEAST_0),
)
_VISION_RULES: tuple[Rule, ...] = (
    *_SHARED_RULES,
    ("num_channels image_size patch_size", *_POSITIVE),
    ("attention_dropout", *_PROBABILITY),
)
_TEXT_RULES: tuple[Rule, ...] = (
    *_SHARED_RULES,
    ("vocab_size max_position_embeddings", *_POSITIVE),
    ("num_image_with_embedding", "None or a positive integer", or_none(is_size)),
    (
        "position_embedding_type",
        f"one of {', '.join(POSITION_EMBEDDINGS)}",
        lambda value: value in POSITION_EMBEDDINGS,
    ),
    ("embedding_layer_norm_eps", *_AT_LEAST_0),
    ("hidden_dropout_prob attention_probs_dropout_prob", *_PROBABILITY),
    ("use_cache tie_word_embeddings", "True or False", is_flag),
    ("pad_token_id bos_token_id", _TOKEN_ID, or_none(is_integer)),
    ("eos_token_id", _TOKEN_ID, or_none(is_id_or_ids)),
)


def _expect_multiple(config: GitVisionConfig | GitConfig, name: str, of: str) -> None:
    divisor = getattr(config, of)
    expected = f"a multiple of {of}, which is {divisor}"
    require(config, name, getattr(config, name) % divisor == 0, expected)


def _expect_pruned_heads(config: GitConfig) -> None:
    stored = plain(config.extra.get("pruned_heads"))
    layers, heads = config.num_hidden_layers, config.num_attention_heads

    def can_go(layer: Any, some: Any) -> bool:
        several = isinstance(some, list | tuple | set | frozenset)
        known = several and all(is_integer(head) and head < heads for head in some)
        return str(layer).isdecimal() and int(layer) < layers and known and len(set(some)) < heads

    mapping = isinstance(stored, Mapping)
    if stored is not None and not (mapping and all(can_go(*pair) for pair in stored.items())):
        raise ValueError(
            f"GitConfig.pruned_heads is {stored!r}; expected a mapping of layers, 0 to "
            f"{layers - 1}, to lists of heads, 0 to {heads - 1}, that leaves each layer one."
        )


def _takes_further_options(cls: C) -> C:
    """Let a config be made with options that are not fields of it, which go to `extra`.

    Every config of transformers takes the options of its base class, such as output_attentions;
    what is nearly a field's name is a typo and refused.
    """
    names = [f.name for f in fields(cls)]
    fill: Any = cls.__init__  # the one that dataclass made

    @wraps(fill)
    def __init__(self: Any, *args: Any, **options: Any) -> None:  # noqa: N807
        further = {k: options.pop(k) for k in [*options] if k not in names}
        for name in further:
            near = get_close_matches(name, names, 1, cutoff=0.85)
            if near:
                raise TypeError(f"{cls.__name__} has no field {name!r}; did you mean {near[0]}?")
        if further and isinstance(options.get("extra", {}), Mapping):  # other ones are refused
            options["extra"] = {**options.get("extra", {}), **further}
        fill(self, *args, **options)

    cls.__init__ = __init__
    return cls


class _JsonConfig:
    """What both configs share: to and from config.json."""

    model_type: str
    extra: Mapping[str, Any]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build a config from the entries of a config.json; unknown keys go to `extra`."""
        require_mapping(cls, values)
        names = {f.name for f in fields(cls)} - {"extra"}  # type: ignore[arg-type]  # see to_dict
        known = {k: v for k, v in values.items() if k in names}
        rest = {k: v for k, v in values.items() if k not in names and k != "model_type"}
        return cls(**known, extra=rest)  # type: ignore[call-arg]  # see to_dict

    def to_dict(self) -> dict[str, Any]:
        """Return the entries of a config.json, unknown keys included."""
        values: dict[str, Any] = {**self.extra, "model_type": self.model_type}
        for f in fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            if f.name != "extra":
                value = getattr(self, f.name)
                values[f.name] = value.to_dict() if isinstance(value, _JsonConfig) else value
        return values

    def to_json_string(self) -> str:
        """Return config.json's text: sorted keys, two spaces, a newline at the end.

        Raises
        ------
        ValueError
            As for `to_json_dict`.
        """
        return json_text(self.to_json_dict())

    def to_json_dict(self) -> dict[str, Any]:
        """Return `to_dict`, all of which a file can hold.

        Raises
        ------
        ValueError
            `hidden_act` is a function; config.json holds names only.
        """
        both: tuple[Any, ...] = (self, getattr(self, "vision_config", self))
        for config in both:
            require(
                config,
                "hidden_act",
                isinstance(config.hidden_act, str),
                "a name, since a function cannot be written to config.json: store one of "
                f"refgit.layers.activation.ACTIVATIONS ({', '.join(sorted(ACTIVATIONS))}), as in "
                'config.replace(hidden_act="gelu")',
            )
        return self.to_dict()

    @property
    def output_attentions(self) -> bool:
        """Whether a forward pass returns its attention probabilities unless told otherwise."""
        return bool(self.extra.get("output_attentions", False))

    @property
    def output_hidden_states(self) -> bool:
        """Whether a forward pass returns its hidden states unless told otherwise."""
        return bool(self.extra.get("output_hidden_states", False))

    @property
    def return_dict(self) -> bool:
        """Whether a forward pass returns a ModelOutput unless told otherwise, and not a tuple."""
        return bool(self.extra.get("return_dict", True))

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed, validated anew."""
        return replace(self, **changes)  # type: ignore[type-var]  # see to_dict

    def save_pretrained(self, directory: str | Path) -> None:
        """Write config.json into `directory`, which is made if need be."""
        path = Path(directory)
        path.mkdir(parents=True, exist_ok=True)
        write_whole(path / CONFIG_NAME, self.to_json_string())

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        base: str | Path | None = None,
    ) -> Self:
        """Read the config.json of a checkpoint; an image encoder's may be a whole model's.

        Parameters
        ----------
        path : str or Path
            A checkpoint directory, or the id of a repository on the model hub.
        revision, token : optional
            Which version to download, and with what right; see `refgit.hub.find_checkpoint`.
        base : str or Path, optional
            The model that an adapter changes, whose config it is; by default the one that its
            adapter_config.json names.

        Raises
        ------
        CheckpointError
            The file is missing or broken, or describes another kind of model; or the download
            failed.
        """
        parts = find_parts(path, base=base, weights=False, revision=revision, token=token)
        return cls._read(parts.model / CONFIG_NAME)

    @classmethod
    def _read(cls, path: Path) -> Self:
        """Read a config.json, which must be of this type of model."""
        values = read_json(path)
        found = values.get("model_type")
        if found != cls.model_type:
            raise CheckpointError(
                f'{path} describes a model of type {found!r}; refgit reads "{cls.model_type}".'
            )
        try:
            return cls.from_dict(values)
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"{path}: {error}") from error


@_takes_further_options
@dataclass(frozen=True)
class GitVisionConfig(_JsonConfig):
    """The image encoder, CLIP's vision transformer.

    Attributes
    ----------
    hidden_size : int
        Width D of the image tokens.
    intermediate_size : int
        Width F inside the feed-forward networks.
    num_hidden_layers, num_attention_heads : int
        Depth, and heads H in each layer; H divides `hidden_size`.
    num_channels : int
        Colour channels C of the image.
    image_size : int
        Side of the square image, in pixels; a multiple of `patch_size`.
    patch_size : int
        Side P of a patch, in pixels.
    hidden_act : str
        Activation of the feed-forward networks, one of `refgit.layers.activation.ACTIVATIONS`.
    layer_norm_eps : float
        Added to the variance in every layer norm, and in the visual projection's.
    attention_dropout : float
        Read and kept; inference drops nothing.
    initializer_range : float
        Standard deviation of random weights.
    extra : mapping
        Keys of config.json that refgit does not use, written back as they were.

    Raises
    ------
    ValueError
        A field has an impossible value; the message names it.
    """

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    num_channels: int = 3
    image_size: int = 224
    patch_size: int = 16
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    attention_dropout: float = 0.0
    initializer_range: float = 0.02
    extra: Mapping[str, Any] = field(default_factory=dict)

    model_type = "git_vision_model"

    def __post_init__(self) -> None:
        make_plain(self)
        require_rules(self, _VISION_RULES)
        _expect_multiple(self, "hidden_size", "num_attention_heads")
        _expect_multiple(self, "image_size", "patch_size")

    @property
    def num_patches(self) -> int:
        """Patches of one image."""
        return int((self.image_size // self.patch_size) ** 2)

    @property
    def num_positions(self) -> int:
        """Learned positions: one for each patch of a square image, and one for the class token."""
        return self.num_patches + 1

    @classmethod
    def _read(cls, path: Path) -> GitVisionConfig:
        if read_json(path).get("model_type") == GitConfig.model_type:
            return GitConfig._read(path).vision_config
        return super()._read(path)


@_takes_further_options
@dataclass(frozen=True)
class GitConfig(_JsonConfig):
    """The whole model: the image encoder's config inside the text decoder's.

    Attributes
    ----------
    vision_config : GitVisionConfig
        The image encoder; a mapping is turned into one.
    vocab_size : int
        Size of the vocabulary, V.
    hidden_size : int
        Width D of the decoder.
    num_hidden_layers, num_attention_heads : int
        Depth, and heads H in each layer; H divides `hidden_size`.
    intermediate_size : int
        Width F inside the feed-forward networks.
    hidden_act : str
        Activation of the feed-forward networks, one of `refgit.layers.activation.ACTIVATIONS`.
    hidden_dropout_prob, attention_probs_dropout_prob : float
        Read and kept; inference drops nothing.
    max_position_embeddings : int
        Longest text, in tokens.
    initializer_range : float
        Standard deviation of random weights.
    layer_norm_eps : float
        Added to the variance in the decoder's layer norms.
    pad_token_id, bos_token_id, eos_token_id : int or None
        Ids that fill, open and close a text; `eos_token_id` may be a list.
    position_embedding_type : str
        "absolute" (a learned vector is added to each text token), "relative_key" or
        "relative_key_query" (attention looks at distances); see `refgit.layers.position`.
    use_cache : bool
        Whether a forward pass returns its keys and values unless told otherwise.
    tie_word_embeddings : bool
        Whether the head shares the word embedding's matrix.
    num_image_with_embedding : int or None
        Most frames of a video: each has a learned vector of its time. None takes images only.
    extra : mapping
        Keys of config.json that refgit does not use, written back as they were.

    Raises
    ------
    ValueError
        A field has an impossible value; the message names it.
    """

    vision_config: GitVisionConfig = field(default_factory=GitVisionConfig)
    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 6
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 1024
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    position_embedding_type: str = "absolute"
    use_cache: bool = True
    tie_word_embeddings: bool = False
    bos_token_id: int | None = 101
    eos_token_id: int | list[int] | None = 102
    num_image_with_embedding: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    model_type = "git"

    def __post_init__(self) -> None:
        make_plain(self)
        vision = self.vision_config
        if not isinstance(vision, GitVisionConfig):
            known = vision is None or isinstance(vision, Mapping)
            require(self, "vision_config", known, "a GitVisionConfig, a mapping or None")
            object.__setattr__(self, "vision_config", GitVisionConfig.from_dict(vision or {}))
        require_rules(self, _TEXT_RULES)
        _expect_multiple(self, "hidden_size", "num_attention_heads")
        require(
            self,
            "pad_token_id",
            self.pad_token_id is None or self.pad_token_id < self.vocab_size,
            f"less than vocab_size, which is {self.vocab_size}",
        )
        _expect_pruned_heads(self)

    @property
    def embedding_layer_norm_eps(self) -> float:
        """Added to the variance in the text embedding's layer norm.

        It is `layer_norm_eps`, but for checkpoints that were converted from Microsoft's: there
        config.json has a key of this name.
        """
        eps: float = self.extra.get("embedding_layer_norm_eps", self.layer_norm_eps)
        return eps

    @property
    def pruned_heads(self) -> dict[int, set[int]]:
        """Heads of each decoder layer that have been taken out; config.json's ``pruned_heads``."""
        stored = self.extra.get("pruned_heads")
        if not stored:
            return {}
        return {int(layer): set(heads) for layer, heads in plain(stored).items() if heads}

    def heads_of(self, layer: int) -> int:
        """Heads left in a decoder layer."""
        return self.num_attention_heads - len(self.pruned_heads.get(layer, ()))

    def num_image_tokens(
        self, height: int | None = None, width: int | None = None, *, frames: int | None = None
    ) -> int:
        """Image tokens N: the patches and the class token, of each frame.

        Parameters
        ----------
        height, width : int, optional
            Of the pixels; by default of the vision config's square image.
        frames : int, optional
            Of a video, 1 for an image; by default as many as the model has time embeddings for,
            or 1 where it takes images only.
        """
        vision = self.vision_config
        rows, columns = (
            (vision.image_size if side is None else side) // vision.patch_size
            for side in (height, width)
        )
        if frames is None:
            frames = self.num_image_with_embedding or 1
        return frames * (rows * columns + 1)

    def text_room(self, num_image_tokens: int) -> int:
        """Text tokens that the model has positions for, below so many image tokens.

        Absolute positions count the text only; relative distances run over image and text.
        """
        absolute = self.position_embedding_type == "absolute"
        return self.max_position_embeddings - (0 if absolute else num_image_tokens)
