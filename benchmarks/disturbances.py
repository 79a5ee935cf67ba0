"""Captures made worse on purpose, beside the input, which stays as it is."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from scene import InputError, read_capture, read_image, read_json, write_json

from .synthetic.cameras import noisy

_POSES = "transforms.json"
LIGHTS = {
    "as trained": (1.0, 1.0, 1.0),
    "exposure x 0.7": (0.7, 0.7, 0.7),
    "exposure x 1.4": (1.4, 1.4, 1.4),
    "warmer": (1.15, 1.0, 0.85),
}  # gains of r, g, b


@dataclass(frozen=True)
class Disturbance:
    """What differs from the capture as it is."""

    name: str
    share: float = 1.0  # of the train views
    degrees: float = 0.0  # errors of the train poses about each axis, standard deviation
    units: float = 0.0  # and along each axis, world units
    light: str = "as trained"  # of the queries: one of LIGHTS
    refine_poses: bool = False  # train.py --refine-poses

    @property
    def training(self) -> str:
        """Name of the model that it needs: queries in another light need none of their own."""
        if self.degrees or self.units:
            refined = "_refined" if self.refine_poses else ""
            return f"noise_{self.degrees:g}_{self.units:g}{refined}"
        return f"views_{self.share:g}"


AS_IS = Disturbance("as it is")
_NOISE = ((0.1, 0.002), (0.3, 0.005), (1.0, 0.02))  # degrees, world units
DISTURBANCES = (
    AS_IS,
    Disturbance("20 % of the views", share=0.2),
    Disturbance("40 % of the views", share=0.4),
    *(
        Disturbance(
            f"train poses off by {degrees:g} deg, {units:g}" + (", refined" if refined else ""),
            degrees=degrees,
            units=units,
            refine_poses=refined,
        )
        for degrees, units in _NOISE
        for refined in (False, True)
    ),
    *(Disturbance(f"queries: {light}", light=light) for light in LIGHTS if light != AS_IS.light),
)


def with_noisy_poses(source: Path, folder: Path, degrees: float, units: float, seed: int) -> Path:
    """The capture with errors in its train poses: another transforms.json beside links.

    Args:
        degrees, units: Standard deviations about and along each axis (`synthetic.cameras.noisy`).

    Raises:
        InputError: the capture has no transforms.json.
    """
    if not (source / _POSES).is_file():
        raise InputError(f"{source} has no {_POSES}: noisy poses are made for MAD's layout only.")
    if not (folder / _POSES).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        for entry in source.iterdir():
            if entry.name != _POSES:
                _link(folder / entry.name, entry)
        document = read_json(source / _POSES)
        for number, frame in enumerate(document["frames"]):
            random = np.random.default_rng([seed, number])
            pose = np.array(frame["transform_matrix"], np.float64)
            frame["transform_matrix"] = noisy(pose, random, degrees, units).tolist()
        write_json(folder / _POSES, document)
    return folder


def in_other_light(source: Path, folder: Path, light: str) -> Path:
    """The queries with the gains of a light on their stored values, background included.

    The folder has test/, ground_truth/ and nothing to train on.
    """
    if not folder.is_dir():
        capture = read_capture(source)
        temporary = folder.with_name(f".{folder.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        gains = np.array(LIGHTS[light], np.float32)
        for query in capture.queries:
            values = read_image(query.image_path).permute(1, 2, 0).numpy() * gains
            pixels = (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)
            path = temporary / query.image_path.relative_to(capture.root).with_suffix(".png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
        if (capture.root / "ground_truth").is_dir():
            _link(temporary / "ground_truth", capture.root / "ground_truth")
        temporary.rename(folder)
    return folder


def _link(link: Path, target: Path) -> None:
    if not link.is_symlink():
        link.symlink_to(target.resolve())
