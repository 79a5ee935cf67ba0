"""Queries: the images to be inspected, with labels and masks where a data set has them.

The layouts differ little (MAD, MIP, RAD; Blender and COLMAP captures with a test folder):
`test/<label>/0.png`, masks in `ground_truth/<label>/0_mask.png` or `0.png`, or loose images.
"""

from pathlib import Path

from ..capture import Query
from ..errors import InputError
from ..images import IMAGE_SUFFIXES
from .folders import check_unique_names, folders_in, images_in, natural_key


def capture_queries(root: Path) -> tuple[Query, ...]:
    """The queries of a capture: those in its `test` folder, none without one.

    Normal folders come first, the rest in natural order.

    Raises:
        InputError: masks without images, or two images of one name.
    """
    folder = root / "test"
    return _queries_of(folder, root / "ground_truth") if folder.is_dir() else ()


def read_queries(source: str | Path) -> tuple[Query, ...]:
    """Queries from an image file, a folder of images, a capture, or the `test` folder of one.

    Folder names are labels inside a capture only; elsewhere subfolders are merely part of the name.

    Raises:
        InputError: nothing to inspect there, masks without images, or two images of one name.
    """
    source = Path(source).expanduser()
    if source.is_file():
        if source.suffix.lower() not in IMAGE_SUFFIXES:
            raise InputError(f"{source} is not an image ({', '.join(IMAGE_SUFFIXES)}).")
        return (Query(source.stem, source),)
    if not source.is_dir():
        raise InputError(f"There is no image or folder {source}: check the path.")
    if (source / "test").is_dir():
        queries = capture_queries(source)
    elif any(_is_normal(p.name) for p in folders_in(source)):
        queries = _queries_of(source, source.parent / "ground_truth")
    else:
        queries = _unlabelled(source)
    if not queries:
        raise InputError(f"{source} holds no images ({', '.join(IMAGE_SUFFIXES)}): check the path.")
    return queries


def _is_normal(label: str) -> bool:
    """MAD and RAD call the folder `good`; MIP has several, `good_<light>`."""
    return label.casefold() == "good" or label.casefold().startswith("good_")


def _unlabelled(folder: Path) -> tuple[Query, ...]:
    loose = [Query(path.stem, path) for path in images_in(folder)]
    for inside in folders_in(folder):
        loose += [Query(f"{inside.name}/{path.stem}", path) for path in images_in(inside)]
    check_unique_names((q.name for q in loose), folder)
    return tuple(loose)


def _queries_of(test: Path, ground_truth: Path) -> tuple[Query, ...]:
    queries = [Query(path.stem, path) for path in images_in(test)]
    labels = sorted(folders_in(test), key=lambda p: (not _is_normal(p.name), natural_key(p)))
    mask_folders = (
        {p.name.casefold(): p for p in folders_in(ground_truth)} if ground_truth.is_dir() else {}
    )
    for folder in labels:
        masks = _masks_by_stem(mask_folders.pop(folder.name.casefold(), None))
        for path in images_in(folder):
            mask = masks.pop(path.stem, None)
            name, label = f"{folder.name}/{path.stem}", folder.name
            queries.append(Query(name, path, label, mask, not _is_normal(label)))
        _refuse_orphans(list(masks.values()), folder)
    for name, folder in mask_folders.items():
        _refuse_orphans(images_in(folder), test / name)
    check_unique_names((q.name for q in queries), test)
    return tuple(queries)


def _masks_by_stem(folder: Path | None) -> dict[str, Path]:
    """Image stem to mask: `0_mask.png` (MAD) and `0.png` (MIP) both belong to image 0."""
    if folder is None:
        return {}
    return {path.stem.removesuffix("_mask"): path for path in images_in(folder)}


def _refuse_orphans(masks: list[Path], images: Path) -> None:
    if masks:
        raise InputError(
            f"{len(masks)} masks have no image (the first is {masks[0]}): add the images to "
            f"{images} or remove the masks."
        )
