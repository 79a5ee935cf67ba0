"""Writes a capture in MAD's layout: train views, queries with masks, true poses."""

import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from scene import InputError, write_json

from .cameras import ANGLE, Pose, noisy, opengl, query_pose, train_pose
from .defects import KINDS, LEAST, Maker, mask, visible_pixels
from .lights import random_rig
from .objects import Blueprint, random_object
from .shading import Look, Picture, Studio, to_srgb

_DRAWS = 60  # tries for a defect that is visible
_OBJECT, _LIGHT, _TRAIN, _QUERY, _NOISE = range(5)  # streams of random numbers


@dataclass(frozen=True)
class SyntheticConfig:
    """What is rendered."""

    out: Path
    """Folder that is made; it must not be there yet."""
    seed: int = 0
    """Same seed and settings, same bytes."""
    blueprint: Blueprint | None = None
    """Kind of object; default: by chance."""
    symmetric: bool = False
    """Two copies of the object, half a turn apart, that differ in the colour of one part."""
    gloss: float = 0.6
    """0 matte to 1 glossy."""
    light: Literal["object", "camera"] = "object"
    """What the lamps are fixed to."""
    background: tuple[int, int, int] = (255, 255, 255)
    """Red, green, blue, 0 to 255."""
    size: int = 400
    """Width and height of the images, pixels."""
    views: int = 210
    """Train views."""
    queries: int = 25
    """Queries of each kind: good, Burrs, Missing, Stains."""
    pose_noise: tuple[float, float] = (0.0, 0.0)
    """Errors of the written train poses, standard deviations: degrees, world units."""
    exposure_jitter: float = 0.0
    """Standard deviation of the logarithm of every image's exposure."""
    sensor_noise: float = 0.0
    """Standard deviation of the noise of every pixel, 0 to 1."""


def make_capture(config: SyntheticConfig) -> Path:
    """Renders a capture and returns its folder, which appears when it is complete.

    Raises:
        InputError: the folder is there already, or a setting makes no sense.
    """
    _check(config)
    out = config.out
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        Capture(config, temporary).write()
        os.replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out


class Capture:
    """One object under its lights, and the folder that its pictures go to."""

    def __init__(self, config: SyntheticConfig, root: Path) -> None:
        self.config, self.root = config, root
        self.assembly = random_object(self._random(_OBJECT), config.blueprint, config.symmetric)
        fixed = config.light == "camera"
        red, green, blue = (channel / 255 for channel in config.background)
        rig = random_rig(self._random(_LIGHT), fixed)
        self.look = Look(rig, fixed, config.gloss, (red, green, blue))
        self.studio = Studio(self.assembly, self.look)
        self.progress = tqdm(total=config.views + 4 * config.queries, unit="image")
        self.truth: list[dict[str, Any]] = []
        self.meta: dict[str, Any] = {}

    def write(self) -> None:
        """Writes everything."""
        frames = [self._train(index) for index in range(self.config.views)]
        write_json(self.root / "transforms.json", {"camera_angle_x": ANGLE, "frames": frames})
        for index in range(self.config.queries):
            random = self._random(_QUERY, 0, index)
            pose = query_pose(random)
            self._query("good", index, pose, self._picture(self.studio, pose), {})
        for kind, (label, maker) in enumerate(KINDS.items()):
            for index in range(self.config.queries):
                self._defect(label, index, maker, self._random(_QUERY, 1 + kind, index))
        write_json(self.root / "test_poses.json", {"camera_angle_x": ANGLE, "frames": self.truth})
        write_json(self.root / "test_meta.json", self.meta)
        settings = asdict(self.config) | {"out": self.config.out.name}
        write_json(self.root / "synthetic.json", settings | {"parts": len(self.assembly.parts)})
        self.progress.close()

    def _train(self, index: int) -> dict[str, Any]:
        """One train view; its frame, with the errors that are asked for."""
        random = self._random(_TRAIN, index)
        pose = train_pose(index, self.config.views, random)
        name = f"train/good/{index}.png"
        self._save(name, self._photo(self._picture(self.studio, pose), _TRAIN, index))
        self.progress.update()
        return _frame(
            name, noisy(opengl(pose), self._random(_NOISE, index), *self.config.pose_noise)
        )

    def _defect(self, label: str, index: int, maker: Maker, random: np.random.Generator) -> None:
        """One defective query with its mask: drawn again until the defect can be seen."""
        for _ in range(_DRAWS):
            pose = query_pose(random)
            good = self._picture(self.studio, pose)
            defect = maker(self.assembly, good, random)
            bad = self._picture(self.studio.changed(defect.assembly), pose)
            changed = mask(good, bad, defect.assembly)
            if visible_pixels(good, bad, changed) >= LEAST * (self.config.size / 400) ** 2:
                details = defect.details | {"mask_px": int(changed.sum())}
                self._query(label, index, pose, bad, details)
                path = f"ground_truth/{label}/{index}_mask.png"
                self._save(path, changed.astype(np.uint8) * 255)
                return
        raise InputError(f"No visible defect {label} was drawn: choose another seed.")

    def _query(
        self, label: str, index: int, pose: Pose, picture: Picture, details: dict[str, Any]
    ) -> None:
        name = f"test/{label}/{index}.png"
        stream = sum(map(ord, label))
        self._save(name, self._photo(picture, _QUERY, stream, index))
        frame = _frame(name, opengl(pose))
        self.truth.append(frame)
        self.meta[f"{label}/{index}"] = details | {"c2w": frame["transform_matrix"]}
        self.progress.update()

    def _picture(self, studio: Studio, pose: Pose) -> Picture:
        return studio.picture(pose, ANGLE, self.config.size)

    def _photo(self, picture: Picture, *stream: int) -> NDArray[np.uint8]:
        """What the camera makes of it: exposure, sRGB, noise, 8 bits."""
        random = self._random(_NOISE, *stream, 1)
        gain = np.exp(self.config.exposure_jitter * random.normal())
        values = to_srgb(picture.colours * np.float32(gain))
        noisy_values = values + self.config.sensor_noise * random.normal(size=values.shape)
        return np.asarray(np.clip(noisy_values, 0, 1) * 255 + 0.5, np.uint8)

    def _save(self, name: str, pixels: NDArray[np.uint8]) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)

    def _random(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, *stream])


def _frame(name: str, camera_to_world: Pose) -> dict[str, Any]:
    return {"file_path": f"./{name}", "transform_matrix": camera_to_world.tolist()}


def _check(config: SyntheticConfig) -> None:
    if config.out.exists():
        raise InputError(f"{config.out} is there already: remove it or name another folder.")
    if config.seed < 0 or min(config.size, config.views) < 1 or config.queries < 0:
        raise InputError("seed and queries are at least 0, size and views at least 1.")
    if not 0 <= config.gloss <= 1:
        raise InputError(f"gloss is 0 (matte) to 1 (glossy), not {config.gloss}.")
    if not all(0 <= channel <= 255 for channel in config.background):
        raise InputError("background is red, green and blue, each 0 to 255.")
    if min(*config.pose_noise, config.exposure_jitter, config.sensor_noise) < 0:
        raise InputError("Noise and jitter are not negative.")
