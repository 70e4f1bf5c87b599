"""What becomes of a caption's text once the model has written it.

A tokenizer of BERT's kind takes every mark of punctuation for a word of its own, so its text comes
back as ``a man ' s t - shirt``; people who caption data sets want other changes as well. All of it
is a `Treatment`, which a `Captioner` has.
"""

from refgit.captions.punctuation import close_up
from refgit.captions.treatment import Treatment

__all__ = ["Treatment", "close_up"]
