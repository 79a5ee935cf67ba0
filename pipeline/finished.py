"""What a finished training writes last, and whether one that is there fits the capture."""

from dataclasses import asdict
from typing import Any, NamedTuple

from scene import Capture, InputError, View, World, write_json

from .model_folder import FORMAT, ModelFolder, camera_to_json, provenance


class Trained(NamedTuple):
    """The outcome of a training, beside the files that it has written."""

    views: tuple[View, ...]  # that were trained on
    held_out: tuple[View, ...]
    n_gaussians: int
    quality: dict[str, float | None]  # on the views kept out
    seconds: float


def write_config(
    folder: ModelFolder, capture: Capture, settings: dict[str, Any], trained: Trained
) -> None:
    """Writes config.json, whose presence says that the run is finished; its scratch files go."""
    document = {
        "format": FORMAT,
        "name": capture.name,
        "settings": settings,
        "camera": lens_of_queries(trained.views),
        "background": capture.background,
        "world": asdict(capture.world),
        "n_gaussians": trained.n_gaussians,
        "views": [view.name for view in trained.views],
        "held_out": [view.name for view in trained.held_out],
        "held_out_quality": trained.quality,
        "training_seconds": trained.seconds,
        **provenance(),
    }
    write_json(folder.config_path, document)
    folder.checkpoint_path.unlink(missing_ok=True)
    folder.settings_path.unlink(missing_ok=True)


def lens_of_queries(views: tuple[View, ...]) -> dict[str, Any]:
    """The lens that queries are taken to have: that of most train views."""
    lenses = [camera_to_json(view.camera) for view in views]
    chosen = max(lenses, key=lenses.count)  # the first of equals
    if lenses.count(chosen) < len(lenses):
        print(
            f"the train views have several lenses: images to be judged are taken to have that of "
            f"{lenses.count(chosen)} of {len(lenses)} views (focal length {chosen['fx']:.1f} "
            f"pixels at {chosen['width']} x {chosen['height']}); with another, distances are wrong"
        )
    return chosen


def check_world(folder: ModelFolder, capture: Capture) -> None:
    """Raises InputError when an older version computed the finished model in another frame."""
    if World.from_json(folder.load_config().get("world")) != capture.world:
        raise InputError(
            f"'{folder.root}' was computed in other units by another version of this program: "
            "train it again with --overwrite"
        )
