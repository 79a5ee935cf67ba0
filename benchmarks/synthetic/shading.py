"""From hits to an image: matte and glossy reflection, shadows, anti-aliasing, sRGB."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .builder import about_z
from .colours import to_linear
from .lights import SKY_TURNS, Lights, ShadowMap, Sky, lamp_map
from .parts import Assembly, Part
from .shapes import Array
from .textures import Texture
from .tracing import Hits, RayGrid, pinhole, trace

SAMPLES = 3  # rays per pixel along each axis
_F0 = 0.04  # reflectance of plastic and lacquer, seen straight on
_GRAZING = 0.2  # least cosine of the view for reflections: rounded edges would sparkle else
_BIAS = 0.012  # world units, of shadow maps
_HORIZON = 6.0  # steepness of the edge between floor and wall that metal reflects


@dataclass(frozen=True)
class Appearance:
    """How the object is photographed."""

    lights: Lights
    fixed_to_camera: bool
    gloss: float  # 0 matte .. 1 glossy
    background: tuple[float, float, float]  # sRGB, 0..1
    penumbra: float = 0.016  # world units
    turntable: bool = False  # the surroundings keep their place in the image


@dataclass(frozen=True)
class Rendering:
    """A rendering."""

    colours: Array  # linear, [H, W, 3], not clipped
    hits: Hits  # of the rays, [H * SAMPLES, W * SAMPLES]
    rays: RayGrid
    on_object: NDArray[np.bool_]  # of the rays

    @property
    def alpha(self) -> Array:
        """Share of every pixel that the object covers, [H, W] in 0..1."""
        size = len(self.colours)
        rays = self.on_object.reshape(size, SAMPLES, size, SAMPLES)
        return np.asarray(rays.mean(axis=(1, 3)), np.float32)


@dataclass(frozen=True)
class Surface:
    """The points that rays meet, N of them."""

    points: Array  # world, [3, N]
    normals: Array  # world, [3, N]
    albedo: Array  # linear, [3, N]
    shine: Array  # [N]
    metal: NDArray[np.bool_]  # [N]
    turns: NDArray[np.intp]  # which directions of the sky a ray asks, [N]


class Studio:
    """An object under its lights; shadow maps are made once where the lights do not move."""

    def __init__(self, assembly: Assembly, appearance: Appearance, sky: Sky | None = None) -> None:
        self.assembly, self.appearance = assembly, appearance
        self.sky = Sky(assembly.parts) if sky is None else sky
        self._shadows: list[ShadowMap] | None = None

    def changed(self, assembly: Assembly) -> "Studio":
        """The same lights on an object with a defect; shadow maps that still hold are kept."""
        if len(assembly.parts) > len(self.assembly.parts):  # small lumps do not hide the sky
            return Studio(assembly, self.appearance, self.sky)
        studio = Studio(assembly, self.appearance, self.sky if assembly.stains else None)
        if assembly.stains:
            studio._shadows = self._shadows
        return studio

    def render(self, world_to_camera: NDArray[np.float64], angle: float, size: int) -> Rendering:
        """Renders one view; `angle`: field of view, radians; `size`: pixels."""
        rays = pinhole(world_to_camera, angle, size, SAMPLES)
        scenery = self._scenery(rays)
        assembly = replace(self.assembly, scenery=scenery)
        hits = trace((*assembly.parts, *scenery), rays)
        plain = _plain(hits)
        rows, columns = np.nonzero(_shaded(hits, plain))
        surface = surface_of(assembly, hits, rays, rows, columns)
        colours = self._shade(surface, rays, scenery)
        weights = np.where(plain[rows // SAMPLES, columns // SAMPLES], SAMPLES, 1)
        pixels = rows // SAMPLES * size + columns // SAMPLES
        background = to_linear(np.array(self.appearance.background, np.float32))
        averaged = _averaged(colours, weights, pixels, size, background)
        on_object = (hits.part >= 0) & (hits.part < len(assembly.parts))
        return Rendering(averaged, hits, rays, on_object)

    def _scenery(self, rays: RayGrid) -> tuple[Part, ...]:
        """The surroundings; on a turntable they turn with the camera about the object."""
        if not self.appearance.turntable:
            return self.assembly.scenery
        turn = about_z(math.atan2(rays.centre[1], rays.centre[0]))
        return tuple(part.moved(turn, 1.0, np.zeros(3)) for part in self.assembly.scenery)

    def _shade(self, surface: Surface, rays: RayGrid, scenery: tuple[Part, ...]) -> Array:
        """Linear colours of surface points, [3, N]."""
        lights = self._lights(rays)
        away = _unit(surface.points - rays.centre.astype(np.float32)[:, None])
        normals = _towards_eye(surface.normals, away)
        facing = -(away * normals).sum(axis=0)
        mirrored = away + 2 * facing * normals
        ambient = self.sky.light(surface.points, surface.normals, lights, surface.turns)
        matte: Array = np.repeat(ambient[None], 3, axis=0)
        openness = ambient / np.maximum(lights.sky_at(surface.normals), 1e-6)
        glossy = np.repeat((np.minimum(openness, 1) * lights.sky_at(mirrored))[None], 3, axis=0)
        sharpness = 6 * 40 ** (self.appearance.gloss * surface.shine)
        for lamp, shadow in zip(lights.lamps, self._lamp_maps(lights, scenery), strict=True):
            towards, colour = (
                lamp.towards.astype(np.float32),
                lamp.colour.astype(np.float32)[:, None],
            )
            cosine = np.clip(towards @ surface.normals, 0, 1)
            front = np.flatnonzero(cosine > 0)
            raised = surface.points[:, front] + _BIAS * surface.normals[:, front]
            lit = shadow.sees(raised, _BIAS, self.appearance.penumbra)
            matte[:, front] += colour * (lit * cosine[front])
            lobe = 0.18 * sharpness * np.exp(sharpness * (towards @ mirrored - 1))
            glossy[:, front] += colour * (lit * lobe[front])
        fresnel = _F0 + (1 - _F0) * (1 - facing) ** 5 * self.appearance.gloss
        strength = self.appearance.gloss * surface.shine * fresnel
        colours: Array = surface.albedo * matte * (1 - strength) + glossy * strength
        chosen = surface.metal
        if chosen.any():
            edge = _HORIZON * (lights.zenith.astype(np.float32) @ mirrored[:, chosen])
            room = np.float32(0.5) + 1 / (1 + np.exp(-edge))  # a dark floor under bright walls
            tint = surface.albedo[:, chosen]
            tint = tint + (1 - tint) * (1 - facing[chosen]) ** 5
            colours[:, chosen] = tint * room * glossy[:, chosen]
        return colours

    def _lights(self, rays: RayGrid) -> Lights:
        if not self.appearance.fixed_to_camera:
            return self.appearance.lights
        return self.appearance.lights.turned(rays.world_to_camera[:3, :3].T)

    def _lamp_maps(self, lights: Lights, scenery: tuple[Part, ...]) -> list[ShadowMap]:
        if self._shadows is not None:
            return self._shadows
        shadows = [lamp_map(self.assembly.parts, scenery, lamp) for lamp in lights.lamps]
        if not self.appearance.fixed_to_camera:
            self._shadows = shadows
        return shadows


def _towards_eye(normals: Array, away: Array) -> Array:
    """Normals [3, N] bent until what is seen does not face away from the eye."""
    lacking = np.maximum(_GRAZING + (away * normals).sum(axis=0), 0)
    return _unit(normals - lacking * away)


def _plain(hits: Hits) -> NDArray[np.bool_]:
    """Pixels [H, W] all of whose rays meet the same surface."""
    same = hits.part[::SAMPLES, ::SAMPLES] >= 0
    for which in (hits.part, hits.cut):
        first = which[::SAMPLES, ::SAMPLES]
        for row in range(SAMPLES):
            for column in range(SAMPLES):
                same &= which[row::SAMPLES, column::SAMPLES] == first
    return same


def _shaded(hits: Hits, plain: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Rays that are shaded: of plain pixels those on the diagonal, else all that meet something."""
    shaded = hits.part >= 0
    for row in range(SAMPLES):
        for column in range(SAMPLES):
            if row != column:
                shaded[row::SAMPLES, column::SAMPLES] &= ~plain
    return shaded


def _averaged(
    colours: Array,
    weights: NDArray[np.intp],
    pixels: NDArray[np.intp],
    size: int,
    background: Array,
) -> Array:
    """Means [size, size, 3] over the rays of every pixel; what met nothing has the background."""
    count = size * size
    rest = SAMPLES**2 - np.bincount(pixels, weights, count)
    channels = [
        (np.bincount(pixels, weights * colour, count) + rest * behind) / SAMPLES**2
        for colour, behind in zip(colours, background, strict=True)
    ]
    return np.stack(channels, axis=-1).astype(np.float32).reshape(size, size, 3)


def surface_of(
    assembly: Assembly, hits: Hits, rays: RayGrid, rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> Surface:
    """Normals and materials where rays meet the object."""
    points = rays.points(rows, columns, hits.depth[rows, columns])
    normals, albedo = np.empty_like(points), np.empty_like(points)
    shine = np.empty(points.shape[1], np.float32)
    metal = np.zeros(points.shape[1], np.bool_)
    which, cut = hits.part[rows, columns], hits.cut[rows, columns]
    parts = (*assembly.parts, *assembly.scenery)
    order = np.argsort(which, kind="stable")
    bounds = np.searchsorted(which[order], np.arange(len(parts) + 1))
    for index, part in enumerate(parts):
        chosen = order[bounds[index] : bounds[index + 1]]
        if len(chosen) == 0:
            continue
        local = part.place.into(points[:, chosen])
        own = part.shape.normal(local)
        normals[:, chosen] = part.place.rotation.astype(np.float32) @ own
        for number, hole in enumerate(part.cuts):
            inside = chosen[cut[chosen] == number]
            inward = hole.shape.normal(hole.place.into(points[:, inside]))
            normals[:, inside] = -hole.place.rotation.astype(np.float32) @ inward
        shine[chosen], metal[chosen] = part.material.shine, part.material.metal
        albedo[:, chosen] = _colours(part.material.colour, part.material.texture, local, own)
    for stain in assembly.stains:
        cover = stain.cover(points) * (which < len(assembly.parts))
        albedo += cover * (to_linear(np.array(stain.colour, np.float32))[:, None] - albedo)
        metal &= cover < 0.5 * stain.opacity
    return Surface(points, normals, albedo, shine, metal, rows % SKY_TURNS)


def _colours(
    colour: tuple[float, float, float], texture: Texture | None, points: Array, normals: Array
) -> Array:
    """Linear colours [3, N] at points and normals of a part's frame [3, N]."""
    plain = to_linear(np.array(colour, np.float32))[:, None]
    if texture is None:
        return np.repeat(plain, points.shape[1], axis=1)
    second = to_linear(np.array(texture.colour, np.float32))[:, None]
    return plain + texture.cover(points, normals) * (second - plain)


def _unit(vectors: Array) -> Array:
    return vectors / np.sqrt((vectors * vectors).sum(axis=0))
