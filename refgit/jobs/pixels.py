"""From an image or a video to pixel values as a model takes them, for one and for whole jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from refgit.processing import GitProcessor


def frames_of(file: str, frames: int | None, hint: str = "") -> Any:
    """Read the frames of a video file that a model looks at, if it looks at videos.

    Raises
    ------
    refgit.processing.VideoFileError
        The file is no video, or `frames` is None; `hint` ends the sentence then.
    ImportError
        PyAV is not installed.
    """
    from refgit.processing import VideoFileError, read_video

    if frames is None:
        raise VideoFileError(
            f"{file} is a video; this model takes images only (its num_image_with_embedding is "
            f"null).{hint}"
        )
    return read_video(file, frames)


def prepared(images: Any, processor: GitProcessor, frames: int | None) -> NDArray[np.float32]:
    """Pixel values of one image or video: (1, 3, H, W), or (1, F, 3, H, W) of a video model."""
    pixels: NDArray[np.float32] = processor(images=images, return_tensors="np")["pixel_values"]
    if frames is not None and pixels.ndim == 4:  # a CLIP processor: frames are a batch to it
        pixels = pixels[None]  # (F, 3, H, W) -> (1, F, 3, H, W)
    return pixels
