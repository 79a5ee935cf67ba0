"""How many threads PyTorch gets."""

from collections.abc import Iterator

import pytest
import torch

from pipeline.threads import use_threads


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_torch_gets_threads_only_where_it_computes() -> None:
    use_threads(2, "cpu", "classical", "classical")
    assert torch.get_num_threads() == 1
    use_threads(2, "cpu", "classical", "efficientnet_b4")
    assert torch.get_num_threads() == 2
    use_threads(2, "reference")
    assert torch.get_num_threads() == 2
