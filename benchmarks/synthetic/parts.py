"""Parts: a body at its place, what it is made of, and what has been cut out of it."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .shapes import Array, Shape
from .textures import Texture


@dataclass(frozen=True)
class Placement:
    """Where a body stands: world = rotation @ local + centre."""

    rotation: NDArray[np.float64]  # [3, 3]
    centre: NDArray[np.float64]  # [3]

    def into(self, points: NDArray[np.floating]) -> Array:
        """World points [3, N] in the body's frame."""
        moved = self.rotation.T @ (points - self.centre[:, None])
        return np.asarray(moved, np.float32)

    def moved(
        self, rotation: NDArray[np.float64], scale: float, shift: NDArray[np.float64]
    ) -> "Placement":
        """This place after the world was turned, scaled and shifted, in this order."""
        return Placement(rotation @ self.rotation, scale * (rotation @ self.centre) + shift)


@dataclass(frozen=True)
class Material:
    """Colour of a part, and how much it shines."""

    colour: tuple[float, float, float]  # sRGB, 0..1
    texture: Texture | None = None
    shine: float = 1.0  # times the gloss of the capture
    metal: bool = False  # reflects in its own colour and scatters nothing


@dataclass(frozen=True)
class Cut:
    """A body taken away from a part."""

    shape: Shape
    place: Placement


@dataclass(frozen=True)
class Part:
    """A body of one material; parts of one group come off together."""

    shape: Shape
    place: Placement
    material: Material
    group: int
    cuts: tuple[Cut, ...] = ()
    casts: bool = True  # shadows of lamps

    def corners(self) -> NDArray[np.float64]:
        """The corners of a box around it, world frame, [3, 8]."""
        signs = np.array(np.meshgrid(*[(-1, 1)] * 3)).reshape(3, 8)
        local = signs * self.shape.half[:, None].astype(np.float64)
        return self.place.rotation @ local + self.place.centre[:, None]

    def without(self, cut: Cut) -> "Part":
        """The part with one more piece taken away."""
        return replace(self, cuts=(*self.cuts, cut))

    def moved(
        self, rotation: NDArray[np.float64], scale: float, shift: NDArray[np.float64]
    ) -> "Part":
        """The part after the world was turned, scaled and shifted, in this order."""
        cuts = tuple(
            Cut(cut.shape.scaled(scale), cut.place.moved(rotation, scale, shift))
            for cut in self.cuts
        )
        texture = self.material.texture
        if texture is not None:
            period, radius = scale * texture.period, scale * texture.radius
            texture = replace(texture, period=period, radius=radius)
        return replace(
            self,
            shape=self.shape.scaled(scale),
            place=self.place.moved(rotation, scale, shift),
            material=replace(self.material, texture=texture),
            cuts=cuts,
        )


@dataclass(frozen=True)
class Stain:
    """Another colour on all surfaces within a ball of ragged outline."""

    centre: NDArray[np.float64]  # [3]
    radius: float
    colour: tuple[float, float, float]  # sRGB
    opacity: float
    ragged: NDArray[np.float64]  # [4, 3] wave vectors of the outline

    def cover(self, points: Array) -> Array:
        """How much of the colour lies on world points [3, N], [N] in 0..opacity."""
        offset = points - self.centre[:, None]
        waves = np.sin(self.ragged @ offset).sum(axis=0)
        distance = np.sqrt((offset * offset).sum(axis=0)) * (1 + 0.09 * waves)
        soft = 0.15 * self.radius
        share = np.clip((self.radius - distance) / soft + 0.5, 0, 1)
        return np.asarray(self.opacity * share, np.float32)


@dataclass(frozen=True)
class Assembly:
    """An object: its parts, the stains on them, and what stands around it."""

    parts: tuple[Part, ...]
    stains: tuple[Stain, ...] = ()
    scenery: tuple[Part, ...] = ()
    faint: bool = False  # stains have nearly the colour of what they lie on

    @property
    def groups(self) -> list[int]:
        """The groups that there are."""
        return sorted({part.group for part in self.parts})
