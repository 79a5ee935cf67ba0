"""The choice of features, and EfficientNet-b4 against the package's own way through it."""

from dataclasses import replace

import pytest
import torch
from efficientnet_pytorch import EfficientNet

from anomaly import feature_maps, make_features
from anomaly.efficientnet import BLOCKS, EfficientNetFeatures
from scene import InputError, weights

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return EfficientNet.from_name("efficientnet-b4").eval()


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))


def test_levels_are_those_of_the_package(network):
    features = EfficientNetFeatures(network)
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    seen = {}
    hooks = [
        network._blocks[i].register_forward_hook(lambda m, a, out, i=i: seen.update({i: out}))
        for i in BLOCKS
    ]
    with torch.inference_mode():
        endpoints = network.extract_endpoints(features.normalise(images))
    for hook in hooks:
        hook.remove()
    levels = features.levels(features.normalise(images))
    assert [level.shape[1] for level in levels] == [24, 32, 56, 160]
    assert [224 // level.shape[-1] for level in levels] == [2, 4, 8, 16]
    for index, (block, level) in enumerate(zip(BLOCKS, levels, strict=True)):
        assert torch.equal(level, seen[block])
        assert torch.equal(level, endpoints[f"reduction_{index + 1}"])


def test_padding_is_that_of_380_pixels(network):
    """At 224 px a 5x5 kernel with stride 2 would be padded (1, 2); the package pads (2, 2)."""
    depthwise = network._blocks[BLOCKS[1] + 1]._depthwise_conv
    assert tuple(depthwise.static_padding.padding) == (2, 2, 2, 2)


class Amplified(EfficientNetFeatures):
    """Random weights leave the deep levels tiny: brings all levels to the size of the pixels."""

    def levels(self, normalised):
        levels = super().levels(normalised)
        return [gain * level for gain, level in zip((1e1, 5e2, 2e4, 1e7), levels, strict=True)]


def test_difference_follows_the_recipe(network):
    features = Amplified(network)
    generator = torch.Generator().manual_seed(1)
    query, rendering = torch.rand(2, 1, 3, 400, 400, generator=generator)
    ours = features.difference(query, rendering)
    a, b = features.normalise(query), features.normalise(rendering)
    expected = (a - b).square().sum(1)
    for left, right in zip(features.levels(a), features.levels(b), strict=True):
        difference = (left - right).square().sum(1, keepdim=True)
        expected = expected + torch.nn.functional.interpolate(
            difference, (224, 224), mode="bilinear"
        ).squeeze(1)
    assert ours.shape == (1, 224, 224)
    assert torch.allclose(ours, expected, rtol=1e-3, atol=1e-3)
    maps, scores = feature_maps(features, query, rendering)
    assert maps.shape == (1, 400, 400)
    assert scores.item() > 0
    assert feature_maps(features, query, query)[1].item() < 1e-6 * scores.item()


def test_normalisation_is_that_of_imagenet(network):
    grey = torch.full((1, 3, 300, 300), 0.5)
    values = EfficientNetFeatures(network).normalise(grey).mean(dim=(0, 2, 3))
    expected = [(0.5 - m) / s for m, s in zip(MEAN, STD, strict=True)]
    assert values.tolist() == pytest.approx(expected, abs=1e-5)


def test_weights_are_found_in_a_folder_and_by_auto(network, tmp_path):
    path = tmp_path / weights.EFFICIENTNET.name
    torch.save(network.state_dict(), path)
    features, _ = make_features("efficientnet_b4", tmp_path)
    image = torch.rand(1, 3, 224, 224)
    assert torch.equal(features.levels(image)[3], EfficientNetFeatures(network).levels(image)[3])
    features, reason = make_features("auto", tmp_path)
    assert features.name == "efficientnet_b4"
    assert str(path) in reason


def test_auto_falls_back_and_says_so():
    features, reason = make_features("auto")
    assert features.name == "lab"
    assert "no weights of EfficientNet-b4" in reason
    assert "\n" not in reason


def test_missing_weights_name_file_address_and_folder(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr(weights, "cache_folder", lambda: tmp_path / "cache")
    with pytest.raises(
        InputError, match=r"cannot be downloaded \(no route to host\): get"
    ) as error:
        make_features("efficientnet_b4", tmp_path)
    assert weights.EFFICIENTNET.address in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert "efficientnet-b4-6ed6700e.pth" in str(error.value)


def test_a_download_with_another_hash_is_refused_and_not_kept(tmp_path, monkeypatch):
    (tmp_path / "foreign.pth").write_bytes(b"other weights")
    foreign = (tmp_path / "foreign.pth").as_uri()
    monkeypatch.setattr(weights, "cache_folder", lambda: tmp_path / "cache")
    file = replace(weights.EFFICIENTNET, address=foreign)
    with pytest.raises(InputError, match=r"cannot be downloaded \(invalid hash value"):
        weights.load_weights(file, None)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off"])
def test_a_broken_file_is_refused(tmp_path, content):
    (tmp_path / weights.EFFICIENTNET.name).write_bytes(content)
    with pytest.raises(InputError, match=r"6ed6700e\.pth cannot be read as weights"):
        make_features("efficientnet_b4", tmp_path)


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save({"weight": torch.zeros(3)}, tmp_path / weights.EFFICIENTNET.name)
    with pytest.raises(InputError, match="does not fit EfficientNet-b4: get"):
        make_features("efficientnet_b4", tmp_path)


def test_unknown_names_are_refused():
    with pytest.raises(InputError, match="choose one of residual, auto"):
        make_features("resnet")
