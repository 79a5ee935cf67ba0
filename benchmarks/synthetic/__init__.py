"""Captures of objects that nobody has tuned anything on, rendered by a small ray caster."""

from .capture import make_capture
from .config import SyntheticConfig

__all__ = ["SyntheticConfig", "make_capture"]
