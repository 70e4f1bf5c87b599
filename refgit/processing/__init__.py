"""Everything between the user's picture or sentence and the model's arrays, and back.

The model itself never imports this package: `import refgit` needs neither Pillow nor tokenizers.
"""

from __future__ import annotations

from .feature import BatchFeature
from .image import CLIPImageProcessor
from .image_file import ImageFileError, load_image
from .processor import GitProcessor
from .tokenizer import BertTokenizer
from .video import VideoFileError, read_video, sample_frame_indices
from .video_image import VideoMAEImageProcessor

__all__ = [
    "BatchFeature",
    "BertTokenizer",
    "CLIPImageProcessor",
    "GitProcessor",
    "ImageFileError",
    "VideoFileError",
    "VideoMAEImageProcessor",
    "load_image",
    "read_video",
    "sample_frame_indices",
]
