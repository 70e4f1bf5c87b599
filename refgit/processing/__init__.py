"""Everything between the user's picture or sentence and the model's arrays, and back.

A picture is resized, cropped and normalised to `pixel_values`; a sentence is cut into tokens, words
or pieces of words, whose numbers are `input_ids`. How, the checkpoint says, in
preprocessor_config.json and tokenizer.json. CLIP is the model whose image encoder GIT took over,
BERT the one whose tokenizer, VideoMAE that whose preparation of videos.

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
