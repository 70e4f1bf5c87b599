"""Checkpoints: reading weights that others wrote, writing weights that others read."""

from refgit.checkpoint.loading import load_parameters, save_parameters
from refgit.checkpoint.safetensors_file import open_safetensors

__all__ = ["load_parameters", "open_safetensors", "save_parameters"]
