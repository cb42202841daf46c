"""Images with their features, computed once, and draws of some that show given colour-digit pairs."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flamingo_blocks.demo.images import NUM_PAIRS


class ImageBank:
    """The features of many images, sorted by the pair that each shows.

    Args:
        features: Patch features of every image, as the frozen tower gives them.
        pairs: Colour-digit pair of every image.
    """

    def __init__(self, *, features: Float[Tensor, "images patches vision_dim"], pairs: Int[Tensor, " images"]) -> None:
        order = pairs.argsort(stable=True)
        self.features = features[order]
        self.pairs = pairs[order]
        self.counts = pairs.bincount(minlength=NUM_PAIRS)
        self._starts = self.counts.cumsum(0) - self.counts

    def draw(self, pairs: Int[Tensor, "batch media"], generator: torch.Generator) -> Int[Tensor, "batch media"]:
        """For each place an image of its pair; no image stands twice in a row.

        Args:
            pairs: Wanted pairs.
            generator: Where the images are drawn from.

        Returns:
            Numbers of images, rows of `features`.

        Raises:
            ValueError: If a row wants more images of a pair than there are.
        """
        wanted = torch.zeros(len(pairs), NUM_PAIRS, dtype=torch.long).scatter_add_(1, pairs, torch.ones_like(pairs))
        if bool((wanted > self.counts).any()):
            pair = int((wanted > self.counts).any(dim=0).nonzero()[0])
            raise ValueError(
                f"pairs asks for {int(wanted[:, pair].max())} images of pair {pair} in one row, "
                f"but the bank has {int(self.counts[pair])}"
            )
        counts, starts = self.counts[pairs], self._starts[pairs]
        images = starts + (torch.rand(pairs.shape, generator=generator) * counts).long()
        earlier = torch.ones(pairs.shape[1], pairs.shape[1], dtype=torch.bool).tril(-1)
        while bool((again := ((images[:, :, None] == images[:, None]) & earlier).any(dim=-1)).any()):
            images[again] = starts[again] + (torch.rand(int(again.sum()), generator=generator) * counts[again]).long()
        return images
