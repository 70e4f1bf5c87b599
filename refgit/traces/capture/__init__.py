"""Traces of other implementations: torch modules and ONNX graphs."""
