"""Whether a model would write a text exactly, found without generating it."""

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import nn

from flamingo_blocks.data import FlamingoBatch


@torch.no_grad()
def exact_match(model: nn.Module, batches: Iterable[FlamingoBatch]) -> float:
    """Share of rows that greedy decoding would reproduce.

    One forward pass tells: greedy decoding writes the text if and only if each of its tokens is the likeliest after
    the right tokens before it.

    Args:
        model: A `Flamingo`, or any module that is called like one.
        batches: Texts with their answers; `labels` is -100 outside the answer, and each row has an answer.

    Returns:
        Share of rows whose every labelled token is right, from 0 to 1.

    Raises:
        ValueError: If there is no row, a batch has no labels, or a row has none but on its first token, which nothing
            comes before.

    Example:
        >>> from flamingo_blocks.data import FlamingoExample, collate
        >>> from flamingo_blocks.models import build_tiny_flamingo
        >>> model, ids = build_tiny_flamingo(), torch.tensor([[5, 6]])
        >>> written = int(model(ids).logits[0, -1].argmax())
        >>> rows = [FlamingoExample([5, 6, last], labels=[-100, -100, last]) for last in (written, written + 1)]
        >>> exact_match(model, [collate(rows, pad_id=0)])
        0.5
    """
    right = count = 0
    for place, batch in enumerate(batches):
        if batch.labels is None:
            raise ValueError(f"batch {place} has no labels; give the answers as labels, -100 elsewhere")
        unlabelled = (batch.labels[:, 1:] < 0).all(dim=1).nonzero()
        if len(unlabelled):
            raise ValueError(
                f"row {int(unlabelled[0])} of batch {place} has no label behind its first token, wanted one at least: "
                "it would count as right; label its answer, or leave the row out"
            )
        logits = model(**replace(batch, labels=None).model_inputs()).logits
        wanted = batch.labels[:, 1:]
        right += int(((logits[:, :-1].argmax(dim=-1) == wanted) | (wanted < 0)).all(dim=1).sum())
        count += len(wanted)
    if not count:
        raise ValueError("batches is empty: nothing to measure")
    return right / count
