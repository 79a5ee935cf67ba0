"""Training on transparent images: before changing colours, so that no halo grows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from captures import write_blender, write_mad
from PIL import Image

from gaussian_renderer import ObjectRenderer
from pipeline.model_folder import ModelFolder
from pipeline.presets import TRAINING
from pipeline.training import Training, on_random_background, split_training
from scene import read_capture, read_train_images
from train import optimise


def _training(source: Path, **changes: object) -> Training:
    """Of seconds, with the default preset as changed."""
    capture = read_capture(source, 400)
    settings = {"iterations": 200, "max_gaussians": 400} | changes
    preset = replace(TRAINING["default"], **settings)
    images = read_train_images(capture, capture.views)
    return Training(capture, capture.views, images, preset, 0, torch.device("cpu"), "auto", 1)


def _opacity_error(model: ObjectRenderer, training: Training) -> float:
    """Mean difference between the opacity of the model and the alpha of held-out images."""
    with torch.no_grad():
        errors = [
            (model(view.camera).alpha - alpha / 255).abs().mean()
            for view, alpha in zip(training.views, training.alphas(), strict=True)
        ]
    return float(torch.stack(errors).mean())


def test_a_white_object_cut_out_is_opaque_though_transparency_stands_on_white(
    tmp_path: Path,
) -> None:
    source = write_blender(tmp_path / "ball", views=24)
    for path in (source / "train").glob("*.png"):
        pixels = np.array(Image.open(path))
        pixels[..., :3] = 255
        Image.fromarray(pixels).save(path)
    training, held_out = split_training(_training(source), 4)
    before_one_colour = replace(training, preset=replace(training.preset, random_background=False))
    errors = []
    for number, trial in enumerate((training, before_one_colour)):
        gaussians, _ = optimise(trial, ModelFolder(tmp_path / f"model{number}"))
        errors.append(_opacity_error(trial.renderer(gaussians), held_out))
    assert errors[0] < 0.05
    assert errors[0] < 0.5 * errors[1]


def test_before_another_colour_only_what_is_transparent_changes() -> None:
    photograph = torch.tensor([0.2, 0.5, 0.7]).reshape(3, 1, 1).expand(3, 1, 3)
    alpha = torch.tensor([[0, 51, 255]], dtype=torch.uint8)  # clear, a fifth, opaque
    white, share = torch.ones(3), alpha / 255
    target = photograph * share + (1 - share)
    shown, colour = on_random_background(target, alpha, white, seed=5)
    assert torch.equal(shown[:, 0, 0], colour)
    assert torch.equal(shown[:, 0, 2], photograph[:, 0, 2])
    assert torch.allclose(shown[:, 0, 1], 0.2 * photograph[:, 0, 1] + 0.8 * colour)
    again = on_random_background(target, alpha, white, seed=5)[1]
    other = on_random_background(target, alpha, white, seed=6)[1]
    assert torch.equal(colour, again)
    assert not torch.equal(colour, other)


def test_opaque_images_and_the_papers_preset_keep_their_background(tmp_path: Path) -> None:
    opaque = _training(write_mad(tmp_path / "opaque"))
    assert opaque.images.alphas is None
    assert opaque.alphas() == [None] * len(opaque.views)
    clear = _training(write_blender(tmp_path / "clear"))
    stored = np.asarray(Image.open(clear.views[0].image_path))[..., 3]
    first = clear.alphas()[0]
    assert first is not None
    assert np.array_equal(first.numpy(), stored)
    paper = replace(clear, preset=TRAINING["paper"])
    assert paper.alphas() == [None] * len(clear.views)


def test_a_killed_training_before_random_colours_ends_with_the_same_bits(tmp_path: Path) -> None:
    training = _training(write_blender(tmp_path / "ball", views=8), iterations=40)
    whole, _ = optimise(training, ModelFolder(tmp_path / "whole"))

    def stop(iteration: int, *_: object) -> None:
        raise KeyboardInterrupt

    folder = ModelFolder(tmp_path / "killed")
    with pytest.raises(KeyboardInterrupt):
        optimise(replace(training, checkpoint_every=15), folder, stop)
    assert folder.checkpoint_path.is_file()
    resumed, _ = optimise(replace(training, checkpoint_every=15), folder)
    for name, tensor in whole.named_tensors().items():
        assert torch.equal(tensor, resumed.named_tensors()[name]), name
