"""From hits to a picture: matte and glossy reflection, shadows, anti-aliasing, sRGB."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .lights import SKY_TURNS, Rig, ShadowMap, Sky, lamp_map
from .parts import Assembly
from .shapes import Array
from .textures import Texture
from .tracing import Hits, RayGrid, pinhole, trace

SAMPLES = 3  # rays per pixel along each axis
_F0 = 0.04  # reflectance of plastic and lacquer, seen straight on
_GRAZING = 0.2  # least cosine of the view for reflections: rounded edges would sparkle else
_BIAS = 0.012  # world units, of shadow maps
_PENUMBRA = 0.016  # world units


@dataclass(frozen=True)
class Look:
    """How the object is photographed."""

    rig: Rig
    fixed_to_camera: bool
    gloss: float  # 0 matte .. 1 glossy
    background: tuple[float, float, float]  # sRGB, 0..1


@dataclass(frozen=True)
class Picture:
    """A rendering."""

    colours: Array  # linear, [H, W, 3], not clipped
    hits: Hits  # of the rays, [H * SAMPLES, W * SAMPLES]
    rays: RayGrid


@dataclass(frozen=True)
class Surface:
    """The points that rays meet, N of them."""

    points: Array  # world, [3, N]
    normals: Array  # world, [3, N]
    albedo: Array  # linear, [3, N]
    shine: Array  # [N]
    turns: NDArray[np.intp]  # which directions of the sky a ray asks, [N]


class Studio:
    """An object under its lights; shadow maps are made once where the lights do not move."""

    def __init__(self, assembly: Assembly, look: Look, sky: Sky | None = None) -> None:
        self.assembly, self.look = assembly, look
        self.sky = Sky(assembly.parts) if sky is None else sky
        self._shadows: list[ShadowMap] | None = None

    def changed(self, assembly: Assembly) -> "Studio":
        """The same lights on an object with a defect; shadow maps that still hold are kept."""
        if len(assembly.parts) > len(self.assembly.parts):  # small lumps do not hide the sky
            return Studio(assembly, self.look, self.sky)
        studio = Studio(assembly, self.look, self.sky if assembly.stains else None)
        if assembly.stains:
            studio._shadows = self._shadows
        return studio

    def picture(self, world_to_camera: NDArray[np.float64], angle: float, size: int) -> Picture:
        """Renders one view; `angle`: field of view, radians; `size`: pixels."""
        rays = pinhole(world_to_camera, angle, size, SAMPLES)
        hits = trace(self.assembly.parts, rays)
        plain = _plain(hits)
        rows, columns = np.nonzero(_shaded(hits, plain))
        colours = self._shade(surface_of(self.assembly, hits, rays, rows, columns), rays)
        weights = np.where(plain[rows // SAMPLES, columns // SAMPLES], SAMPLES, 1)
        pixels = rows // SAMPLES * size + columns // SAMPLES
        background = to_linear(np.array(self.look.background, np.float32))
        return Picture(_averaged(colours, weights, pixels, size, background), hits, rays)

    def _shade(self, surface: Surface, rays: RayGrid) -> Array:
        """Linear colours of surface points, [3, N]."""
        rig = self._rig(rays)
        away = _unit(surface.points - rays.centre.astype(np.float32)[:, None])
        normals = _towards_eye(surface.normals, away)
        facing = -(away * normals).sum(axis=0)
        mirrored = away + 2 * facing * normals
        ambient = self.sky.light(surface.points, surface.normals, rig, surface.turns)
        matte: Array = np.repeat(ambient[None], 3, axis=0)
        openness = ambient / np.maximum(rig.sky_at(surface.normals), 1e-6)
        glossy = np.repeat((np.minimum(openness, 1) * rig.sky_at(mirrored))[None], 3, axis=0)
        sharpness = 6 * 40 ** (self.look.gloss * surface.shine)
        for lamp, shadow in zip(rig.lamps, self._lamp_maps(rig), strict=True):
            towards, colour = (
                lamp.towards.astype(np.float32),
                lamp.colour.astype(np.float32)[:, None],
            )
            cosine = np.clip(towards @ surface.normals, 0, 1)
            front = np.flatnonzero(cosine > 0)
            raised = surface.points[:, front] + _BIAS * surface.normals[:, front]
            lit = shadow.sees(raised, _BIAS, _PENUMBRA)
            matte[:, front] += colour * (lit * cosine[front])
            lobe = 0.18 * sharpness * np.exp(sharpness * (towards @ mirrored - 1))
            glossy[:, front] += colour * (lit * lobe[front])
        fresnel = _F0 + (1 - _F0) * (1 - facing) ** 5 * self.look.gloss
        strength = self.look.gloss * surface.shine * fresnel
        return surface.albedo * matte * (1 - strength) + glossy * strength

    def _rig(self, rays: RayGrid) -> Rig:
        if not self.look.fixed_to_camera:
            return self.look.rig
        return self.look.rig.turned(rays.world_to_camera[:3, :3].T)

    def _lamp_maps(self, rig: Rig) -> list[ShadowMap]:
        if self._shadows is not None:
            return self._shadows
        shadows = [lamp_map(self.assembly.parts, lamp) for lamp in rig.lamps]
        if not self.look.fixed_to_camera:
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
    which, cut = hits.part[rows, columns], hits.cut[rows, columns]
    order = np.argsort(which, kind="stable")
    bounds = np.searchsorted(which[order], np.arange(len(assembly.parts) + 1))
    for index, part in enumerate(assembly.parts):
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
        shine[chosen] = part.material.shine
        albedo[:, chosen] = _colours(part.material.colour, part.material.texture, local, own)
    for stain in assembly.stains:
        cover = stain.cover(points)
        albedo += cover * (to_linear(np.array(stain.colour, np.float32))[:, None] - albedo)
    return Surface(points, normals, albedo, shine, rows % SKY_TURNS)


def _colours(
    colour: tuple[float, float, float], texture: Texture | None, points: Array, normals: Array
) -> Array:
    """Linear colours [3, N] at points and normals of a part's frame [3, N]."""
    plain = to_linear(np.array(colour, np.float32))[:, None]
    if texture is None:
        return np.repeat(plain, points.shape[1], axis=1)
    second = to_linear(np.array(texture.colour, np.float32))[:, None]
    return plain + texture.cover(points, normals) * (second - plain)


def to_linear(values: Array) -> Array:
    """sRGB to linear light (IEC 61966-2-1), both 0..1."""
    low = values <= 0.04045
    return np.where(low, values / 12.92, ((values + 0.055) / 1.055) ** 2.4).astype(np.float32)


def to_srgb(values: Array) -> Array:
    """Linear light to sRGB, clipped to 0..1."""
    values = np.clip(values, 0, 1)
    low = values <= 0.0031308
    return np.where(low, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055).astype(np.float32)


def _unit(vectors: Array) -> Array:
    return vectors / np.sqrt((vectors * vectors).sum(axis=0))
