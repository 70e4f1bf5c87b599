"""Checkpoints: reading weights that others wrote, writing weights that others read.

A *checkpoint* is a directory with a model's settings (config.json) and its weights. Weights are in
model.safetensors, a file of plain arrays by name, or in pytorch_model.bin, which torch.save wrote:
a *pickle*, a program that makes a *state dict* (arrays by name), and *storages*, the numbers. Large
ones are cut into several files (*shards*) with an index of which tensor is where. The *hub* is
huggingface.co, where most checkpoints are. docs/reference/files.md has every file.
"""

from refgit.checkpoint.loading import load_parameters, save_parameters
from refgit.checkpoint.safetensors_file import open_safetensors
from refgit.checkpoint.torch.file import open_torch, read_torch

__all__ = ["load_parameters", "open_safetensors", "open_torch", "read_torch", "save_parameters"]
