"""What can be asked of the generator, and which of it makes no sense."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from scene import InputError

from .lens import Lens
from .objects import Blueprint
from .rigs import ABOVE, Rig
from .surroundings import Surroundings


@dataclass(frozen=True)
class SyntheticConfig:
    """What is rendered."""

    out: tyro.conf.Positional[Path]
    """Folder that is made; it must not be there yet."""
    seed: int = 0
    """Same seed and settings, same bytes."""
    blueprint: Annotated[Blueprint | None, tyro.conf.arg(name="object")] = None
    """Kind of object; default: bricks or machines by chance."""
    symmetric: bool = False
    """Two copies of the object, half a turn apart, that differ in the colour of one part."""
    gloss: float = 0.6
    """0 matte to 1 glossy."""
    light: Literal["object", "camera"] = "object"
    """What the lamps are fixed to; on a turntable always to the camera."""
    surroundings: Surroundings = "plain"
    """One colour; a sheet of paper with soft shadows; or a table in a cluttered room."""
    room_seed: int | None = None
    """Another room or sheet around the same object; default: as seed."""
    background: tuple[int, int, int] = (255, 255, 255)
    """Red, green, blue, 0 to 255: of plain surroundings and of the sheet."""
    rig: Rig = "sphere"
    """Where the train views are taken: the sphere evenly or at random, circles, a sphere with a gap
    of 60 degrees around x, the upper half, a turntable before a fixed camera."""
    size: int = 400
    """Width and height of the images, pixels."""
    views: int = 210
    """Train views."""
    queries: int = 25
    """Queries of each kind: good, Burrs, Missing, Stains."""
    good: int | None = None
    """Good queries, if not as many as of the other kinds."""
    views_per_defect: int = 1
    """Views of every object in test/; with more than one, view 2 of object 7 is 7_2.png."""
    masks: bool = False
    """Also masks/train/good/0.png ...: how much of a pixel the object covers, 0 to 255."""
    distortion: tuple[float, float] = (0.0, 0.0)
    """k1 and k2 of the train views' lens (OpenCV's radial distortion)."""
    board: bool = False
    """Lays the printed board of prepare.py under the object: 100 mm are one world unit."""
    query_focal: float = 1.0
    """Focal length of the queries' camera, times that of the train views."""
    query_distortion: tuple[float, float] = (0.0, 0.0)
    """k1 and k2 of the queries' lens (OpenCV's radial distortion)."""
    pose_noise: tuple[float, float] = (0.0, 0.0)
    """Errors of the written train poses, standard deviations: degrees, world units."""
    exposure_jitter: float = 0.0
    """Standard deviation of the logarithm of every image's exposure."""
    sensor_noise: float = 0.0
    """Standard deviation of the noise of every pixel, 0 to 1."""
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Processes; the images do not depend on their number."""

    @property
    def train_lens(self) -> Lens:
        """The lens of the train views."""
        return Lens(1.0, *self.distortion, fine=1)

    @property
    def query_lens(self) -> Lens:
        """The lens of the queries' camera."""
        return Lens(self.query_focal, *self.query_distortion)

    @property
    def good_queries(self) -> int:
        """Number of good queries."""
        return self.queries if self.good is None else self.good

    def check(self) -> None:
        """Refuses what makes no sense.

        Raises:
            InputError: the folder is there already, or a setting makes no sense.
        """
        if self.out.exists():
            raise InputError(f"{self.out} is there already: remove it or name another folder.")
        if min(self.seed, self.queries, self.good_queries, self.room_seed or 0) < 0:
            raise InputError("Seeds and numbers of queries are at least 0: choose larger ones.")
        if min(self.size, self.views, self.views_per_defect, self.workers) < 1:
            raise InputError("size, views, views_per_defect and workers are at least 1.")
        if not 0 <= self.gloss <= 1:
            raise InputError(f"gloss is 0 (matte) to 1 (glossy), not {self.gloss}.")
        if not all(0 <= channel <= 255 for channel in self.background):
            raise InputError("background is red, green and blue, each 0 to 255.")
        if min(*self.pose_noise, self.exposure_jitter, self.sensor_noise) < 0:
            raise InputError("Noise and jitter are not negative: choose 0 or more.")
        if self.surroundings != "plain" and self.rig not in ABOVE:
            raise InputError(
                f"With surroundings {self.surroundings} the object stands on something and cannot "
                f"be seen from below: choose the rig {' or '.join(ABOVE)}."
            )
        if self.board and self.surroundings == "plain":
            raise InputError("A board needs something to lie on: choose surroundings room.")
        self.train_lens.check("distortion")
        self.query_lens.check("query_distortion")
