"""The contrastive loss of pairs, by which a vision encoder learns from captions before it is frozen."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from flamingo_blocks.errors import ShapeError
from flamingo_blocks.training.ranks.all_ranks import AllRanks

# Logits in one chunk, as in `ops.linear_cross_entropy`.
_CHUNK_OF_CPU, _CHUNK_OF_OTHERS = 2**23, 2**26


def contrastive_loss(
    image: Float[Tensor, "pairs dim"],
    text: Float[Tensor, "pairs dim"],
    log_scale: Float[Tensor, ""] | Float[Tensor, "1"] | float,
    *,
    gather: bool = True,
    label_smoothing: float = 0.0,
    chunk_size: int | None = None,
) -> Float[Tensor, ""]:
    """How badly images and texts find each other: each picks its own partner among those of the whole batch.

    Use it to train a vision encoder on captions. The cosines of all images and texts, times a scale, are scores; the
    loss is the cross-entropy of the right text for each image plus that of the right image for each text. Partners of
    other pairs are the only negatives, so a batch should hold no caption twice. Several data sets are several
    objectives of `train`, which adds up their gradients: negatives never cross data sets.

    The scores of a few images at a time are in memory; the gradients are made beside the loss, so a batch of 16,384
    pairs takes no 16,384 x 16,384 scores. The gradient of a gradient is refused.

    Args:
        image: What the image tower gave, one row a pair. The length of a row does not matter.
        text: What the text tower gave; row k belongs to image k.
        log_scale: Logarithm of the factor on the cosines, that is of the inverse temperature. `TwoTowers` learns it.
        gather: Take the pairs of all ranks as one batch, where there is a process group. Ranks may have different
            numbers of pairs: asking how many costs as much as refusing them would, and a last batch is often short.
        label_smoothing: Share of the wanted distribution that is spread over all partners, 0.1 in the paper.
        chunk_size: Images whose scores exist at once; by default as many as 8M scores (CPU) or 64M (elsewhere) allow.

    Returns:
        The mean over the pairs in nats, in float32 at least, under autocast too: at a scale of 100 bfloat16 would err
        by tenths of a nat. With `gather` it is that of the whole batch, the same on every rank, and so are the
        gradients once they are averaged over the ranks, as `DistributedDataParallel` and `fully_shard` do. Zero where
        there is no pair.

    Raises:
        ValueError: If the shapes are not those of pairs, `log_scale` is no single number, or `label_smoothing` or
            `chunk_size` is out of range.
        RuntimeError: If its gradient is taken with `create_graph=True`.

    Example:
        >>> towards = torch.eye(4)
        >>> round(contrastive_loss(towards, towards, 0.0).item(), 4)  # twice the log of 1 + 3 / e
        1.4873
        >>> contrastive_loss(towards, towards, 4.0).item() < 1e-20
        True

    Source:
        Flamingo (arXiv 2204.14198), appendix B.1.3: the sum of both directions. CLIP (arXiv 2103.00020, figure 3)
        takes their mean, which is half of it.
    """
    _check(image, text, log_scale, label_smoothing, chunk_size)
    with torch.autocast(image.device.type, enabled=False):
        dtype = torch.promote_types(torch.promote_types(image.dtype, text.dtype), torch.float32)
        ranks = AllRanks(image, together=gather)
        limit = _CHUNK_OF_CPU if image.device.type == "cpu" else _CHUNK_OF_OTHERS
        loss: Tensor = _ContrastiveLoss.apply(  # type: ignore[no-untyped-call]
            _unit_rows(image.to(dtype)),
            _unit_rows(text.to(dtype)),
            torch.as_tensor(log_scale, dtype=dtype, device=image.device).reshape(()),
            ranks,
            label_smoothing,
            chunk_size or max(1, limit // max(ranks.num_rows, 1)),
            torch.is_grad_enabled(),
        )
    return loss


class _ContrastiveLoss(torch.autograd.Function):
    """The loss of unit rows; keeps the gradients that the forward pass made, and scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        text: Tensor,
        log_scale: Tensor,
        ranks: AllRanks,
        smoothing: float,
        chunk: int,
        grad: bool,  # noqa: FBT001 - apply() takes no keywords
    ) -> Tensor:
        scores = _Scores(image, ranks.gather(text), log_scale.exp(), ranks, smoothing, chunk)
        loss = scores.loss()
        # The sums over ranks wait for every rank, so all of them are made or none, whatever this rank itself needs.
        if grad and any(ctx.needs_input_grad):
            ctx.save_for_backward(*scores.gradients())
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        # `once_differentiable` would take the kept gradients for constants where the loss is the end of the graph.
        if torch.is_grad_enabled():
            raise RuntimeError(
                "contrastive_loss has no gradient of its gradient, which create_graph=True asks for; leave that out, "
                "or take the cross-entropy of all scores"
            )
        kept = zip(ctx.saved_tensors, ctx.needs_input_grad, strict=False)
        return (*(gradient * grad if wanted else None for gradient, wanted in kept), *(None,) * 4)


class _Scores:
    """The scores of this rank's images against all texts, some rows at a time."""

    def __init__(
        self, image: Tensor, texts: Tensor, scale: Tensor, ranks: AllRanks, smoothing: float, chunk: int
    ) -> None:
        self.image, self.texts, self.scale = image, texts, scale
        self.ranks, self.smoothing, self.number = ranks, smoothing, max(len(texts), 1)
        self.parts = [slice(start, start + chunk) for start in range(0, len(image), chunk)]
        self._only: Tensor | None = None  # one chunk is all there is: it is not computed again
        self.of_images = image.new_empty(len(image))  # logarithms of the sums of the exponentials
        self.of_texts = image.new_full((len(texts),), -torch.inf)

    def loss(self) -> Tensor:
        right = torch.empty_like(self.of_images)
        for part in self.parts:
            scores = self._scores(part)
            self.of_images[part] = scores.logsumexp(1)
            self.of_texts = torch.logaddexp(self.of_texts, scores.logsumexp(0))
            partners = self._partners(scores, part)
            right[part] = partners + self.smoothing * (scores.mean(1) - partners)
        self.of_texts = self.ranks.logsumexp(self.of_texts)
        # What smoothing takes off is the mean of all scores in both directions, so one of the two serves for both.
        losses = (self.of_images - right) + (self.of_texts[self.ranks.own] - right)
        return self.ranks.sum(losses.sum()) / self.number

    def gradients(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of this rank's images and texts, times the number of ranks; and of the logarithm of the scale."""
        image, texts = torch.empty_like(self.image), torch.zeros_like(self.texts)
        log_scale = torch.zeros_like(self.scale)
        for part in self.parts:
            scores = self._scores(part)
            slope = (scores - self.of_images[part, None]).exp_() + (scores - self.of_texts).exp_()
            slope -= 2 * self.smoothing / self.number
            self._partners(slope, part).sub_(2 * (1 - self.smoothing))
            slope /= self.number
            log_scale += (slope * scores).sum()
            slope *= self.scale
            image[part] = slope @ self.texts
            texts.addmm_(slope.t(), self.image[part])
        texts, log_scale = self.ranks.sum_of_own(texts), self.ranks.sum(log_scale)
        return image * self.ranks.world_size, texts * self.ranks.world_size, log_scale

    def _scores(self, part: slice) -> Tensor:
        if self._only is not None:
            return self._only
        scores = (self.image[part] @ self.texts.t()).mul_(self.scale)
        if len(self.parts) == 1:
            self._only = scores
        return scores

    def _partners(self, scores: Tensor, part: slice) -> Tensor:
        """The entry of each image's own text, as a view."""
        return scores.diagonal(self.ranks.own.start + part.start)


def _unit_rows(vectors: Float[Tensor, "pairs dim"]) -> Float[Tensor, "pairs dim"]:
    """Rows of length 1. First by the largest entry, so that no square is too large or too small; zero stays zero."""
    largest = vectors.detach().abs().amax(1, keepdim=True)
    scaled = vectors / largest.where(largest > 0, 1)
    length = scaled.norm(dim=1, keepdim=True)
    unit: Tensor = scaled / length.where(length > 0, 1)
    return unit


class RetrievalAccuracy(NamedTuple):
    """Share of images that find their text, and of texts that find their image.

    Attributes:
        image_to_text: From 0 to 1, of images.
        text_to_image: From 0 to 1, of texts.

    Example:
        >>> found = retrieval_accuracy(torch.eye(4), torch.eye(4)[[1, 0, 2, 3]])
        >>> found.image_to_text, found.text_to_image
        (0.5, 0.5)
    """

    image_to_text: float
    text_to_image: float


@torch.no_grad()
def retrieval_accuracy(
    image: Float[Tensor, "pairs dim"], text: Float[Tensor, "pairs dim"], *, top: int = 1
) -> RetrievalAccuracy:
    """How often a partner is among the `top` closest: recall at 1, 5 or 10 over the pairs that are given.

    Args:
        image: What the image tower gave, one row a pair. The length of a row does not matter.
        text: What the text tower gave; row k belongs to image k.
        top: How many are looked at. One that is as close as the partner stands before it, so that vectors that are
            all alike find nothing.

    Returns:
        Both directions.

    Raises:
        ValueError: If the shapes are not those of pairs, there is none, or `top` is less than 1.

    Example:
        >>> right, swapped = torch.eye(4), torch.eye(4)[[1, 0, 2, 3]]
        >>> retrieval_accuracy(right, swapped)
        RetrievalAccuracy(image_to_text=0.5, text_to_image=0.5)
    """
    _check_pairs(image, text)
    if top < 1:
        raise ValueError(f"top is {top}, wanted 1 or more")
    if not len(image):
        raise ShapeError(f"image has shape {list(image.shape)}, wanted one pair at least: of none there is no share")
    rows = _unit_rows(image.float()), _unit_rows(text.float())
    return RetrievalAccuracy(_found(rows[0], rows[1], top), _found(rows[1], rows[0], top))


def _found(queries: Tensor, others: Tensor, top: int) -> float:
    found, chunk = 0, max(1, _CHUNK_OF_CPU // len(others))
    for start in range(0, len(queries), chunk):
        scores = queries[start : start + chunk] @ others.t()
        partner = scores.diagonal(start)[:, None]
        found += int(((scores >= partner).sum(1) <= top).sum())
    return found / len(queries)


def _check(image: Tensor, text: Tensor, log_scale: Any, label_smoothing: float, chunk_size: int | None) -> None:
    _check_pairs(image, text)
    if isinstance(log_scale, Tensor) and log_scale.numel() != 1:
        raise ShapeError(f"log_scale has shape {list(log_scale.shape)}, wanted one number for all pairs")
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing is {label_smoothing}, wanted a share from 0 to below 1")
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}, wanted 1 or more")


def _check_pairs(image: Tensor, text: Tensor) -> None:
    if image.ndim != 2 or image.shape != text.shape or not image.shape[1]:
        raise ShapeError(
            f"image has shape {list(image.shape)} and text {list(text.shape)}, wanted both [pairs dim]: row k of one "
            "belongs to row k of the other"
        )
