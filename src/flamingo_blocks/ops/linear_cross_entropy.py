"""Cross-entropy straight from hidden states: the logits of all tokens never exist at once."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from flamingo_blocks.ops.next_token_loss import IGNORED, mean_of_counted

# Logits in one chunk: few enough to stay near the cache of a CPU, enough to keep a GPU busy.
_CHUNK_OF_CPU, _CHUNK_OF_OTHERS = 2**23, 2**26


def linear_cross_entropy(
    hidden: Float[Tensor, "*lead dim"],
    weight: Tensor | Sequence[Tensor],
    labels: Int[Tensor, "*lead"],
    *,
    bias: Tensor | None | Sequence[Tensor | None] = None,
    chunk_size: int | None = None,
    ignore_index: int = IGNORED,
    reduction: Literal["mean", "sum"] = "mean",
) -> Float[Tensor, ""]:
    """Cross-entropy of `hidden @ weight.T` with labels, for one chunk of tokens at a time.

    Use it for the loss of a language model in training: logits of 8192 tokens over 128k words cost 12 GB, a chunk of
    them 0.4. The gradients are made in the forward pass, chunk by chunk, so nothing is projected twice, the backward
    pass needs no weight, and a frozen weight costs no gradient.

    Args:
        hidden: What enters the head.
        weight: The head's weight [vocab dim]; or several, whose logits stand side by side, such as a frozen head and
            the trained rows of new tokens.
        labels: Which logit is wanted at each token; not shifted here.
        bias: One [vocab] for each weight, or `None`.
        chunk_size: Tokens whose logits exist at once; by default as many as 8M logits (CPU) or 64M (elsewhere) allow.
        ignore_index: The label that does not count. Tokens that carry it are left out before the projection where
            the labels are on the CPU; elsewhere asking for their number would stall the device, so they are projected
            and masked.
        reduction: `"mean"` over the labels that count, or `"sum"`.

    Returns:
        The loss in nats, in float32 at least, the softmax too; exactly zero, with zero gradients, where no label
        counts. Matrix products run in the dtype of `hidden`, or of autocast. Weight gradients are summed in float32.

    Raises:
        ValueError: If shapes do not fit, `reduction` or `chunk_size` is something else, or a label on the CPU is
            outside the vocabulary.

    Example:
        >>> hidden, weight = torch.zeros(1, 3, 8), torch.zeros(4, 8)
        >>> round(linear_cross_entropy(hidden, weight, torch.tensor([[0, 3, -100]])).item(), 4)  # log of 4
        1.3863

    Source:
        The idea of Cut Cross-Entropy (arXiv 2411.09009) and of Liger's fused loss, in plain torch.
    """
    tables = [weight] if isinstance(weight, Tensor) else list(weight)
    biases = [bias] * len(tables) if bias is None or isinstance(bias, Tensor) else list(bias)
    _check(hidden, tables, biases, labels, chunk_size, reduction)
    vocab = sum(table.shape[0] for table in tables)
    limit = _CHUNK_OF_CPU if hidden.device.type == "cpu" else _CHUNK_OF_OTHERS
    flat = labels.reshape(-1)
    rows = _counting_rows(flat, ignore_index)
    total: Tensor = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden.flatten(0, -2) if hidden.ndim > 1 else hidden[None],
        flat.to(hidden.device),
        rows,
        chunk_size or max(64, limit // max(vocab, 1)),
        ignore_index,
        _compute_dtype(hidden),
        torch.is_grad_enabled(),
        *tables,
        *biases,
    )
    return mean_of_counted(total, labels.to(total.device), ignored=ignore_index) if reduction == "mean" else total


class _LinearCrossEntropy(torch.autograd.Function):
    """The sum of all losses; keeps the gradients that the forward pass made, and scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        labels: Tensor,
        rows: Tensor | None,
        chunk: int,
        ignore_index: int,
        dtype: torch.dtype,
        grad: bool,  # noqa: FBT001 - apply() takes no keywords
        *heads: Tensor | None,
    ) -> Tensor:
        tables, biases = cast(list[Tensor], list(heads[: len(heads) // 2])), list(heads[len(heads) // 2 :])
        wants = [grad and (tensor is not None and tensor.requires_grad) for tensor in (hidden, *heads)]
        run = _opaque if torch.compiler.is_compiling() else _in_chunks
        total, *gradients = run(hidden, labels, rows, tables, biases, chunk, ignore_index, dtype, wants)
        ctx.save_for_backward(*(g if want else None for g, want in zip(gradients, wants, strict=True)))
        ctx.dtypes = [None if tensor is None else tensor.dtype for tensor in (hidden, *heads)]
        return total

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        scaled = [
            None if kept is None else (kept * grad).to(dtype)
            for kept, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return (scaled[0], *(None,) * 6, *scaled[1:])
