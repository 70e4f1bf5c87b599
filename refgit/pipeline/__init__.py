"""From images and videos to text: a model with its processor, and the way between file and text.

    captioner = Captioner.from_pretrained()  # the bundled model
    captioner.caption("docs/images/star.png")
    captioner.ask("docs/images/star.png", "what kind of thing is this?")

The commands, jobs on one machine and on many, and the explorer all take this way.
"""

from refgit.pipeline.captioner import Captioner
from refgit.pipeline.labels import RankedLabel
from refgit.pipeline.sources import Pixels, Source
from refgit.pipeline.texts import WrittenText

__all__ = ["Captioner", "Pixels", "RankedLabel", "Source", "WrittenText"]
