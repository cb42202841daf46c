"""Controls: what must fall to chance if a model reads its images the way it should.

The other control, closing the gates, is `flamingo_blocks.nn.closed_gates`.
"""

from dataclasses import replace

import torch

from flamingo_blocks.ops import MediaLayout


def shuffle_support(layout: MediaLayout, *, generator: torch.Generator) -> MediaLayout:
    """Put each row's images in random order but for the last, so that shots keep their texts and lose their images.

    A model that answers as well as before looks at the texts alone. Each row has an order of its own: one order for
    all could be the old one.

    Args:
        layout: Layout of prompts whose last image is the one asked about.
        generator: Where the orders are drawn from.

    Returns:
        The layout of the same pool with the rows' `item_ids` in another order, prepared.

    Example:
        >>> layout = MediaLayout.from_tokens(torch.ones(1, 4, dtype=torch.bool))
        >>> shuffled = shuffle_support(layout, generator=torch.Generator().manual_seed(1))
        >>> sorted(shuffled.item_ids[0, :3].tolist()), int(shuffled.item_ids[0, 3])
        ([0, 1, 2], 3)
    """
    ids = layout.item_ids
    slots = torch.arange(ids.shape[1], device=ids.device)
    is_support = slots < (ids >= 0).sum(dim=1, keepdim=True) - 1
    keys = torch.rand(ids.shape, generator=generator).to(ids.device)
    order = torch.where(is_support, keys, 1.0 + slots).argsort(dim=1)
    return replace(layout, item_ids=ids.gather(1, order), plan=None).prepare()
