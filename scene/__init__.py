"""What the object is: captures, cameras, Gaussians, growth, files."""

from .cameras import Camera
from .errors import InputError
from .gaussians import Gaussians

__all__ = ["Camera", "Gaussians", "InputError"]
