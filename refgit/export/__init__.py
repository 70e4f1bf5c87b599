"""Exporters: GIT as graphs for other engines."""
