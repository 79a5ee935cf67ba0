"""Numbers that tell a pose that fits from one that does not; small defects hardly move them."""

import torch
from torch import Tensor

from gaussian_renderer import Rendering

_VISIBLE = 8 / 255  # colour difference from the background that makes a query pixel part of it


def gather_evidence(
    image: Tensor,  # [3, H, W], the query
    rendering: Rendering,  # at the estimated pose
    background: Tensor,  # [3]
    block: int = 2,  # pixels a side averaged first, so that edges and noise count less
) -> dict[str, float]:
    """Figures of one pose, each 0 for a perfect fit.

    `median` and `upper`: 50 % and 80 % quantile of the colour difference over the pixels that
    belong to the object in either image; `mismatch`: 1 - intersection over union of the two
    silhouettes. A defect that covers less than a fifth of the object moves none of them much.
    """
    block = max(1, min(block, *image.shape[1:]))
    pool = torch.nn.AvgPool2d(block)
    rendered = rendering.image.detach()
    difference = pool((rendered - image)[None])[0].abs().mean(dim=0)
    in_query, in_rendering = (
        pool(((picture - background[:, None, None]).abs() > _VISIBLE).any(dim=0).to(image)[None])[0]
        > 0.5
        for picture in (image, rendered)
    )
    either = in_query | in_rendering
    if not bool(in_query.any()) or not bool(in_rendering.any()):
        return {"median": 1.0, "upper": 1.0, "mismatch": 1.0}
    values = difference[either]
    median, upper = torch.quantile(values, values.new_tensor([0.5, 0.8])).tolist()
    overlap = float((in_query & in_rendering).sum()) / float(either.sum())
    return {"median": median, "upper": upper, "mismatch": 1 - overlap}
