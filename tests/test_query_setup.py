"""Queries before other backgrounds: masks, pictures of the empty place, what is ignored."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from pose_scenes import WHITE, lens, orbit, picture, tiny_model, tiny_object
from torch import Tensor

from pipeline.inspector import Inspector
from pipeline.reading import QueryReader, QuerySetup, empty_pictures
from scene import InputError, MaskFiles, Query, World, match_masks

VIEW = orbit(12)[3]
SHOWN = picture(tiny_object(), VIEW)  # [3, 64, 64] before white
with torch.no_grad():
    ALPHA = (tiny_model().views(VIEW.at(VIEW.world_to_camera[None])).alphas[0] > 0.5).float()


def room(seed: int = 0) -> Tensor:
    """A place full of things, [3, 64, 64]."""
    generator = torch.Generator().manual_seed(seed)
    blots = torch.rand(1, 3, 9, 9, generator=generator)
    return torch.nn.functional.interpolate(blots, (64, 64), mode="bilinear")[0]


def before(background: Tensor) -> Tensor:
    """The object in front of something, [3, 64, 64]; its edge is sharp."""
    return torch.where(ALPHA > 0, SHOWN, background)


def save(path: Path, image: Tensor) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = (image * 255).round().byte().numpy()
    Image.fromarray(values if values.ndim == 2 else values.transpose(1, 2, 0)).save(path)
    return path


def reader(**setup: object) -> QueryReader:
    return QueryReader(lens(), WHITE, True, setup=QuerySetup(**setup))  # type: ignore[arg-type]


def overlap(mask: Tensor) -> float:
    """Intersection over union of a mask and the true silhouette."""
    ours, true = mask > 0.5, ALPHA > 0.5
    return float((ours & true).sum() / (ours | true).sum())


def test_a_plain_query_is_taken_as_it_is(tmp_path: Path) -> None:
    found = reader()(save(tmp_path / "a.png", SHOWN))
    assert found.rule == "plain"
    assert found.mask is None
    assert torch.equal((found.image * 255).round(), (SHOWN * 255).round())


def test_unknown_surroundings_are_called_unknown(tmp_path: Path) -> None:
    found = reader()(save(tmp_path / "a.png", before(room())))
    assert found.rule == "unknown"
    assert found.mask is None


def test_a_mask_cuts_the_object_out(tmp_path: Path) -> None:
    path = save(tmp_path / "in/good/a.jpg.png", before(room()))
    save(tmp_path / "masks/good/a.jpg.png", ALPHA)
    masks = match_masks(tmp_path / "masks", [Query("good/a", path)], "--masks")
    found = reader(masks=masks)(path)
    assert found.rule == "mask"
    assert str(tmp_path / "masks") in found.background
    assert torch.equal(found.mask, ALPHA)
    assert (found.image[:, ALPHA < 0.01] == 1).all()


def test_a_query_without_its_mask_is_an_error_of_its_own(tmp_path: Path) -> None:
    first, second = (save(tmp_path / f"{name}.png", SHOWN) for name in "ab")
    save(tmp_path / "masks/a_mask.png", ALPHA)
    queries = [Query("a", first), Query("b", second)]
    masks = match_masks(tmp_path / "masks", queries, "--masks")
    assert reader(masks=masks)(first).rule == "mask"
    with pytest.raises(InputError, match=r"b\.png' has no mask in"):
        reader(masks=masks)(second)


def test_masks_of_other_images_are_refused_at_once(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", SHOWN)
    save(tmp_path / "masks/c.png", ALPHA)
    with pytest.raises(InputError, match=r"--masks: no file in .* such as a\.png"):
        match_masks(tmp_path / "masks", [Query("a", path)], "--masks")
    with pytest.raises(InputError, match="there is no file or folder"):
        match_masks(tmp_path / "mask", [Query("a", path)], "--masks")


def test_an_empty_mask_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", SHOWN)
    masks = MaskFiles(tmp_path, {path: save(tmp_path / "m.png", torch.zeros(64, 64))})
    with pytest.raises(InputError, match="leaves nothing"):
        reader(masks=masks)(path)


@pytest.mark.parametrize("gains", [(1.0, 1.0, 1.0), (0.8, 0.7, 0.75)])
def test_the_picture_of_the_empty_place_cuts_the_object_out(
    tmp_path: Path, gains: tuple[float, ...]
) -> None:
    empty = save(tmp_path / "empty.png", room())
    light = torch.tensor(gains)[:, None, None]
    path = save(tmp_path / "a.png", light * before(room()))
    found = reader(empty=empty_pictures(empty))(path)
    assert found.rule == "empty picture"
    assert found.mask is not None
    assert overlap(found.mask) > 0.93
    far = torch.nn.functional.max_pool2d(ALPHA[None, None], 7, 1, 3)[0, 0] < 0.01
    assert (found.image[:, far] == 1).all()
    assert ("times as bright" in found.background) == (gains[0] != 1)


def test_several_empty_pictures_say_what_moves_by_itself(tmp_path: Path) -> None:
    """A lamp that is on in some of them is no object."""
    lamp = torch.zeros(3, 64, 64)
    lamp[:, 2:10, 2:10] = 0.3
    for number in range(5):
        save(tmp_path / f"empty/{number}.png", (room() * 0.7 + lamp * (number % 2)).clamp(0, 1))
    path = save(tmp_path / "a.png", (before(room() * 0.7) + lamp).clamp(0, 1))
    alone = reader(empty=empty_pictures(tmp_path / "empty/0.png"))(path)
    several = reader(empty=empty_pictures(tmp_path / "empty"))(path)
    assert alone.mask is not None
    assert several.mask is not None
    assert float(alone.mask[4:8, 4:8].mean()) > 0.9
    assert float(several.mask[4:8, 4:8].mean()) == 0.0
    assert overlap(several.mask) > 0.93


def test_a_picture_of_the_empty_place_alone_is_refused(tmp_path: Path) -> None:
    empty = save(tmp_path / "empty.png", room())
    with pytest.raises(InputError, match="shows nothing that the empty pictures do not"):
        reader(empty=(empty,))(empty)
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match=r"--background: .* holds none"):
        empty_pictures(tmp_path / "none")


def test_what_is_ignored_stands_empty_and_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", SHOWN)
    hand = torch.zeros(64, 64)
    hand[20:34, 20:40] = 1
    masks = match_masks(save(tmp_path / "hand.png", hand), [Query("a", path)], "--ignore-masks")
    found = reader(ignored=masks)(path)
    assert found.ignored is not None
    assert torch.equal(found.ignored, hand > 0)
    assert (found.image[:, hand > 0] == 1).all()


def test_an_inspector_reads_by_the_setup_that_it_is_given(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", before(room()))
    masks = MaskFiles(tmp_path, {path: save(tmp_path / "m.png", ALPHA)})
    bare = Inspector("tiny", tiny_model(), lens(), World(), None, None, None, is_plain=True)  # type: ignore[arg-type]
    cut = replace(bare, setup=QuerySetup(masks))
    assert bare.reader(path).rule == "unknown"
    assert cut.reader(path).rule == "mask"
    expected = torch.where(ALPHA > 0, SHOWN, torch.ones(()))
    torch.testing.assert_close(cut.read(path), expected, rtol=0, atol=0.01)


def test_masks_may_bear_exactly_the_names_of_images_that_end_in_mask(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    mask = save(tmp_path / "masks/part_mask.png", torch.ones(3, 8, 8))
    query = Query("part_mask", tmp_path / "part_mask.png", None, None, None)
    assert match_masks(tmp_path / "masks", [query], "--masks").needed(query.image_path) == mask


@pytest.mark.parametrize("grey", [0.3, 0.5, 0.7])
def test_grey_paper_is_not_taken_for_dim_light(tmp_path: Path, grey: float) -> None:
    """The object keeps its colours, and stands before the model's white."""
    shown = before(torch.full((3, 1, 1), grey).expand(3, 64, 64).clone())
    found = reader()(save(tmp_path / "a.png", shown))
    white = reader()(save(tmp_path / "b.png", before(torch.ones(3, 64, 64))))
    assert (found.image - white.image).abs().mean() < 0.01
    assert found.image[:, 0, 0].tolist() == [1.0, 1.0, 1.0]
