"""How many threads PyTorch gets, and how many there are by default."""

import os
from collections.abc import Iterator

import pytest
import torch

from pipeline.command_line import settle_threads
from scene import InputError


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_torch_gets_threads_only_where_it_computes() -> None:
    settle_threads(2, "cpu", "classical", "classical")
    assert torch.get_num_threads() == 1
    settle_threads(2, "cpu", "classical", "efficientnet_b4")
    assert torch.get_num_threads() == 2
    settle_threads(2, "reference")
    assert torch.get_num_threads() == 2


def test_all_cores_are_the_default() -> None:
    assert settle_threads(None, "cpu") == len(os.sched_getaffinity(0))
    assert settle_threads(3, "cpu") == 3
    with pytest.raises(InputError, match="--threads must be at least 1"):
        settle_threads(0)
