"""What is trained on: which labels count, and the loss over them."""

from collections.abc import Collection

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from flamingo_blocks.data import FlamingoBatch, SpecialTokens
from flamingo_blocks.ops.next_token_loss import IGNORED


def make_labels(
    input_ids: Int[Tensor, "batch text"],
    *,
    ignored_ids: Collection[int] = (),
    attention_mask: Bool[Tensor, "batch text"] | None = None,
    document: Int[Tensor, "batch text"] | None = None,
    special: SpecialTokens | None = None,
    is_media: Bool[Tensor, "batch text"] | None = None,
    mask_tags: bool = True,
    mask_before_first_media: bool = False,
    mask_between_chunks: bool = False,
) -> Int[Tensor, "batch text"]:
    """Labels of next-token training, in Hugging Face's convention: same columns as the ids, -100 where nothing counts.

    Use it for a batch of whole documents that has no labels yet. They are those of `document_labels`, row by row; where
    windows are cut from documents, take the labels of the whole document before, for a window does not tell what stood
    to its left.

        ids                       <BOS>  a  <EOC>  b  <image>  c  <EOC>  d  <EOS>  <pad>
        by default                       a  <EOC>  b           c  <EOC>  d  <EOS>
        mask_before_first_media                                c  <EOC>  d  <EOS>
        mask_between_chunks              a  <EOC>              c  <EOC>

    Args:
        input_ids: Token ids.
        ignored_ids: Tokens never to be predicted.
        attention_mask: True at real tokens; padding does not count.
        document: Which document each token of a packed row belongs to; the first token of each does not count.
        special: Ids of tag, `<EOC>` and `<BOS>`, which the masks below need. A `<BOS>` that begins a row or document
            does not count.
        is_media: True at the first token of each tag; by default where the tag's id stands. A tag of several tokens is
            known by its position alone.
        mask_tags: Take no loss on tags.
        mask_before_first_media: Take no loss before the first tag of a row or document.
        mask_between_chunks: Take no loss on what stands between an `<EOC>` and the next tag, or the end. With the one
            before it is OpenFlamingo's rule for MMC4.

    Returns:
        A copy of the ids with -100 where nothing counts.

    Raises:
        ValueError: If a mask needs `special` or `is_media`, which are not there.

    Example:
        >>> make_labels(torch.tensor([[1, 9, 2, 0]]), ignored_ids=[9], attention_mask=torch.tensor([[1, 1, 1, 0]]) > 0)
        tensor([[   1, -100,    2, -100]])
        >>> ids, special = torch.tensor([[7, 902, 901, 8, 902, 7]]), SpecialTokens(media=901, end_of_chunk=902)
        >>> make_labels(ids, special=special, mask_between_chunks=True)
        tensor([[   7,  902, -100,    8,  902, -100]])
    """
    _check(special, is_media, mask_before_first_media=mask_before_first_media, mask_between_chunks=mask_between_chunks)
    real = torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask
    ignored = ~real | _among(input_ids, ignored_ids)
    starts = _starts(real, document)
    if document is not None:
        ignored |= starts
    if special is not None:
        if special.bos is not None:
            ignored |= starts & (input_ids == special.bos)
        tags = input_ids == special.media_ids[0] if is_media is None else is_media
        if mask_tags:
            for place in range(len(special.media_ids)):
                ignored |= F.pad(tags, (place, 0))[:, : tags.shape[1]]
        if mask_before_first_media:
            ignored |= _since(starts, tags) + tags == 0
        if mask_between_chunks and special.end_of_chunk is not None:
            ignored |= _since(starts | tags, input_ids == special.end_of_chunk) > 0
    return input_ids.masked_fill(ignored, IGNORED)


def flamingo_loss(model: nn.Module, batch: FlamingoBatch, *, z_loss: float = 0.0) -> Float[Tensor, ""]:
    """The loss of a Flamingo on a batch, as its `forward` gives it.

    Args:
        model: A `Flamingo`, wrapped or not.
        batch: With labels.
        z_loss: As in `linear_cross_entropy`.

    Returns:
        The mean over the labels that count.

    Example:
        >>> from flamingo_blocks.models import build_tiny_flamingo
        >>> flamingo = build_tiny_flamingo()
        >>> ids = torch.tensor([[1, flamingo.media_token_id, 5, 6]])
        >>> batch = FlamingoBatch(
        ...     input_ids=ids, attention_mask=ids >= 0, labels=make_labels(ids), layout=flamingo.make_layout(ids),
        ...     pixels=torch.zeros(1, 1, 3, 8, 8),
        ... )
        >>> loss = flamingo_loss(flamingo, batch)  # in nats a label
        >>> loss.backward()
        >>> loss.shape
        torch.Size([])
    """
    loss: Tensor = model(**batch.model_inputs(), **_only_if(z_loss)).loss
    return loss


def flamingo_loss_sum(
    model: nn.Module, batch: FlamingoBatch, *, z_loss: float = 0.0
) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
    """The loss of a Flamingo summed over the labels, and their number.

    Use it where a batch is spread over ranks or over several passes: the sums are divided by the number of all labels
    together. A mean of means would count a label more where its part has fewer.

    Args:
        model: A `Flamingo`, wrapped or not.
        batch: With labels.
        z_loss: As in `linear_cross_entropy`.

    Returns:
        The sum in nats, exactly zero with zero gradients where no label counts; and how many do, on the same device.

    Raises:
        ValueError: If the batch has no labels.

    Example:
        >>> from flamingo_blocks.models import build_tiny_flamingo
        >>> flamingo = build_tiny_flamingo()
        >>> ids = torch.tensor([[1, flamingo.media_token_id, 5, 6]])
        >>> batch = FlamingoBatch(
        ...     input_ids=ids, attention_mask=ids >= 0, labels=ids, layout=flamingo.make_layout(ids),
        ...     pixels=torch.zeros(1, 1, 3, 8, 8),
        ... )
        >>> total, number = flamingo_loss_sum(flamingo, batch)
        >>> number  # neither the first token, before which nothing stands, nor the tag
        tensor(2)
        >>> torch.equal(total / number, flamingo_loss(flamingo, batch))
        True
    """
    if batch.labels is None:
        raise ValueError("batch has no labels; make them by make_labels, or by document_labels before collate")
    output = model(**batch.model_inputs(), **_only_if(z_loss))
    return output.loss * output.num_labels, output.num_labels


def _only_if(z_loss: float) -> dict[str, float]:
    """Models of others need not know the name."""
    return {"z_loss": z_loss} if z_loss else {}


def _among(input_ids: Tensor, ids: Collection[int]) -> Tensor:
    return torch.isin(input_ids, torch.tensor(list(ids), dtype=input_ids.dtype, device=input_ids.device))


def _starts(real: Bool[Tensor, "batch text"], document: Int[Tensor, "batch text"] | None) -> Bool[Tensor, "batch text"]:
    """The first token of each row and document."""
    after_none = ~F.pad(real, (1, 0))[:, :-1]
    if document is not None:
        after_none |= F.pad(document[:, 1:] != document[:, :-1], (1, 0))
    return real & after_none


def _since(starts: Bool[Tensor, "batch text"], events: Bool[Tensor, "batch text"]) -> Int[Tensor, "batch text"]:
    """How many events stand before each token, counted from the last start at or before it."""
    before = events.cumsum(1) - events.long()
    return before - before.masked_fill(~starts, 0).cummax(1).values


def _check(
    special: SpecialTokens | None,
    is_media: Tensor | None,
    *,
    mask_before_first_media: bool,
    mask_between_chunks: bool,
) -> None:
    wanting = [
        name
        for name, asked in (
            ("is_media", is_media is not None),
            ("mask_before_first_media", mask_before_first_media),
            ("mask_between_chunks", mask_between_chunks),
        )
        if asked
    ]
    if special is None and wanting:
        raise ValueError(f"special is None, but {', '.join(wanting)} given; pass special=processor.special")
    if special is not None and is_media is None and len(special.media_ids) > 1:
        raise ValueError(
            f"special.media is {special.media}, a tag of several tokens, which text may hold too; pass is_media=, True "
            "at the first token of each tag"
        )
