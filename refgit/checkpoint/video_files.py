"""Video checkpoints that every version of transformers loads without a key left over.

transformers up to 4.56, and the checkpoints on the hub, spell the time embeddings
``img_temperal_embedding``; from 4.57 on it is ``img_temporal_embedding``. Both in one file are one
too many for either. So the two spellings are in files of their own, a few kilobytes each, and two
indexes each list one of them beside the file of all other weights:

- model.safetensors.index.json lists the hub's spelling; transformers up to 4.56 and refgit read it;
- config.json names a config for later versions ("configuration_files"), which says that their
  weights are those of model.temporal.safetensors.index.json ("transformers_weights").
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refgit.checkpoint.loading import INDEX, OTHER_SPELLING, WEIGHTS, Arrays, save_parameters
from refgit.files import CONFIG_NAME, json_text, write_whole

LATER_SPELLING, HUB_SPELLING = OTHER_SPELLING
REST, HUB, LATER = (
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model-temporal.safetensors",
)
LATER_INDEX = "model.temporal.safetensors.index.json"
# The first version that spells them otherwise.
LATER_CONFIG = "config.4.57.0.json"


def save_weights_and_config(directory: Path, arrays: Arrays, config: Mapping[str, Any]) -> None:
    """Write the weights and config.json of a model, of images or of videos.

    Parameters
    ----------
    directory : Path
        Made if need be; files of the same names are replaced.
    arrays : mapping of str to array
        On the host, in the hub's spelling.
    config : mapping
        The entries of config.json.
    """
    if config.get("num_image_with_embedding"):
        save_video_parameters(directory, arrays)
        later = {**config, "transformers_weights": LATER_INDEX}
        write_whole(directory / LATER_CONFIG, json_text(later))
        config = {**config, "configuration_files": [LATER_CONFIG]}
    else:
        save_parameters(directory, arrays)
    write_whole(directory / CONFIG_NAME, json_text(config))


def save_video_parameters(directory: Path, arrays: Arrays) -> None:
    """Write three files of weights and two indexes.

    Parameters
    ----------
    directory : Path
        Made if need be. A model.safetensors in it, which readers would prefer, goes at the end.
    arrays : mapping of str to array
        On the host, in the hub's spelling.
    """
    times = {name: x for name, x in arrays.items() if HUB_SPELLING in name}
    rest = {name: x for name, x in arrays.items() if name not in times}
    later = {name.replace(HUB_SPELLING, LATER_SPELLING): x for name, x in times.items()}
    save_parameters(directory, rest, REST)
    for spelled, file, index in ((times, HUB, INDEX), (later, LATER, LATER_INDEX)):
        save_parameters(directory, spelled, file)
        weight_map = dict.fromkeys(rest, REST) | dict.fromkeys(spelled, file)
        size = sum(int(x.nbytes) for x in arrays.values())
        content = {"metadata": {"total_size": size}, "weight_map": weight_map}
        write_whole(directory / index, json_text(content))
    (directory / WEIGHTS).unlink(missing_ok=True)
