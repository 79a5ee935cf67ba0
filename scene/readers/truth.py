"""True poses of queries: for scoring alone, nothing in the method may read them."""

from torch import Tensor

from ..capture import Capture
from .transforms import read_frames

_POSE_FILES = {"mad": "test_poses.json", "blender": "transforms_test.json"}


def true_poses(capture: Capture) -> dict[str, Tensor]:
    """Query name to world_to_camera [4, 4] float64; empty where the data set keeps no test poses.

    In the frame of the capture's cameras (`capture.world`).

    Raises:
        InputError: the file of test poses is damaged.
    """
    if capture.format not in _POSE_FILES:
        return {}
    path = capture.root / _POSE_FILES[capture.format]
    if not path.is_file():
        return {}
    known = {query.name for query in capture.queries}
    poses = {f.name.removeprefix("test/"): f.world_to_camera for f in read_frames(path)}
    return {n: capture.world.into_model(pose) for n, pose in poses.items() if n in known}
