"""The mathematics of GIT as pure functions of arrays, one concept a file.

Each function is a definition: a few lines, in the order of its equation, that use only names of
the Python array API standard. It runs on any library that follows the standard, is tested on each
against golden tensors (stored results of transformers, in golden/), and may be replaced by a
backend's faster kernel (see `Operations.run`).

The letters of the shape comments, everywhere in refgit:

    B   batch                       D   width of the hidden states
    N   image tokens                H   attention heads
    T   text tokens                 F   width inside the feed-forward network
    L   all tokens, L = N + T       V   vocabulary
    Q   queries of this call        K   keys they attend to
    C   colour channels             P   side of a patch in pixels

Formulas use the same letters. B' is the number of images where it differs from the number of
texts: text b belongs to image b mod B'. Two arguments recur: `p` holds the parameters of a layer by
their names in the checkpoint, and `ops` the version of each operation that runs, with the *hooks*,
functions that are called with every named intermediate and may replace it.

The paper is Wang et al., "GIT: A Generative Image-to-text Transformer for Vision and Language",
arXiv 2205.14100.
"""

from refgit.layers._operations import DEFINITIONS as DEFINITIONS
from refgit.layers._operations import Operations as Operations
from refgit.layers.activation import gelu as gelu
from refgit.layers.activation import quick_gelu as quick_gelu
from refgit.layers.attention import attention as attention
from refgit.layers.attention import multi_head_attention as multi_head_attention
from refgit.layers.embedding import embed as embed
from refgit.layers.embedding import text_embedding as text_embedding
from refgit.layers.erf import erf as erf
from refgit.layers.feed_forward import feed_forward as feed_forward
from refgit.layers.linear import linear as linear
from refgit.layers.lm_head import lm_head as lm_head
from refgit.layers.loss import language_model_loss as language_model_loss
from refgit.layers.mask import attention_bias as attention_bias
from refgit.layers.mask import image_text_mask as image_text_mask
from refgit.layers.normalization import layer_norm as layer_norm
from refgit.layers.patch_embedding import patch_embedding as patch_embedding
from refgit.layers.patch_embedding import patchify as patchify
from refgit.layers.position import add_absolute_positions as add_absolute_positions
from refgit.layers.sequence import add_temporal_embedding as add_temporal_embedding
from refgit.layers.sequence import join_image_and_text as join_image_and_text
from refgit.layers.softmax import softmax as softmax
