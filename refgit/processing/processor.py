"""GitProcessor: one image processor and one tokenizer behind one call.

It is at both ends of the model: `model(**processor(...))`, and `processor.batch_decode(ids)`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from refgit.errors import CheckpointError
from refgit.parts import find_parts
from refgit.processing.feature import BatchFeature, check_return_tensors
from refgit.processing.image.processor import CLIPImageProcessor
from refgit.processing.image.settings import read_image_settings, type_of
from refgit.processing.text.tokenizer import BertTokenizer
from refgit.processing.video.processor import VideoMAEImageProcessor
from refgit.validation import refuse_keywords

ImageProcessor: TypeAlias = CLIPImageProcessor | VideoMAEImageProcessor


def _options(function: Any, first: str) -> frozenset[str]:
    names = set(inspect.signature(function).parameters)
    return frozenset(names - {"self", first, "return_tensors", "overrides"})


TEXT_OPTIONS = _options(BertTokenizer.__call__, "text")


def _image_options(image_processor: ImageProcessor) -> frozenset[str]:
    kind = type(image_processor)
    first = "videos" if isinstance(image_processor, VideoMAEImageProcessor) else "images"
    return _options(kind.__call__, first) | frozenset(kind.setting_names())


def load_image_processor(directory: str | Path) -> ImageProcessor:
    """Read the image processor of a checkpoint directory, of the type its settings name.

    Settings without a type are those of a CLIP processor.

    Raises
    ------
    CheckpointError
        If the file is missing or invalid, or names another image processor.
    """
    path, config = read_image_settings(directory)
    kind = type_of(config) or CLIPImageProcessor.TYPES[0]
    for processor in (CLIPImageProcessor, VideoMAEImageProcessor):
        if kind in processor.TYPES:
            return processor.from_pretrained(directory)
    names = ", ".join(CLIPImageProcessor.TYPES + VideoMAEImageProcessor.TYPES)
    raise CheckpointError(f"{path}: The image processor type is {kind!r}; expected one of {names}.")


class GitProcessor:
    """Prepare pictures, videos and texts for GIT, and read its answers.

    Parameters
    ----------
    image_processor : CLIPImageProcessor or VideoMAEImageProcessor
        Makes `pixel_values`, from pictures or from videos.
    tokenizer : BertTokenizer
        Makes `input_ids` and `attention_mask`, and turns ids into text.

    Notes
    -----
    Source: transformers 4.56.2, `GitProcessor`. It differs in refusing what that one ignores,
    unknown keyword arguments, and what needs another framework, return_tensors "pt", "tf", "jax".
    """

    def __init__(self, image_processor: ImageProcessor, tokenizer: BertTokenizer) -> None:
        self.image_processor = image_processor
        self.tokenizer = tokenizer

    @classmethod
    def from_pretrained(
        cls,
        directory: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        **others: Any,
    ) -> GitProcessor:
        """Read both parts from a checkpoint.

        Parameters
        ----------
        directory : str or Path
            A checkpoint directory, or the id of a repository on the model hub, of which the small
            files are downloaded. An adapter's may be that of its base, and that of a training
            run's checkpoint-N in the run's directory.
        revision, token : optional
            Which version to download, and with what right; see `refgit.hub`.
        **others
            Refused, with what stands in their place here.

        Raises
        ------
        CheckpointError
            If a file is missing or invalid, or names another image processor; or if the download
            failed.
        TypeError
            An argument is one of another library's.
        """
        refuse_keywords("GitProcessor.from_pretrained", others, ("directory", "revision", "token"))
        found = find_parts(directory, weights=False, revision=revision, token=token).processor
        return cls(load_image_processor(found), BertTokenizer.from_pretrained(found))

    def save_pretrained(self, directory: str | Path) -> None:
        """Write the files of both parts; transformers reads them again."""
        self.image_processor.save_pretrained(directory, processor_class="GitProcessor")
        self.tokenizer.save_pretrained(directory, processor_class="GitProcessor")

    @property
    def keeps_aspect_ratio(self) -> bool:
        """Whether images keep their aspect ratio, so that `pixel_values` come in many sizes."""
        return getattr(self.image_processor, "respect_ratio_max", None) is not None

    @property
    def model_input_names(self) -> list[str]:
        """The keys a call with images and text returns."""
        return [*self.image_processor.model_input_names, *self.tokenizer.model_input_names]

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str] | Sequence[Sequence[str]] | None = None,
        audio: None = None,
        videos: None = None,
        return_tensors: str | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Prepare images, texts or both.

        Parameters
        ----------
        images : PIL image, array, or list of them, optional
            As for the image processor. With `CLIPImageProcessor`, a list is a batch of pictures;
            with `VideoMAEImageProcessor`, it is one video, and a list of lists several.
        text : str or sequence, optional
            As for `BertTokenizer`.
        audio, videos : None
            As in transformers; GIT takes no audio, and a video is passed as `images`.
        return_tensors : "np", the name of a backend, or None
            "np" gives arrays; a backend's name, such as "cupy", its arrays, on its device; None
            lists.
        **kwargs
            Options of either part (`padding`, `max_length`, `size`, `do_resize`, ...), or all
            options of one part as `text_kwargs={...}` or `images_kwargs={...}`.

        Returns
        -------
        BatchFeature
            `input_ids` and `attention_mask` if there is text, with what else the options ask for;
            `pixel_values` if there are images: (B, 3, H, W) of pictures, (B, F, 3, H, W) of videos.

        Raises
        ------
        ValueError
            If neither images nor text are given, audio or videos are, or an option has no meaning.
        TypeError
            If an option belongs to neither part, or images or text are of the wrong type.
        """
        if audio is not None:
            raise ValueError("audio is given; expected None, as GIT takes no audio.")
        if videos is not None:
            raise ValueError(
                "videos is given; expected None: a video is a list of frames, passed as images."
            )
        if images is None and text is None:
            raise ValueError("Neither images nor text are given; expected at least one of them.")
        return_tensors = _take_return_tensors(kwargs, return_tensors)
        text_kwargs, images_kwargs = _split_options(kwargs, _image_options(self.image_processor))
        feature = BatchFeature()
        if text is not None:
            # A checkpoint may carry call options, such as max_length, in its tokenizer files.
            said = self.tokenizer.config.items()
            stored = {k: v for k, v in said if k in TEXT_OPTIONS and v is not None}
            options = {**stored, **text_kwargs, "return_tensors": return_tensors}
            feature.update(self.tokenizer(text, **options))
        if images is not None:
            feature.update(
                self.image_processor(images, **images_kwargs, return_tensors=return_tensors)
            )
        return feature

    def decode(self, token_ids: Any, **options: Any) -> str:
        """Turn one sequence of token ids into text; see `BertTokenizer.decode`."""
        return self.tokenizer.decode(token_ids, **options)

    def batch_decode(self, sequences: Any, **options: Any) -> list[str]:
        """Turn several sequences of token ids into texts; see `BertTokenizer.batch_decode`."""
        return self.tokenizer.batch_decode(sequences, **options)


def _take_return_tensors(kwargs: dict[str, Any], return_tensors: str | None) -> str | None:
    """Settle return_tensors, which transformers also takes in `common_kwargs`."""
    common = kwargs.pop("common_kwargs", {})
    unknown = sorted(set(common) - {"return_tensors"})
    if unknown:
        raise TypeError(f"common_kwargs has {', '.join(unknown)}; it takes return_tensors only.")
    chosen = return_tensors if return_tensors is not None else common.get("return_tensors")
    check_return_tensors(chosen)
    return chosen


def _split_options(
    kwargs: Mapping[str, Any], image_options: frozenset[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Pass each option to the part that has it."""
    flat = dict(kwargs)
    parts = {"text_kwargs": TEXT_OPTIONS, "images_kwargs": image_options}
    given = {part: dict(flat.pop(part, {})) for part in parts}
    for part, names in parts.items():
        unknown = sorted(set(given[part]) - names)
        twice = sorted(set(given[part]) & set(flat))
        if unknown:
            raise TypeError(
                f"{part} has {', '.join(unknown)}; it takes {', '.join(sorted(names))}."
            )
        if twice:
            raise TypeError(f"{', '.join(twice)}: given both in {part} and by itself.")
    for name, value in flat.items():
        owner = next((part for part, names in parts.items() if name in names), None)
        if owner is None:
            raise TypeError(
                f"{name} is not an option of the processor; options for text are "
                f"{', '.join(sorted(TEXT_OPTIONS))}; for images {', '.join(sorted(image_options))}."
            )
        given[owner][name] = value
    return given["text_kwargs"], given["images_kwargs"]
