"""What the object is: captures, cameras, Gaussians, growth, files."""

from .cameras import Camera
from .captures import Capture, PointCloud, Query, View, split_holdout, subset_views
from .errors import InputError
from .files import atomic_write, read_json, write_json
from .gaussians import Gaussians
from .images import detect_background, read_foreground, read_image, read_mask, silhouette
from .ply import load_ply, save_ply
from .readers import read_capture, read_queries, true_poses

__all__ = [
    "Camera",
    "Capture",
    "Gaussians",
    "InputError",
    "PointCloud",
    "Query",
    "View",
    "atomic_write",
    "detect_background",
    "load_ply",
    "read_capture",
    "read_foreground",
    "read_image",
    "read_json",
    "read_mask",
    "read_queries",
    "save_ply",
    "silhouette",
    "split_holdout",
    "subset_views",
    "true_poses",
    "write_json",
]
