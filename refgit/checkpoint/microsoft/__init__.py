"""Checkpoints of microsoft/GenerativeImage2Text, converted to the hub's form."""
