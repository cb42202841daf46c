"""A vision tower and a text tower side by side, for the contrastive stage before the vision tower is frozen."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from flamingo_blocks.training.contrast.contrastive import contrastive_loss
from flamingo_blocks.vision import VisionTower


class PairVectors(NamedTuple):
    """What `contrastive_loss` takes: a row a pair of both towers, and the logarithm of the scale.

    Attributes:
        image: Vectors of images, in the order of their pairs.
        text: Vectors of texts, in the same order.
        log_scale: What similarities are multiplied by is e to this.

    Example:
        >>> from flamingo_blocks.training.contrast import contrastive_loss
        >>> vectors = PairVectors(image=torch.eye(4), text=torch.eye(4), log_scale=torch.tensor([0.0]))
        >>> round(contrastive_loss(*vectors).item(), 4)
        1.4873
    """

    image: Float[Tensor, "pairs dim"]
    text: Float[Tensor, "pairs dim"]
    log_scale: Float[Tensor, "1"]


class TwoTowers(nn.Module):
    """Turn images and texts into vectors of one space, and learn the temperature beside them.

    Train it by `two_towers_loss`, then keep the vision tower alone: freeze it and hand it to a `Flamingo`. Each tower's
    tokens are averaged and projected without a bias.

    Args:
        image_tower: Gives patch tokens; trained in place.
        text_tower: Any module that takes `input_ids`, and `attention_mask` where one is given, and gives a vector a
            token, bare or as `last_hidden_state`. An `nn.Embedding` will do for a toy.
        text_dim: Width of these vectors.
        dim: Width of the common space, 1376 in the paper.
        initial_temperature: What the cosines are divided by at the start. The paper does not tell its own; this is
            CLIP's.
        max_scale: The cosines are multiplied by this at most, as in CLIP, and the parameter is pushed no further.

    Raises:
        ValueError: If `initial_temperature` or `max_scale` is not above 0.

    Example:
        >>> from flamingo_blocks.vision import CallableTower
        >>> towers = TwoTowers(
        ...     CallableTower(nn.Conv2d(3, 16, 4, 4), image_size=8, frozen=False), nn.Embedding(50, 12),
        ...     text_dim=12, dim=8,
        ... )
        >>> vectors = towers(torch.zeros(2, 3, 8, 8), torch.zeros(2, 5, dtype=torch.long))
        >>> vectors.image.shape, vectors.text.shape
        (torch.Size([2, 8]), torch.Size([2, 8]))

    Source:
        Flamingo (arXiv 2204.14198), appendix B.1.3: mean over places and tokens, a projection to 1376, a learnable
        inverse temperature. Its start of 1 / 0.07 and its bound of 100 are CLIP's (arXiv 2103.00020, section 2.5).
    """

    def __init__(
        self,
        image_tower: VisionTower,
        text_tower: nn.Module,
        *,
        text_dim: int,
        dim: int = 1376,
        initial_temperature: float = 0.07,
        max_scale: float = 100.0,
    ) -> None:
        super().__init__()
        if not initial_temperature > 0 or not max_scale > 0:
            raise ValueError(
                f"initial_temperature is {initial_temperature} and max_scale {max_scale}, wanted both above 0"
            )
        self.image_tower, self.text_tower = image_tower, text_tower
        self.image_projection = nn.Linear(image_tower.dim, dim, bias=False)
        self.text_projection = nn.Linear(text_dim, dim, bias=False)
        self.log_scale = nn.Parameter(torch.tensor([-math.log(initial_temperature)]))  # [1]: FSDP refuses scalars
        self.max_log_scale = math.log(max_scale)

    def forward(
        self,
        pixels: Float[Tensor, "pairs 3 height width"],
        input_ids: Int[Tensor, "pairs text"],
        *,
        attention_mask: Bool[Tensor, "pairs text"] | None = None,
    ) -> PairVectors:
        """Encode pairs.

        Args:
            pixels: An image of each pair.
            input_ids: Its text.
            attention_mask: True at real tokens; pads are not averaged.

        Returns:
            `contrastive_loss(*towers(pixels, input_ids))` is the loss.
        """
        log_scale: Tensor = _AtMost.apply(self.log_scale, self.max_log_scale)  # type: ignore[no-untyped-call]
        return PairVectors(self.encode_image(pixels), self.encode_text(input_ids, attention_mask), log_scale)

    def encode_image(self, pixels: Float[Tensor, "pairs 3 height width"]) -> Float[Tensor, "pairs dim"]:
        """The vectors of images; their length says nothing."""
        patches = self.image_tower(pixels)
        projected: Tensor = self.image_projection(_mean(patches.tokens, patches.valid))
        return projected

    def encode_text(
        self, input_ids: Int[Tensor, "pairs text"], attention_mask: Bool[Tensor, "pairs text"] | None = None
    ) -> Float[Tensor, "pairs dim"]:
        """The vectors of texts; their length says nothing."""
        given = {} if attention_mask is None else {"attention_mask": attention_mask}
        output = self.text_tower(input_ids, **given)
        projected: Tensor = self.text_projection(_mean(getattr(output, "last_hidden_state", output), attention_mask))
        return projected


def two_towers_loss(
    towers: nn.Module, batch: Mapping[str, Any], *, label_smoothing: float = 0.0, gather: bool = True
) -> Float[Tensor, ""]:
    """The contrastive loss of two towers on a batch: the `loss` of an `Objective`, one for each data set.

    Args:
        towers: `TwoTowers`, or what gives the same.
        batch: Arguments of its `forward` by name.
        label_smoothing: As in `contrastive_loss`; 0.1 in the paper.
        gather: Likewise.

    Example:
        >>> from functools import partial
        >>> from flamingo_blocks.training import Objective
        >>> smoothed = partial(two_towers_loss, label_smoothing=0.1)
        >>> [Objective(name=name, batches=[], loss=smoothed).name for name in ("align", "ltip")]
        ['align', 'ltip']

    Source:
        Flamingo (arXiv 2204.14198), table 11: gradients summed over the data sets are better there than batches that
        mix them, and than taking turns.
    """
    return contrastive_loss(*towers(**batch), gather=gather, label_smoothing=label_smoothing)


def _mean(
    tokens: Float[Tensor, "pairs tokens dim"], valid: Bool[Tensor, "pairs tokens"] | None
) -> Float[Tensor, "pairs dim"]:
    """Mean over the tokens that count; zero where none does."""
    if valid is None:
        return tokens.mean(1)
    kept = tokens.masked_fill(~valid[..., None], 0)  # what does not count may hold anything
    return kept.sum(1) / valid.sum(1, keepdim=True).clamp(min=1)


class _AtMost(torch.autograd.Function):
    """A value or its bound, whichever is less; from the bound on no gradient pushes it up, but back it may.

    A plain `clamp` would hold a value that is beyond for ever; a bound put on the parameter after each step needs a
    step of its own in every loop.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(value >= bound)
        return value.clamp(max=bound)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (beyond,) = ctx.saved_tensors
        return grad.masked_fill(beyond & (grad < 0), 0), None
