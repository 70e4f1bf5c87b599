"""How large a model is and what a caption costs, counted from its config.

    parts.py    parameters, by the part of the model that has them
    products.py matrix products of each part, one by one, as formulas
    flops.py    operations of one caption, by part
    memory.py   bytes of the weights, of the cache and of activations
    stored.py   what a checkpoint's files hold, read from their headers
    description.py  all of it in plain values, as `refgit info --json` prints it

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
