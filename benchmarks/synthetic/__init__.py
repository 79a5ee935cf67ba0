"""Captures of objects that nobody has tuned anything on, rendered by a small ray caster."""

from .capture import SyntheticConfig, make_capture

__all__ = ["SyntheticConfig", "make_capture"]
