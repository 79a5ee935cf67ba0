"""What the object is: captures, cameras, Gaussians, growth, files."""

from .camera import Camera
from .capture import Capture, PointCloud, Query, View, split_holdout, subset_views
from .errors import InputError
from .files import atomic_write, damage_named, folder_lock, read_json, write_json
from .gaussians import Gaussians
from .growth import carry, chain, clone, prune, reset_opacity, split
from .growth_policy import CappedGrowth, Growth, GrowthPolicy, GrowthStatistics, PaperGrowth
from .hull import VisualHull, outside_hull, visual_hull
from .images import (
    detect_background,
    image_size,
    read_foreground,
    read_image,
    read_mask,
    silhouette,
)
from .initialise import initial_gaussians, point_colours, random_points, scene_extent
from .ply import load_ply, save_ply
from .readers import read_capture, read_queries, true_poses
from .world import World, common_point, parallel_cameras

__all__ = [
    "Camera",
    "CappedGrowth",
    "Capture",
    "Gaussians",
    "Growth",
    "GrowthPolicy",
    "GrowthStatistics",
    "InputError",
    "PaperGrowth",
    "PointCloud",
    "Query",
    "View",
    "VisualHull",
    "World",
    "atomic_write",
    "carry",
    "chain",
    "clone",
    "common_point",
    "damage_named",
    "detect_background",
    "folder_lock",
    "image_size",
    "initial_gaussians",
    "load_ply",
    "outside_hull",
    "parallel_cameras",
    "point_colours",
    "prune",
    "random_points",
    "read_capture",
    "read_foreground",
    "read_image",
    "read_json",
    "read_mask",
    "read_queries",
    "reset_opacity",
    "save_ply",
    "scene_extent",
    "silhouette",
    "split",
    "split_holdout",
    "subset_views",
    "true_poses",
    "visual_hull",
    "write_json",
]
