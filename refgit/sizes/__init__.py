"""How large a model is and what a caption costs, counted from its config.

Nothing here loads weights or runs a model.
"""

from refgit.sizes.flops import Flops as Flops
from refgit.sizes.flops import caption_flops as caption_flops
from refgit.sizes.memory import CaptionMemory as CaptionMemory
from refgit.sizes.memory import caption_memory as caption_memory
from refgit.sizes.parts import Part as Part
from refgit.sizes.parts import parameters_by_part as parameters_by_part
from refgit.sizes.stored import Stored as Stored
from refgit.sizes.stored import read_stored as read_stored
