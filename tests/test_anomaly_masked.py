"""Statistics under a mask, against picking the pixels out."""

import torch

from anomaly.masked import masked_mean, masked_median, surely_none


def test_mean_and_median_are_those_of_the_picked_pixels() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(3, 6, 20, 30, generator=generator)
    masks = torch.rand(3, 20, 30, generator=generator) > 0.4
    masks[2] = False
    means = masked_mean(values, masks[:, None])
    medians = masked_median(values.flatten(2), masks.flatten(1)[:, None].expand(3, 6, -1))
    for number in range(2):
        picked = values[number][:, masks[number]]
        assert torch.allclose(means[number], picked.mean(dim=1), atol=1e-6)
        assert torch.equal(medians[number], picked.median(dim=1).values)
    assert means[2].eq(0).all()
    assert medians[2].isnan().all()


def test_a_mask_on_the_host_can_be_asked() -> None:
    assert surely_none(torch.zeros(4, dtype=torch.bool))
    assert not surely_none(torch.tensor([False, True]))
