"""Masks that belong to queries: files of a folder by the queries' names, or one file for all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .capture import Query
from .decode import IMAGE_SUFFIXES
from .errors import InputError
from .readers.folders import list_images


@dataclass(frozen=True)
class MaskFiles:
    """Which mask belongs to which image."""

    source: Path  # the folder or file
    by_image: Mapping[Path, Path] = field(default_factory=dict)

    def needed(self, image: Path) -> Path:
        """The mask of an image. Raises InputError when there is none."""
        found = self.by_image.get(image)
        if found is None:
            raise InputError(
                f"'{image}' has no mask in '{self.source}': save one there under the image's name "
                "within its folder, as PNG"
            )
        return found


def match_masks(source: Path, queries: Sequence[Query], option: str) -> MaskFiles:
    """Masks by the names of queries: `Burrs/3.png`, `Burrs/3.jpg.png` or `Burrs/3_mask.png`.

    Raises:
        InputError: nothing is there, or no query has a mask; names the `option`.
    """
    if source.is_file():
        return MaskFiles(source, {query.image_path: source for query in queries})
    if not source.is_dir():
        raise InputError(f"{option}: there is no file or folder '{source}': check the path.")
    files = list_images(source).images
    masks = {path.relative_to(source).with_suffix("").as_posix(): path for path in files}
    for path in files:
        masks.setdefault(_name(path.relative_to(source)), path)
    found = {q.image_path: masks[q.name] for q in queries if q.name in masks}
    if not found and queries:
        raise InputError(
            f"{option}: no file in '{source}' has the name of a query, such as "
            f"{queries[0].name}.png: name the masks as the images within their folder."
        )
    return MaskFiles(source, found)


def _name(inside: Path) -> str:
    """The name of the image that a mask belongs to."""
    bare = inside.with_suffix("")
    if bare.suffix.lower() in IMAGE_SUFFIXES:  # COLMAP's 3.jpg.png
        bare = bare.with_suffix("")
    return bare.with_name(bare.name.removesuffix("_mask")).as_posix()
