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
        batches: Texts with their answers; `labels` is -100 outside the answer.

    Returns:
        Share of rows whose every labelled token is right.

    Raises:
        ValueError: If there is no row, or a batch has no labels.
    """
    right = count = 0
    for batch in batches:
        if batch.labels is None:
            raise ValueError("a batch has no labels; give the answers as labels, -100 elsewhere")
        logits = model(**replace(batch, labels=None).model_inputs()).logits
        wanted = batch.labels[:, 1:]
        right += int(((logits[:, :-1].argmax(dim=-1) == wanted) | (wanted < 0)).all(dim=1).sum())
        count += len(wanted)
    if not count:
        raise ValueError("batches is empty: nothing to measure")
    return right / count
