"""Checkpoints: reading weights that others wrote, writing weights that others read."""

from refgit.checkpoint.loading import load_parameters, save_parameters
from refgit.checkpoint.safetensors_file import open_safetensors
from refgit.checkpoint.torch_file import open_torch, read_torch

__all__ = ["load_parameters", "open_safetensors", "open_torch", "read_torch", "save_parameters"]
