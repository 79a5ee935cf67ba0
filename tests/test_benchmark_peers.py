"""PaDiM, PatchCore and Mahalanobis: they find what they can find, the same for a seed."""

import pytest
import torch
from torch import Tensor

from benchmarks.paper.peer_features import ClassicalPatches, NetworkPatches
from benchmarks.paper.peers import FITS, Judge, coreset

CHANNELS, SIDE = 6, 5


def normal_images(count: int, seed: int) -> Tensor:
    """Descriptors [B, C, h, w] whose mean differs from place to place and channel to channel."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.linspace(0, 12, CHANNELS * SIDE * SIDE).reshape(1, CHANNELS, SIDE, SIDE)
    return places + 0.1 * torch.randn(count, CHANNELS, SIDE, SIDE, generator=generator)


@pytest.fixture(params=sorted(FITS))
def judge(request: pytest.FixtureRequest) -> Judge:
    """Each peer, fitted to 60 images."""
    return FITS[request.param](normal_images(60, 0), 3)


def test_defect_scores_above_every_good_image(judge: Judge) -> None:
    good = normal_images(20, 1)
    defective = good[0].clone()
    defective[:, 2, 3] += 3.0
    highest = max(judge(image).score for image in good)
    found = judge(defective)
    assert found.score > highest
    if found.anomaly_map is not None:
        assert found.anomaly_map.shape == (SIDE, SIDE)
        assert divmod(int(found.anomaly_map.argmax()), SIDE) == (2, 3)


def test_padim_knows_places_and_patchcore_does_not() -> None:
    train = normal_images(60, 0)
    moved = train[0].flip(1)  # good patches at wrong places
    scores = {}
    for name in ("padim", "patchcore"):
        fitted = FITS[name](train, 0)
        scores[name] = fitted(moved).score / max(fitted(image).score for image in train)
    assert scores["padim"] > 2
    assert scores["patchcore"] < 1.5


@pytest.mark.parametrize("name", sorted(FITS))
def test_same_seed_same_scores(name: str) -> None:
    train, query = normal_images(30, 0), normal_images(1, 9)[0]
    assert FITS[name](train, 5)(query).score == FITS[name](train, 5)(query).score


def test_coreset_takes_one_of_each_cluster() -> None:
    centres = 10.0 * torch.eye(4)
    generator = torch.Generator().manual_seed(0)
    patches = centres.repeat_interleave(25, 0) + 0.1 * torch.randn(100, 4, generator=generator)
    chosen = coreset(patches, 4, seed=1)
    assert sorted(index // 25 for index in chosen) == [0, 1, 2, 3]


def test_classical_patches_see_colour_texture_and_direction() -> None:
    describe = ClassicalPatches()
    grey = torch.full((3, 32, 32), 0.5)
    plain = describe(grey)
    assert plain.shape == (20, 4, 4)
    assert plain[3:10].abs().max() < 1e-3  # neither spread nor edges (square root of rounding)
    stripes = grey.clone()
    stripes[:, :, ::4] = 1.0
    upright, lying = describe(stripes)[6:10].mean((1, 2)), describe(stripes.mT)[6:10].mean((1, 2))
    assert upright[0] > 5 * upright[2]
    assert lying[2] > 5 * lying[0]


def test_network_patches_bring_all_levels_to_one_grid() -> None:
    class Network:
        name = "efficientnet_b4"

        def normalise(self, images: Tensor) -> Tensor:
            return images

        def levels(self, normalised: Tensor) -> list[Tensor]:
            return [torch.ones(1, 2, 112, 112), torch.zeros(1, 3, 14, 14)]

    described = NetworkPatches(Network())(torch.zeros(3, 224, 224))
    assert described.shape == (5, 28, 28)
    assert torch.allclose(described[:2], torch.ones(2, 28, 28))
