"""What the object is: captures, cameras, Gaussians, densification, files."""

from .camera import Camera
from .capture import Capture, Query, View, split_holdout, subset_views
from .densify import CappedDensify, DensifyPolicy, DensifyStatistics, PaperDensify, carry, prune
from .distortion import Distortion
from .errors import InputError
from .files import (
    append_lines,
    atomic_write,
    check_numbers,
    damage_named,
    folder_lock,
    read_json,
    refuse_inside,
    write_json,
)
from .gaussians import Gaussians
from .hull import VisualHull, outside_hull, visual_hull
from .images import (
    TrainImages,
    image_size,
    read_image,
    read_mask,
    read_train_images,
    silhouette,
)
from .initialise import initial_gaussians, scene_extent, starting_hull, starting_points
from .masks import mask_doubt
from .names import file_name, printable
from .ply import load_ply, save_ply
from .readers import label_summary, read_capture, read_queries, true_poses
from .readers.matrices import checked_pose
from .standing import refuse_standing_background
from .world import World, common_point

__all__ = [
    "Camera",
    "CappedDensify",
    "Capture",
    "DensifyPolicy",
    "DensifyStatistics",
    "Distortion",
    "Gaussians",
    "InputError",
    "PaperDensify",
    "Query",
    "TrainImages",
    "View",
    "VisualHull",
    "World",
    "append_lines",
    "atomic_write",
    "carry",
    "check_numbers",
    "checked_pose",
    "common_point",
    "damage_named",
    "file_name",
    "folder_lock",
    "image_size",
    "initial_gaussians",
    "label_summary",
    "load_ply",
    "mask_doubt",
    "outside_hull",
    "printable",
    "prune",
    "read_capture",
    "read_image",
    "read_json",
    "read_mask",
    "read_queries",
    "read_train_images",
    "refuse_inside",
    "refuse_standing_background",
    "save_ply",
    "scene_extent",
    "silhouette",
    "split_holdout",
    "starting_hull",
    "starting_points",
    "subset_views",
    "true_poses",
    "visual_hull",
    "write_json",
]
