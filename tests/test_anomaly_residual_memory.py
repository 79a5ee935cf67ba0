"""The residual memory: what near views teach, what it costs, and what happens without them."""

import io
import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from anomaly import MemorySettings, ResidualMemory
from anomaly.mahalanobis import DIAGONAL
from anomaly.view_distance import view_angles

ELEMENTS = 400


def rotations(count, seed=0):
    return torch.tensor(Rotation.random(count, random_state=seed).as_matrix())


def gloss(rotation, seed=0):
    """Residual [N, 3] of shiny elements: a smooth lobe of the viewing direction, plus noise."""
    normals = torch.randn(ELEMENTS, 3, generator=torch.Generator().manual_seed(seed))
    normals = torch.nn.functional.normalize(normals, dim=1).double()
    lobe = (normals @ rotation[2].double()).clamp_min(0.0) ** 4
    return (0.2 * lobe[:, None] * torch.tensor([1.0, 0.9, 0.8])).float()


def memory_of(views, visible=None, noise=0.0):
    generator = torch.Generator().manual_seed(1)
    weight = torch.full((ELEMENTS,), 20.0) if visible is None else 20.0 * visible
    return ResidualMemory.build(
        views,
        ((gloss(r) + noise * torch.randn(ELEMENTS, 3, generator=generator), weight) for r in views),
    )


def spread(found):
    """Standard deviation of each element, RMS over channels, [N]."""
    return found.covariance[:, list(DIAGONAL)].mean(dim=1).sqrt()


def test_packing_keeps_small_residuals():
    values = torch.linspace(-1.2, 1.2, ELEMENTS)[:, None].expand(-1, 3).clone()
    values[:10] = 1e-4
    memory = ResidualMemory.build(rotations(1), [(values, torch.full((ELEMENTS,), 1e6))])
    unpacked, weight = memory._unpack(0)
    expected = values.clamp(-1, 1)
    assert ((unpacked - expected).abs() <= 0.009 * expected.abs().sqrt() + 4e-5).all()
    assert weight.eq(1.0).all()


def test_expectation_matches_its_definition():
    views = rotations(30)
    memory = memory_of(views, noise=0.02)
    settings = MemorySettings(neighbours=5, reach=0.4, prior=0.3)
    query = rotations(1, seed=9)[0]
    found = memory.expect(query, settings)
    unpacked = [memory._unpack(v) for v in range(30)]
    residual = torch.stack([r for r, _ in unpacked]).double()
    seen = torch.stack([w for _, w in unpacked]).double()[..., None]
    mean_all = (seen * residual).sum(0) / (seen.sum(0) + 0.3)
    variance_object = (seen * residual.square()).sum() / 3 / seen.sum()
    square = (seen * residual.square()).sum(0).mean(1) + 0.3 * variance_object
    variance_all = square / (seen.sum(0)[:, 0] + 0.3) - mean_all.square().mean(1)
    angles = view_angles(views, query)
    near = angles.argsort()[:5]
    weight = seen[near] * torch.exp(-0.5 * (angles[near] / 0.4) ** 2)[:, None, None]
    mean = ((weight * residual[near]).sum(0) + 0.3 * mean_all) / (weight.sum(0) + 0.3)
    around = (weight * (residual[near] - mean).square()).sum(0).mean(1)
    variance = (around + 0.3 * variance_all) / (weight.sum(0)[:, 0] + 0.3)
    left = residual[near] - mean
    mixed = (weight[..., 0] * left[..., 0] * left[..., 2]).sum(0) / (weight.sum(0)[:, 0] + 0.3)
    assert torch.allclose(found.mean.double(), mean, atol=1e-5)
    assert torch.allclose(spread(found).double(), variance.sqrt(), atol=1e-4)
    assert torch.allclose(found.covariance[:, 2].double(), mixed, atol=1e-6)
    assert torch.allclose(found.evidence.double(), weight.sum(0)[:, 0], atol=1e-4)


def test_near_views_teach_gloss_and_leave_one_out_is_honest():
    views = rotations(200)
    memory = memory_of(views)
    settings = MemorySettings(roll_weight=0.0)
    errors, raw = [], []
    for view in range(0, 200, 20):
        truth = gloss(views[view])
        found = memory.expect(views[view], settings, exclude=view)
        errors.append((found.mean - truth).square().mean().sqrt().item())
        raw.append(truth.square().mean().sqrt().item())
    assert np.mean(errors) < 0.5 * np.mean(raw)
    spoilt = ResidualMemory.build(
        views,
        ((torch.full((ELEMENTS, 3), float(v == 7)), torch.ones(ELEMENTS)) for v in range(200)),
    )
    assert spoilt.expect(views[7]).mean.min() > 0.3
    assert spoilt.expect(views[7], exclude=7).mean.abs().max() < 1e-6
    assert spread(spoilt.expect(views[7], exclude=7)).abs().max() < 1e-3


def test_unseen_elements_and_far_queries_fall_back():
    views = rotations(20)
    visible = (torch.arange(ELEMENTS) % 2).float()
    memory = memory_of(views, visible)
    found = memory.expect(views[3])
    unseen = visible == 0
    assert found.evidence[unseen].eq(0).all()
    assert found.mean[unseen].abs().max() == 0
    assert torch.allclose(spread(found)[unseen], spread(found)[unseen][0])  # that of the object
    assert spread(found)[unseen][0] > 0
    flip = torch.diag(torch.tensor([-1.0, 1.0, -1.0], dtype=torch.float64))
    one_side = torch.stack([views[0]] * 3)
    far = memory_of(one_side).expect(views[0] @ flip)
    assert far.evidence.max() < 1e-6
    assert far.mean.isfinite().all()
    assert spread(far).isfinite().all()


def test_one_view_alone_left_out_expects_nothing():
    memory = memory_of(rotations(1))
    found = memory.expect(rotations(1)[0], exclude=0)
    assert found.mean.abs().max() == 0
    assert found.evidence.max() == 0
    assert spread(found).isfinite().all()


def test_angles_of_rotation_and_direction():
    base = torch.eye(3, dtype=torch.float64)
    roll = torch.tensor(Rotation.from_rotvec([0, 0, 0.5]).as_matrix())
    tilt = torch.tensor(Rotation.from_rotvec([0.3, 0, 0]).as_matrix())
    views = torch.stack([base, roll, tilt])
    assert view_angles(views, base, 1.0).tolist() == pytest.approx([0, 0.5, 0.3], abs=1e-7)
    assert view_angles(views, base, 0.0).tolist() == pytest.approx([0, 0, 0.3], abs=1e-7)
    assert view_angles(views, base, 0.25)[1].item() == pytest.approx(0.25)


def test_npz_round_trip_and_size():
    memory = memory_of(rotations(12))
    file = io.BytesIO()
    np.savez(file, **memory.arrays())
    assert sum(a.nbytes for a in memory.arrays().values()) < 12 * (ELEMENTS * 4 + 80)
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        again = ResidualMemory.from_arrays(arrays)
    query = rotations(1, seed=5)[0]
    for ours, theirs in zip(memory.expect(query), again.expect(query), strict=True):
        assert torch.equal(ours, theirs)


def test_damaged_arrays_and_wrong_counts_are_refused():
    arrays = memory_of(rotations(3)).arrays()
    with pytest.raises(ValueError, match="lacks 'weights'"):
        ResidualMemory.from_arrays({k: v for k, v in arrays.items() if k != "weights"})
    with pytest.raises(ValueError, match="do not fit"):
        ResidualMemory.from_arrays(arrays | {"weights": arrays["weights"][:2]})
    with pytest.raises(ValueError, match="3 rotations but 0 views"):
        ResidualMemory.build(rotations(3), [])


def test_rotations_in_float32_are_fine():
    memory = memory_of(rotations(8).float())
    found = memory.expect(rotations(8)[2].float(), MemorySettings(neighbours=1, prior=1e-3))
    assert torch.allclose(found.mean, gloss(rotations(8)[2]), atol=0.01)
    assert math.isclose(found.evidence.max().item(), 20 / 21, abs_tol=0.01)
