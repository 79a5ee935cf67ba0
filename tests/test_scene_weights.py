"""Weights that are downloaded are held against a hash."""

import hashlib
from pathlib import Path
from urllib.request import pathname2url

import pytest
import torch

from scene import InputError, weights


@pytest.mark.parametrize("file", [weights.LOFTR, weights.XFEAT, weights.EFFICIENTNET])
def test_every_download_has_a_hash(file: weights.WeightFile) -> None:
    assert len(file.sha256) >= 8
    assert set(file.sha256) <= set("0123456789abcdef")


def test_a_download_of_another_content_is_refused_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "cache_folder", lambda: tmp_path / "cache")
    torch.save({"state_dict": {"a": torch.ones(2)}}, tmp_path / "w.pt")
    address = "file:" + pathname2url(str(tmp_path / "w.pt"))
    right = hashlib.sha256((tmp_path / "w.pt").read_bytes()).hexdigest()
    wrong = weights.WeightFile("Matcher", "w.pt", address, sha256="0" * 64)
    with pytest.raises(InputError, match=r"invalid hash value.*get w\.pt from"):
        weights.load_weights(wrong, None)
    assert not list((tmp_path / "cache").iterdir())
    fits = weights.WeightFile("Matcher", "w.pt", address, sha256=right)
    assert weights.load_weights(fits, None)["a"].tolist() == [1, 1]
