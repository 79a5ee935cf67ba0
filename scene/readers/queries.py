"""Queries: the images to be inspected, with labels and masks where a data set has them.

The layouts differ little (MAD, MIP, RAD; Blender and COLMAP captures with a test folder):
`test/<label>/0.png`, masks in `ground_truth/<label>/0_mask.png` or `0.png`, or loose images. Every
image is a query, in folders of any depth, and what else lies there is named.
"""

import logging
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from ..capture import Query
from ..decode import IMAGE_SUFFIXES
from ..errors import InputError
from .folders import Listing, check_unique_names, folders_in, list_images, natural_key
from .labels import check_good_labels, is_good_label

_log = logging.getLogger(__name__)


def capture_queries(
    root: Path,
    good_labels: Collection[str],
    is_map: Callable[[Path], bool],
    test_folders: Sequence[str] = ("test",),
) -> tuple[Query, ...]:
    """The queries of a capture: those in the first of its test folders, none without one.

    Normal folders come first, the rest in natural order. `is_map` tells the depth and normal maps
    that a format keeps beside its images.

    Raises:
        InputError: masks without images, or two images of one name.
    """
    folders = [root / name for name in test_folders if (root / name).is_dir()]
    if not folders:
        return ()
    folder = folders[0]
    return _queries_of(folder, root / "ground_truth", good_labels, is_map)


def queries_in(
    source: Path, good_labels: Collection[str], is_map: Callable[[Path], bool], is_capture: bool
) -> tuple[Query, ...]:
    """Queries from an image file, a folder of images, a capture, or the `test` folder of one.

    Folder names are labels inside a capture, and where one of them says that its images are good;
    elsewhere folders are merely part of the name.

    Raises:
        InputError: nothing to inspect there, masks without images, or two images of one name.
    """
    if source.is_file():
        if source.suffix.lower() not in IMAGE_SUFFIXES:
            raise InputError(f"{source} is not an image ({', '.join(IMAGE_SUFFIXES)}).")
        return (Query(source.stem, source),)
    if not source.is_dir():
        raise InputError(f"There is no image or folder {source}: check the path.")
    if (source / "test").is_dir() and (is_capture or _has_parts(source)):
        queries = capture_queries(source, good_labels, is_map)
        _say_outside(source)
    elif any(is_good_label(p.name, good_labels) for p in folders_in(source)):
        queries = _queries_of(source, source.parent / "ground_truth", good_labels, is_map)
    else:
        queries = _unlabelled(source, is_map)
    check_good_labels(queries, good_labels)
    return queries


def _has_parts(source: Path) -> bool:
    """Whether a folder without poses is laid out as a data set."""
    return any((source / name).is_dir() for name in ("train", "ground_truth"))


def _say_outside(source: Path) -> None:
    """Says how many images of a capture lie elsewhere than in its test folder."""
    known = ("test", "ground_truth")
    others = [
        path for path in list_images(source).images
        if path.relative_to(source).parts[0] not in known
    ]  # fmt: skip
    if others:
        _log.info(
            "%s is a capture: the images in its folder test are taken, not the %d elsewhere",
            source, len(others),
        )  # fmt: skip


def _unlabelled(folder: Path, is_map: Callable[[Path], bool]) -> tuple[Query, ...]:
    listing = list_images(folder, is_map)
    queries = tuple(Query(_name(path, folder), path) for path in listing.images)
    if not queries:
        raise nothing_to_inspect(folder, listing)
    listing.say(folder)
    check_unique_names((q.name for q in queries), folder)
    return queries


def nothing_to_inspect(folder: Path, listing: Listing) -> InputError:
    """What to say of a folder without images."""
    others = listing.left_out_text(folder)
    found = f" (what lies there: {others})" if others else ""
    return InputError(f"{folder} holds no images{found}: check the path.")


def _queries_of(
    test: Path, ground_truth: Path, good_labels: Collection[str], is_map: Callable[[Path], bool]
) -> tuple[Query, ...]:
    listing = list_images(test, is_map)
    masks = _masks(ground_truth)
    queries = []
    for path in listing.images:
        inside = path.relative_to(test)
        label = inside.parts[0] if len(inside.parts) > 1 else None
        bad = None if label is None else not is_good_label(label, good_labels)
        mask = masks.pop(_mask_key(inside.with_name(path.stem)), None)
        queries.append(Query(_name(path, test), path, label, mask, bad))
    if not queries and not masks:
        raise nothing_to_inspect(test, listing)
    _refuse_orphans(list(masks.values()), test)
    _say_unmasked(queries, test)
    listing.say(test)
    check_unique_names((q.name for q in queries), test)
    return tuple(sorted(queries, key=_good_first))


def _good_first(query: Query) -> tuple:
    if query.label is None:
        return (0, False, [])
    return (1, query.is_anomalous, natural_key(Path(query.label)))


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _mask_key(inside: Path) -> tuple[str, str]:
    """Label in any case, and the rest of the path without its extension."""
    label = inside.parts[0].casefold() if len(inside.parts) > 1 else ""
    return label, Path(*inside.parts[1:] or inside.parts).as_posix()


def _masks(ground_truth: Path) -> dict[tuple[str, str], Path]:
    """Masks by label and image: `0_mask.png` (MAD) and `0.png` (MIP) both belong to image 0."""
    masks: dict[tuple[str, str], Path] = {}
    if not ground_truth.is_dir():
        return masks
    listing = list_images(ground_truth)
    listing.say(ground_truth)
    for path in listing.images:
        inside = path.relative_to(ground_truth)
        key = _mask_key(inside.with_name(path.stem.removesuffix("_mask")))
        if key in masks:
            raise InputError(f"{path} and {masks[key]} are masks of one image: remove one.")
        masks[key] = path
    return masks


def _say_unmasked(queries: list[Query], test: Path) -> None:
    """Says how many defective images have no mask, where others have."""
    defective = [query for query in queries if query.is_anomalous]
    without = [query for query in defective if query.mask_path is None]
    if without and len(without) < len(defective):
        _log.warning(
            "%d of %d defective images in %s have no mask (the first is %s): they are left out of "
            "the figures over pixels", len(without), len(defective), test, without[0].name,
        )  # fmt: skip


def _refuse_orphans(masks: list[Path], images: Path) -> None:
    if masks:
        folder = images / masks[0].parent.name
        raise InputError(
            f"{len(masks)} masks have no image (the first is {masks[0]}): add the images to "
            f"{folder} or remove the masks."
        )
