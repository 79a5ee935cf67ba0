"""Takes the images of one capture: an object under its lights, with and without defects."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scene import InputError

from .cameras import Pose, noisy, opengl
from .colours import to_srgb
from .config import SyntheticConfig
from .defects import KINDS, LEAST, Defect, mask, visible_pixels
from .lens import Lens
from .lights import random_lights
from .objects import random_object
from .rigs import query_pose, train_pose
from .shading import Appearance, Rendering, Studio
from .surroundings import scenery

_DRAWS = 60  # tries for a defect that is visible
_OBJECT, _LIGHT, _TRAIN, _QUERY, _NOISE, _ROOM = range(6)  # streams of random numbers
_PENUMBRA = 0.06  # world units, of the lamps where the object stands on something


@dataclass(frozen=True)
class Taken:
    """One image that was written."""

    name: str  # "train/good/0"
    camera_to_world: Pose  # OpenGL axes; with the errors that are asked for
    details: dict[str, Any]

    @property
    def frame(self) -> dict[str, Any]:
        """Its entry in transforms.json."""
        matrix = self.camera_to_world.tolist()
        return {"file_path": f"./{self.name}.png", "transform_matrix": matrix}


class Photographer:
    """Renders and writes images; every image has random numbers of its own."""

    def __init__(self, config: SyntheticConfig, root: Path) -> None:
        self.config, self.root = config, root
        assembly = random_object(self._random(_OBJECT), config.blueprint, config.symmetric)
        red, green, blue = (channel / 255 for channel in config.background)
        room = np.random.default_rng([_or(config.room_seed, config.seed), _ROOM])
        around = scenery(config.surroundings, assembly, (red, green, blue), room, config.board)
        self.assembly = replace(assembly, scenery=around)
        turntable = config.rig == "turntable"
        fixed = turntable or config.light == "camera"
        lights = random_lights(self._random(_LIGHT), fixed, from_below=not around)
        appearance = Appearance(
            lights, fixed, config.gloss, (red, green, blue), turntable=turntable
        )
        self.appearance = replace(appearance, penumbra=_PENUMBRA) if around else appearance
        self.studio = Studio(self.assembly, self.appearance)

    def train(self, index: int) -> list[Taken]:
        """One train view."""
        random = self._random(_TRAIN, index)
        pose = train_pose(index, self.config.views, random, self.config.rig)
        lens = self.config.train_lens
        rendering = self._render(self.studio, pose, lens)
        name = f"train/good/{index}"
        self._write(name, rendering, lens, (_TRAIN, index))
        errors = self.config.pose_noise
        written = noisy(opengl(pose), self._random(_NOISE, index), *errors)
        return [Taken(name, written, {})]

    def good(self, index: int) -> list[Taken]:
        """The views of a good object in test/."""
        random = self._random(_QUERY, 0, index)
        taken = []
        for view in range(self.config.views_per_defect):
            pose = query_pose(random, self.config.rig)
            rendering = self._render(self.studio, pose, self.config.query_lens)
            taken.append(self._query("good", index, view, pose, rendering, {}))
        return taken

    def defect(self, label: str, index: int) -> list[Taken]:
        """The views of a defective object, with masks; in each of them the defect can be seen.

        Raises:
            InputError: no visible defect was drawn.
        """
        random = self._random(_QUERY, 1 + list(KINDS).index(label), index)
        taken: list[Taken] = []
        defect, studio = None, self.studio
        for _ in range(_DRAWS * self.config.views_per_defect):
            pose = query_pose(random, self.config.rig)
            good = self._render(self.studio, pose, self.config.query_lens)
            if defect is None or not taken:  # not visible from anywhere yet: another one
                defect = KINDS[label](self.assembly, good, random)
                studio = self.studio.changed(defect.assembly)
            bad = self._render(studio, pose, self.config.query_lens)
            changed = mask(good, bad, defect.assembly)
            least = LEAST * (len(good.colours) / 400) ** 2
            if visible_pixels(good, bad, changed) < least:
                continue
            taken.append(self._defective(label, index, len(taken), pose, bad, changed, defect))
            if len(taken) == self.config.views_per_defect:
                break
        if not taken:
            raise InputError(f"No visible defect {label} was drawn: choose another seed.")
        return taken

    def empty(self) -> None:
        """The scene without the object, from the fixed camera of a turntable."""
        studio = Studio(replace(self.assembly, parts=()), self.appearance)
        pose = train_pose(0, self.config.views, self._random(_TRAIN, 0), self.config.rig)
        self._save("empty.png", self._photo(self._render(studio, pose, Lens()), Lens(), (_TRAIN,)))

    def _defective(
        self,
        label: str,
        index: int,
        view: int,
        pose: Pose,
        bad: Rendering,
        changed: NDArray[np.bool_],
        defect: Defect,
    ) -> Taken:
        """Writes one view of a defective object and its mask."""
        shown = self.config.query_lens.image(changed.astype(np.float32), self.config.size) >= 0.5
        details = defect.details | {"mask_px": int(shown.sum())}
        taken = self._query(label, index, view, pose, bad, details)
        path = f"ground_truth/{taken.name.removeprefix('test/')}_mask.png"
        self._save(path, shown.astype(np.uint8) * 255)
        return taken

    def _query(
        self,
        label: str,
        index: int,
        view: int,
        pose: Pose,
        rendering: Rendering,
        details: dict[str, Any],
    ) -> Taken:
        several = self.config.views_per_defect > 1
        name = f"test/{label}/{index}_{view}" if several else f"test/{label}/{index}"
        stream = (_QUERY, sum(map(ord, label)), index, *([view] if several else []))
        self._write(name, rendering, self.config.query_lens, stream)
        return Taken(name, opengl(pose), details | ({"object": index} if several else {}))

    def _render(self, studio: Studio, pose: Pose, lens: Lens) -> Rendering:
        return studio.render(pose, lens.angle, lens.rendered_size(self.config.size))

    def _write(self, name: str, rendering: Rendering, lens: Lens, stream: tuple[int, ...]) -> None:
        """Writes an image, and its mask where masks are asked for."""
        self._save(f"{name}.png", self._photo(rendering, lens, stream))
        if self.config.masks:
            alpha = lens.image(rendering.alpha, self.config.size)
            self._save(f"masks/{name}.png", np.asarray(alpha * 255 + 0.5, np.uint8))

    def _photo(
        self, rendering: Rendering, lens: Lens, stream: tuple[int, ...]
    ) -> NDArray[np.uint8]:
        """What the camera makes of it: lens, exposure, sRGB, noise, 8 bits."""
        random = self._random(_NOISE, *stream, 1)
        gain = np.exp(self.config.exposure_jitter * random.normal())
        values = to_srgb(lens.image(rendering.colours, self.config.size) * np.float32(gain))
        noisy_values = values + self.config.sensor_noise * random.normal(size=values.shape)
        return np.asarray(np.clip(noisy_values, 0, 1) * 255 + 0.5, np.uint8)

    def _save(self, name: str, pixels: NDArray[np.uint8]) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)

    def _random(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, *stream])


def _or(value: int | None, default: int) -> int:
    return default if value is None else value
