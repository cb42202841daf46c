"""Cross-entropy straight from hidden states: the logits of all tokens never exist at once."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import accumulate, pairwise
from typing import Any, Literal, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flamingo_blocks.errors import ShapeError
from flamingo_blocks.ops.next_token_loss import IGNORED, check_label_kind, check_z_loss, mean_of_counted

# Logits in one chunk: few enough to stay near the cache of a CPU, enough to keep a GPU busy.
_CHUNK_OF_CPU, _CHUNK_OF_OTHERS = 2**23, 2**26


def linear_cross_entropy(
    hidden: Float[Tensor, "*lead dim"],
    weight: Tensor | Sequence[Tensor],
    labels: Int[Tensor, "*lead"],
    *,
    bias: Tensor | Sequence[Tensor | None] | None = None,
    chunk_size: int | None = None,
    ignore_index: int = IGNORED,
    reduction: Literal["mean", "sum"] = "mean",
    z_loss: float = 0.0,
) -> Float[Tensor, ""]:
    """Cross-entropy of `hidden @ weight.T` with labels, for one chunk of tokens at a time.

    Use it for the loss of a language model in training: logits of 8192 tokens over 128k words cost 12 GB, a chunk of
    them 0.4. The gradients are made in the forward pass, chunk by chunk, so nothing is projected twice, the backward
    pass needs no weight, and a frozen weight costs no gradient. They have no gradients of their own: where you need
    those, make the logits.

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
        z_loss: Factor on the squared logarithm of the softmax's denominator, added at each label that counts: it keeps
            the logits of a head that trains from drifting. 1e-3 in IDEFICS.

    Returns:
        The loss in nats, in float32 at least, the softmax too; exactly zero, with zero gradients, where no label
        counts. Matrix products run in the dtype of `hidden`, or of autocast. Weight gradients are summed in float32.

    Raises:
        ValueError: If shapes do not fit, labels are no integers, `reduction`, `chunk_size` or `z_loss` is something
            else, or a label on the CPU is outside the vocabulary.
        RuntimeError: If its gradient is taken with `create_graph=True`.

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
    check_z_loss(z_loss)
    vocab = sum(table.shape[0] for table in tables)
    limit = _CHUNK_OF_CPU if hidden.device.type == "cpu" else _CHUNK_OF_OTHERS
    flat = labels.reshape(-1)
    rows = _counting_rows(flat, ignore_index)
    if rows is not None:
        _check_labels(flat[rows], vocab, ignore_index)
        rows = rows.to(hidden.device)
    total: Tensor = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden.flatten(0, -2) if hidden.ndim > 1 else hidden[None],
        flat.to(hidden.device),
        rows,
        chunk_size or max(64, limit // max(vocab, 1)),
        ignore_index,
        z_loss,
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
        z_loss: float,
        dtype: torch.dtype,
        grad: bool,  # noqa: FBT001 - apply() takes no keywords
        *heads: Tensor | None,
    ) -> Tensor:
        tables, biases = cast(list[Tensor], list(heads[: len(heads) // 2])), list(heads[len(heads) // 2 :])
        wants = [grad and (tensor is not None and tensor.requires_grad) for tensor in (hidden, *heads)]
        run = _opaque if torch.compiler.is_compiling() else _in_chunks
        total, *gradients = run(hidden, labels, rows, tables, biases, chunk, ignore_index, z_loss, dtype, wants)
        ctx.save_for_backward(*(g if want else None for g, want in zip(gradients, wants, strict=True)))
        ctx.dtypes = [None if tensor is None else tensor.dtype for tensor in (hidden, *heads)]
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        # `once_differentiable` would take the kept gradients for constants, and give second derivatives without them.
        if torch.is_grad_enabled():
            raise RuntimeError(
                "linear_cross_entropy has no gradient of its gradient, which create_graph=True asks for; leave that "
                "out, or take the cross-entropy of all logits"
            )
        scaled = [
            None if kept is None else (kept * grad).to(dtype)
            for kept, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return (scaled[0], *(None,) * 7, *scaled[1:])


def _in_chunks(
    hidden: Tensor,
    labels: Tensor,
    rows: Tensor | None,
    tables: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    chunk: int,
    ignore_index: int,
    z_loss: float,
    dtype: torch.dtype,
    wants: Sequence[bool],
) -> list[Tensor]:
    """The sum of the losses, and its gradients where they are wanted: of hidden states, tables and biases in turn."""
    with _without_autocast(hidden.device):
        head = _Head(tables, biases, dtype, wants[1:])
        d_hidden = torch.zeros_like(hidden) if wants[0] else hidden.new_empty(0)
        total = hidden.new_zeros((), dtype=head.wide)
        num_rows = hidden.shape[0] if rows is None else rows.shape[0]
        scores, log_probs = head.buffers(min(chunk, num_rows), hidden.device)
        for start in range(0, num_rows, chunk):
            part = slice(start, start + chunk) if rows is None else rows[start : start + chunk]
            inputs, wanted = hidden[part].to(dtype), labels[part][:, None]
            ignored = wanted == ignore_index
            if rows is None:  # what does not count may hold anything, and 0 times NaN is NaN
                inputs, wanted = inputs.masked_fill(ignored, 0), wanted.masked_fill(ignored, 0)
            raw, scored = scores[: len(wanted)], log_probs[: len(wanted)]
            head.write_logits(inputs, raw)
            torch.log_softmax(raw, -1, dtype=head.wide, out=scored)
            total -= scored.gather(1, wanted).masked_fill(ignored, 0).sum()
            if z_loss:  # the same column has the largest of both, so nothing infinite meets
                log_sums = (raw.amax(1, keepdim=True) - scored.amax(1, keepdim=True)).masked_fill(ignored, 0)
                total += z_loss * log_sums.square().sum()
            if any(wants):
                slope = scored.exp_().mul_(1 + 2 * z_loss * log_sums) if z_loss else scored.exp_()
                slope = slope.scatter_add_(1, wanted, scored.new_full((1, 1), -1).expand_as(wanted))
                slope = slope.masked_fill_(ignored, 0) if rows is None else slope
                slope = slope if head.wide == dtype else raw.copy_(slope)
                head.add_gradients(inputs, slope)
                if wants[0]:
                    d_hidden[part] = head.hidden_gradient(slope).to(hidden.dtype)
        return [total, d_hidden, *head.gradients]


class _Head:
    """Tables whose logits stand side by side, and the sums of their gradients."""

    def __init__(
        self, tables: Sequence[Tensor], biases: Sequence[Tensor | None], dtype: torch.dtype, wants: Sequence[bool]
    ) -> None:
        self.tables = [table.to(dtype) for table in tables]
        self.biases = [None if bias is None else bias.to(dtype) for bias in biases]
        self.ranges = [slice(*ends) for ends in pairwise(accumulate((table.shape[0] for table in tables), initial=0))]
        self.dtype, self.wide = dtype, torch.promote_types(dtype, torch.float32)
        self.gradients = [
            tensor.new_zeros(tensor.shape, dtype=self.wide) if want and tensor is not None else tables[0].new_empty(0)
            for tensor, want in zip((*tables, *biases), wants, strict=True)
        ]
        self.wants = wants

    def buffers(self, num_rows: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Room for the logits of a chunk, and for their logarithmic softmax."""
        shape = (num_rows, self.ranges[-1].stop)
        return torch.empty(shape, dtype=self.dtype, device=device), torch.empty(shape, dtype=self.wide, device=device)

    def write_logits(self, inputs: Tensor, out: Tensor) -> None:
        for table, bias, columns in zip(self.tables, self.biases, self.ranges, strict=True):
            if bias is None:
                torch.mm(inputs, table.t(), out=out[:, columns])
            else:
                torch.addmm(bias, inputs, table.t(), out=out[:, columns])

    def hidden_gradient(self, slope: Tensor) -> Tensor:
        out = slope[:, self.ranges[0]] @ self.tables[0]
        for table, columns in zip(self.tables[1:], self.ranges[1:], strict=True):
            out.addmm_(slope[:, columns], table)
        return out

    def add_gradients(self, inputs: Tensor, slope: Tensor) -> None:
        """Of the tables and biases that train; a frozen one costs nothing."""
        number = len(self.tables)
        for i, columns in enumerate(self.ranges):
            if self.wants[i] and self.wide == self.dtype:
                self.gradients[i].addmm_(slope[:, columns].t(), inputs)
            elif self.wants[i]:
                self.gradients[i] += slope[:, columns].t() @ inputs
            if self.wants[number + i]:
                self.gradients[number + i] += slope[:, columns].sum(0, dtype=self.wide)


@torch.library.custom_op("flamingo_blocks::linear_cross_entropy", mutates_args=())
def _opaque(
    hidden: Tensor,
    labels: Tensor,
    rows: Tensor | None,
    tables: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    chunk: int,
    ignore_index: int,
    z_loss: float,
    dtype: torch.dtype,
    wants: Sequence[bool],
) -> list[Tensor]:
    """`_in_chunks` as one operation, so that compiled code holds no loop whose length it would be compiled for."""
    return _in_chunks(hidden, labels, rows, tables, biases, chunk, ignore_index, z_loss, dtype, wants)


@_opaque.register_fake
def _shapes(
    hidden: Tensor, _: Tensor, __: Tensor | None, tables: Sequence[Tensor], biases: Sequence[Tensor | None], *rest: Any
) -> list[Tensor]:
    dtype, wants = rest[-2:]
    wide = torch.promote_types(dtype, torch.float32)
    parts = zip((*tables, *biases), wants[1:], strict=True)
    return [
        hidden.new_empty((), dtype=wide),
        torch.empty_like(hidden) if wants[0] else hidden.new_empty(0),
        *(
            part.new_empty(part.shape, dtype=wide) if want and part is not None else tables[0].new_empty(0)
            for part, want in parts
        ),
    ]


def _counting_rows(labels: Int[Tensor, " tokens"], ignore_index: int) -> Tensor | None:
    """The tokens that count, where reading them is free; elsewhere `None`."""
    if type(labels) is not Tensor or labels.device.type != "cpu" or torch.compiler.is_compiling():
        return None
    return torch.arange(len(labels)).masked_select(labels != ignore_index)


def _compute_dtype(hidden: Tensor) -> torch.dtype:
    kind = hidden.device.type
    if hidden.dtype == torch.float64 or kind == "meta" or not torch.is_autocast_enabled(kind):
        return hidden.dtype
    return torch.get_autocast_dtype(kind)


def _without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    off = device.type == "meta" or not torch.is_autocast_enabled(device.type)
    return nullcontext() if off else torch.autocast(device.type, enabled=False)


def _check(
    hidden: Tensor,
    tables: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    labels: Tensor,
    chunk_size: int | None,
    reduction: str,
) -> None:
    if reduction not in ("mean", "sum"):
        raise ValueError(f'reduction is {reduction!r}, wanted "mean" or "sum"')
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}, wanted 1 or more")
    if labels.shape != hidden.shape[:-1]:
        raise ShapeError(f"labels has shape {tuple(labels.shape)}, hidden {tuple(hidden.shape)}; wanted one a token")
    check_label_kind(labels)
    for table in tables:
        if table.ndim != 2 or table.shape[1] != hidden.shape[-1]:
            raise ShapeError(f"weight has shape {tuple(table.shape)}, wanted [vocab {hidden.shape[-1]}]")
    sizes = [None if bias is None else tuple(bias.shape) for bias in biases]
    wanted = [(table.shape[0],) for table in tables]
    if not tables or len(sizes) != len(wanted) or any(s not in (None, w) for s, w in zip(sizes, wanted, strict=False)):
        raise ShapeError(f"bias has the shapes {sizes}, wanted for each weight None or {wanted}")


def _check_labels(labels: Tensor, vocab: int, ignore_index: int) -> None:
    wrong = labels.masked_select((labels < 0) | (labels >= vocab)).tolist()
    if wrong:
        raise ValueError(f"labels hold {wrong[0]}, wanted 0 to {vocab - 1}, or {ignore_index} where nothing counts")
