"""What the object is: captures, cameras, Gaussians, densification, files."""

from .camera import Camera
from .capture import Capture, Query, View, split_holdout, subset_views
from .cutout import Silhouette, before_colour, edge_tolerance, soft_edge, with_pose
from .densify import CappedDensify, DensifyPolicy, DensifyStatistics, PaperDensify, carry, prune
from .distortion import Distortion
from .empty_pictures import EmptyPictures
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
from .grabcut import grabcut_outline
from .hull import VisualHull, outside_hull, visual_hull
from .images import (
    TrainImages,
    image_size,
    read_image,
    read_mask,
    read_share,
    read_train_images,
    read_with_alpha,
    silhouette,
)
from .initialise import initial_gaussians, scene_extent, starting_hull, starting_points
from .mask_files import MaskFiles, match_masks
from .masks import mask_doubt
from .names import file_name, printable
from .plain_field import plain_field
from .ply import load_ply, save_ply
from .query_lens import QueryLens
from .readers import label_summary, read_capture, read_queries, true_poses
from .readers.camera_file import exif_lens, query_lens
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
    "EmptyPictures",
    "Gaussians",
    "InputError",
    "MaskFiles",
    "PaperDensify",
    "Query",
    "QueryLens",
    "Silhouette",
    "TrainImages",
    "View",
    "VisualHull",
    "World",
    "append_lines",
    "atomic_write",
    "before_colour",
    "carry",
    "check_numbers",
    "checked_pose",
    "common_point",
    "damage_named",
    "edge_tolerance",
    "exif_lens",
    "file_name",
    "folder_lock",
    "grabcut_outline",
    "image_size",
    "initial_gaussians",
    "label_summary",
    "load_ply",
    "mask_doubt",
    "match_masks",
    "outside_hull",
    "plain_field",
    "printable",
    "prune",
    "query_lens",
    "read_capture",
    "read_image",
    "read_json",
    "read_mask",
    "read_queries",
    "read_share",
    "read_train_images",
    "read_with_alpha",
    "refuse_inside",
    "refuse_standing_background",
    "save_ply",
    "scene_extent",
    "silhouette",
    "soft_edge",
    "split_holdout",
    "starting_hull",
    "starting_points",
    "subset_views",
    "true_poses",
    "visual_hull",
    "with_pose",
    "write_json",
]
