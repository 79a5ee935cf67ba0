"""A query, from its file to the object before the model's plain background.

Which rule tells object and background apart is chosen by what is known, from sure to unsure:
transparency, a mask, pictures of the empty place, one colour, a smooth field; else it is unknown.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from anomaly import background_gains
from scene import (
    Camera,
    Distortion,
    EmptyPictures,
    InputError,
    MaskFiles,
    Query,
    QueryLens,
    Silhouette,
    before_colour,
    exif_lens,
    match_masks,
    plain_field,
    query_lens,
    read_image,
    read_share,
    read_with_alpha,
    soft_edge,
    with_pose,
)
from scene.decode import Header, fits, read_header
from scene.readers.folders import list_images

ALPHA, MASK, EMPTY = "alpha", "mask", "empty picture"
PLAIN, UNEVEN, SCENE, UNKNOWN = "plain", "uneven", "scene", "unknown"
_NEAR, _BEHIND = 8 / 255, 0.4  # colours so near, of so much of the border: the plain background
_ALMOST, _FEW = 40 / 255, 0.05  # so near, beyond that, are few: else it is noisy or uneven
_TINT, _GAINS = 1.5, (0.4, 2.5)  # gains farther apart or larger mean paper of another colour
_LITTLE = 0.12  # of a gain that a lamp or a camera has for sure
_ONE_COLOUR = 4 / 255  # between the darkest and the brightest pixel of an image of nothing
_IGNORED = 0.02  # of a pixel: what is ignored of it, at least, for it not to be inspected


@dataclass(frozen=True)
class QuerySetup:
    """What the user says of how queries were taken."""

    masks: MaskFiles | None = None  # where the object is
    ignored: MaskFiles | None = None  # what is never inspected
    empty: tuple[Path, ...] = ()  # pictures of the same camera without the part
    lens: QueryLens | None = None  # of their camera; None: that of the train views


@dataclass(frozen=True)
class ReadQuery:
    """A query as it is compared with the model."""

    image: Tensor  # [3, H, W] at the size of the model, before its background where `mask` is known
    mask: Tensor | None  # [H, W] in 0..1, how much of a pixel the object covers; None: not cut out
    rule: str  # which of the rules above told object and background apart
    background: str  # the same as a sentence
    ignored: Tensor | None = None  # [H, W] bool, what is not to be inspected
    uncut: Tensor | None = None  # [3, H, W] where the object was cut out by a guess, or is not
    sure: Tensor | None = None  # [H, W] bool, what is no shadow in what was cut out

    def at_pose(self, covered: Tensor, background: Tensor) -> Tensor:
        """The image [3, H, W] before a colour [3], where the model covers pixels [H, W] bool.

        What has the colour of a shadow is object there, and nowhere else.
        """
        if self.uncut is None or self.sure is None:
            return self.image
        values = self.uncut.permute(1, 2, 0).numpy()
        alpha = with_pose(values, self.sure.numpy(), covered.cpu().numpy())
        red, green, blue = background.tolist()
        return before_colour(values, alpha, (red, green, blue))


@dataclass(frozen=True)
class QueryReader:
    """Reads queries at the size of the model and undoes the lens of its train views."""

    camera: Camera
    background: Tensor  # [3] of the model, on the host
    is_plain: bool  # whether the train views stood before it
    white: float | None = None
    lens: Distortion | None = None
    turns: bool = True
    setup: QuerySetup = field(default_factory=QuerySetup)

    def __call__(self, path: Path) -> ReadQuery:
        """Raises InputError if a file cannot be read, has another aspect, or shows nothing."""
        orientation = self._orientation(read_header(path), path)
        masks, size = self.setup.masks, (self.camera.width, self.camera.height)
        image, alpha = read_with_alpha(
            path, size, self._colour, self.white, self.undone, orientation,
            None if masks is None else masks.needed(path),
        )  # fmt: skip
        if alpha is not None and not bool((alpha > 0.5).any()):
            raise InputError(f"'{path}': its mask or transparency leaves nothing: correct it")
        if float((image.amax(dim=(1, 2)) - image.amin(dim=(1, 2))).max()) <= _ONE_COLOUR:
            raise InputError(f"'{path}' shows a single colour and no object: take it again")
        found, ignored = self._isolated(path, image, alpha), self._ignored(path, orientation)
        if ignored is None:
            return found
        blank = torch.where(ignored, self.background[:, None, None], found.image)
        return replace(found, image=blank, ignored=ignored)

    def _isolated(self, path: Path, image: Tensor, alpha: Tensor | None) -> ReadQuery:
        """An image [3, H, W] by the first rule that applies."""
        if alpha is not None:
            masks = self.setup.masks
            if masks is None:
                return ReadQuery(image, alpha, ALPHA, "cut out by the image's own transparency")
            return ReadQuery(image, alpha, MASK, f"cut out by a mask of {masks.source}")
        if self.setup.empty:
            return self._before_empty(path, image)
        if not self.is_plain:
            return ReadQuery(image, None, SCENE, "part of the model, like that of the train views")
        gains = background_gains(image, self.background)
        if _is_light(gains):
            found = self._before_field(image) if _is_much(gains) else None
            if found is not None:  # grey paper, or dim light: that is told on the object
                return found
            image = (image * gains[:, None, None]).clamp(0.0, 1.0)
        near, almost = self._near_border(image)
        if near >= _BEHIND and almost <= _FEW:
            return ReadQuery(image, None, PLAIN, "plain, of one colour")
        found = self._before_field(image)
        if found is not None:
            return found
        if near >= _BEHIND:
            return ReadQuery(image, None, PLAIN, "plain, of one colour, as far as can be seen")
        text = "unknown: it is neither plain nor given"
        return ReadQuery(image, None, UNKNOWN, text, uncut=image)

    def _before_empty(self, path: Path, image: Tensor) -> ReadQuery:
        """An image [3, H, W] of a place of which there are pictures without the part."""
        silhouette, gain = self._empty.silhouette(image.permute(1, 2, 0).numpy())
        if not silhouette.mask.any():
            raise InputError(f"'{path}' shows nothing that the empty pictures do not: check it")
        count = len(self.setup.empty)
        pictures = "the empty picture" if count == 1 else f"{count} empty pictures"
        light = "" if abs(gain - 1) < 0.01 else f", which is {gain:.2f} times as bright"
        text = f"cut out by the difference from {pictures}{light}"
        return self._cut(image, silhouette, EMPTY, text)

    def _cut(self, image: Tensor, silhouette: Silhouette, rule: str, text: str) -> ReadQuery:
        """An image [3, H, W] of which the silhouette is before the model's background."""
        values = image.permute(1, 2, 0).numpy()
        alpha = soft_edge(values, silhouette.mask)
        return ReadQuery(
            before_colour(values, alpha, self._colour), torch.from_numpy(alpha), rule, text,
            uncut=image, sure=torch.from_numpy(silhouette.sure),
        )  # fmt: skip

    @cached_property
    def _empty(self) -> EmptyPictures:
        """Read once. Raises InputError."""
        pictures = []
        for path in self.setup.empty:
            orientation = self._orientation(read_header(path), path)
            size = (self.camera.width, self.camera.height)
            image = read_image(path, size, self._colour, self.white, self.undone, orientation)
            pictures.append(image.permute(1, 2, 0).numpy())
        return EmptyPictures.of(pictures)

    def _ignored(self, path: Path, orientation: int) -> Tensor | None:
        """What of an image is not to be inspected, [H, W] bool; None where nothing is.

        That is what is asked for, and what lies beyond the field of view of the query's camera.
        """
        camera, setup = self.camera, self.setup
        found = torch.zeros(camera.height, camera.width, dtype=torch.bool)
        if setup.lens is not None:
            found |= ~setup.lens.seen()
        mask = None if setup.ignored is None else setup.ignored.by_image.get(path)
        if mask is not None:
            size = (camera.width, camera.height)
            found |= read_share(mask, size, self.undone, orientation) > _IGNORED
        return found if bool(found.any()) else None

    @property
    def undone(self) -> Distortion | QueryLens | None:
        """The lens that is undone in queries and their masks."""
        return self.lens if self.setup.lens is None else self.setup.lens

    @property
    def _colour(self) -> tuple[float, float, float]:
        red, green, blue = self.background.tolist()
        return red, green, blue

    def _before_field(self, image: Tensor) -> ReadQuery | None:
        """An image [3, H, W] before a plain background that is noisy or uneven; None if not."""
        field = plain_field(image.permute(1, 2, 0).numpy())
        if field is None:
            return None
        tolerated = f"pixels differ from it by {255 * field.spread:.0f} of 255"
        text = f"plain, of another colour or noisy: {tolerated}"
        if not field.is_even:
            text = f"plain but uneven, by {255 * field.varies:.0f} of 255; {tolerated}"
        return self._cut(image, field.silhouette, PLAIN if field.is_even else UNEVEN, text)

    def _near_border(self, image: Tensor) -> tuple[float, float]:
        """Shares of the border of an image [3, H, W] with, and nearly with, the model's colour."""
        border = torch.cat([image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]], dim=1)
        off = (border - self.background[:, None]).abs().amax(dim=0)
        near, almost = off <= _NEAR, off <= _ALMOST
        return float(near.float().mean()), float((almost & ~near).float().mean())

    def _orientation(self, header: Header, path: Path) -> int:
        """The EXIF orientation by which a query is to be turned, 1 for none. Raises InputError."""
        camera, own = self.camera, self.setup.lens
        wanted = (camera.width, camera.height) if own is None else own.size
        stored, turned = (fits(size, wanted) for size in (header.size, header.turned_size))
        if not (stored or turned):
            width, height = header.size
            if own is not None:
                own.check(header.size, path)
            raise InputError(
                f"'{path}' is {width} x {height}, the model was trained on "
                f"{camera.width} x {camera.height}: crop the image to that aspect, or name its "
                "camera with --camera"
            )
        return header.orientation if turned and (self.turns or not stored) else 1


def _is_light(gains: Tensor) -> bool:
    """Whether gains [3] are those of a lamp or camera, not of paper of another colour."""
    low, high = float(gains.min()), float(gains.max())
    return _GAINS[0] <= low and high <= min(_GAINS[1], _TINT * low)


def query_setup(
    model: Camera,
    queries: Sequence[Query],
    masks: Path | None = None,
    background: Path | None = None,
    ignore_masks: Path | None = None,
    camera: str | None = None,
) -> QuerySetup:
    """What the options of the same names say of queries. Raises InputError."""
    paths = [query.image_path for query in queries]
    lens = None
    if camera == "exif":
        lens = exif_lens(model, paths)
    elif camera is not None:
        lens = query_lens(Path(camera), model, paths)
    ignored = None
    if ignore_masks is not None:
        ignored = match_masks(ignore_masks, queries, "--ignore-masks")
        if missing := len(paths) - len(ignored.by_image):
            print(
                f"--ignore-masks: {missing} of {len(paths)} images have no mask in "
                f"'{ignore_masks}': nothing of them is ignored"
            )
    return QuerySetup(
        None if masks is None else match_masks(masks, queries, "--masks"),
        ignored,
        () if background is None else empty_pictures(background),
        lens,
    )


def _is_much(gains: Tensor) -> bool:
    """Whether gains [3] would change the object's colours, if the paper were the reason."""
    return float((gains - 1).abs().max()) > _LITTLE


def empty_pictures(source: Path) -> tuple[Path, ...]:
    """The pictures of `--background`: one file, or those of a folder. Raises InputError."""
    found: Sequence[Path] = [source] if source.is_file() else list_images(source).images
    if not found:
        raise InputError(f"--background: '{source}' is no image and holds none: check the path.")
    return tuple(found)
