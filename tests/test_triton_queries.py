"""Maps and scores of several queries through our Triton kernels, against the reference."""

from interpreted_triton import DEVICE  # isort: skip  # before triton is imported

import torch
from other_backends import registered
from pose_scenes import WHITE, lens, tiny_object
from query_scenes import SMALL, normal_model_of_the_object, queries_to_compare

from anomaly import NormalModelScorer, Scored
from gaussian_renderer import ObjectRenderer
from gaussian_renderer.triton import BACKEND


def test_a_batch_is_scored_as_by_the_reference() -> None:
    images, poses = (part[2:4] for part in queries_to_compare())
    known = normal_model_of_the_object().to(DEVICE)

    def scored(backend: str) -> Scored:
        cloud = tiny_object().map(lambda tensor: tensor.to(DEVICE))
        scorer = NormalModelScorer(ObjectRenderer(cloud, WHITE.to(DEVICE), backend), known)
        return scorer(images.to(DEVICE), lens(size=SMALL).at(poses))

    with registered("interpreted", lambda: BACKEND):
        found = scored("interpreted")
    for ours, theirs in zip(found, scored("reference"), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
