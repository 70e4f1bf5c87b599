"""Everything between the user's picture or sentence and the model's arrays, and back.

A picture is resized, cropped and normalised to `pixel_values`; a sentence is cut into tokens, words
or pieces of words, whose numbers are `input_ids`. How, the checkpoint says, in
preprocessor_config.json and tokenizer.json. CLIP is the model whose image encoder GIT took over,
BERT the one whose tokenizer, VideoMAE that whose preparation of videos.

The model itself never imports this package: `import refgit` needs neither Pillow nor tokenizers.
"""

from __future__ import annotations

from refgit.processing.feature import BatchFeature
from refgit.processing.image.file import ImageFileError, load_image
from refgit.processing.image.processor import CLIPImageProcessor
from refgit.processing.processor import GitProcessor
from refgit.processing.reading import Reading
from refgit.processing.text.tokenizer import BertTokenizer
from refgit.processing.video.file import read_video
from refgit.processing.video.opening import VideoFileError
from refgit.processing.video.processor import VideoMAEImageProcessor
from refgit.processing.video.sampling import sample_frame_indices

__all__ = [
    "BatchFeature",
    "BertTokenizer",
    "CLIPImageProcessor",
    "GitProcessor",
    "ImageFileError",
    "Reading",
    "VideoFileError",
    "VideoMAEImageProcessor",
    "load_image",
    "read_video",
    "sample_frame_indices",
]
