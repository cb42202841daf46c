"""The head of a language model where it is a plain matrix: loss and next token need no logits of all columns."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from flamingo_blocks.lm.token_rows import TokenRows, find_head
from flamingo_blocks.models.abilities import make_of
from flamingo_blocks.models.call_language_model import call_language_model
from flamingo_blocks.models.eval_mode import eval_mode
from flamingo_blocks.ops.linear_cross_entropy import linear_cross_entropy
from flamingo_blocks.ops.next_token_loss import IGNORED, shifted_labels

if TYPE_CHECKING:
    from flamingo_blocks.models.flamingo import Flamingo


class OutputHead:
    """A head that is a `torch.nn.Linear` and the last thing a language model does; and the rows of new tokens.

    Args:
        module: The head.
        rows: The rows of new tokens, whose logits follow those of the head.

    Example:
        >>> head = OutputHead(nn.Linear(4, 10), None)
        >>> seen = []
        >>> with head.shown(seen):
        ...     head.module(torch.zeros(1, 3, 4)).shape
        torch.Size([1, 1, 10])
        >>> head.loss(seen[0], torch.tensor([[1, 2, 3]])).ndim
        0
    """

    def __init__(self, module: nn.Linear, rows: TokenRows | None) -> None:
        self.module = module
        self.rows = rows

    @contextmanager
    def shown(
        self, seen: list[Tensor], *, columns: Int[Tensor, " batch"] | None = None, factor: float = 1.0
    ) -> Iterator[None]:
        """Show the head one column of each row, so that it makes logits for this one alone.

        Args:
            seen: Gets all that would have entered the head [batch text dim].
            columns: Which column is shown; the last by default.
            factor: What the column is multiplied by.
        """

        def narrow(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            hidden: Tensor = args[0]
            seen.append(hidden)
            if columns is None:
                shown = hidden[:, -1:]
            else:
                shown = hidden.gather(1, columns[:, None, None].expand(-1, 1, hidden.shape[-1]))
            return (shown if factor == 1 else shown * factor, *args[1:])

        handle = self.module.register_forward_pre_hook(narrow)
        try:
            yield
        finally:
            handle.remove()

    def loss(
        self, hidden: Float[Tensor, "batch text dim"], labels: Int[Tensor, "batch text"], *, z_loss: float = 0.0
    ) -> Float[Tensor, ""]:
        """The next-token loss of what enters the head, without logits of all tokens at once."""
        weights: list[Tensor] = [self.module.weight]
        biases: list[Tensor | None] = [self.module.bias]
        if self.rows is not None and self.rows.output is not None:
            weights.append(self.rows.output.to(hidden.device))
            biases.append(None)
        return linear_cross_entropy(hidden, weights, shifted_labels(labels), bias=biases, z_loss=z_loss)

    def logits(self, hidden: Float[Tensor, "*lead dim"]) -> Float[Tensor, "*lead vocab"]:
        """What a model gives whose head is nothing else than this."""
        own = F.linear(hidden, self.module.weight, self.module.bias)
        return own if self.rows is None else torch.cat([own, self.rows.logits(hidden)], dim=-1)


def proven_head(flamingo: "Flamingo") -> OutputHead | None:
    """The head of the model if its logits are a plain product with it: shown once, by a short text, and remembered.

    Where the model is another since then, by its kinds of modules or by a hook on it or on its head, it is shown again.

    `None` where no head is found, or where it is quantised, sharded, wrapped, or followed by something: a soft cap, a
    factor, rows of others. `None` in compiled code too, where no hook can be set.
    """
    if torch.compiler.is_compiling():
        return None
    name, module = find_head(flamingo.lm, flamingo.embedding, flamingo.head)
    if not isinstance(module, nn.Linear) or not _is_plain(module):
        return None
    head, shown = OutputHead(module, flamingo.token_rows), flamingo._shown_head
    proven_of = f"{name}: {_state(flamingo.lm, module)}"
    if shown is None or shown[:2] != (proven_of, module):
        shown = flamingo._shown_head = (proven_of, module, _gives_the_logits(flamingo, head))
    return head if shown[2] else None


def _state(lm: nn.Module, head: nn.Module) -> tuple[int, ...]:
    """What changes with all that may stand between a head and the logits; torch gives no number to two hooks."""
    hooks = (getattr(module, kind) for module in (lm, head) for kind in ("_forward_pre_hooks", "_forward_hooks"))
    return (make_of(lm), id(vars(lm).get("forward")), *(number for hooks_of_kind in hooks for number in hooks_of_kind))


def counted_labels(
    media_token_id: int,
    labels: Int[Tensor, "batch text"],
    input_ids: Int[Tensor, "batch text"],
    document: Int[Tensor, "batch text"] | None,
) -> Int[Tensor, "batch text"]:
    """The labels without media tags and the first token of each packed document."""
    labels = labels.masked_fill(input_ids == media_token_id, IGNORED)
    if document is not None:
        labels = labels.masked_fill(F.pad(document[:, 1:] != document[:, :-1], (1, 0)), IGNORED)
    return labels


def _is_plain(head: nn.Linear) -> bool:
    # Classes that keep their weight in another form, or move it, have a `forward` of their own.
    own = type(head).forward is not nn.Linear.forward or "forward" in vars(head)
    own = own or hasattr(head.weight, "ds_id")  # DeepSpeed's, whose values come with a call
    return not own and type(head.weight) in (Tensor, nn.Parameter) and head.weight.is_floating_point()


@torch.no_grad()
def _gives_the_logits(flamingo: "Flamingo", head: OutputHead) -> bool:
    weight = head.module.weight
    if weight.is_meta:
        return False  # nothing can be shown
    ids = torch.tensor([[2, 1, 3]], device=next(flamingo.lm.parameters()).device)
    try:
        with eval_mode(flamingo.lm), flamingo.attachment.without_media():
            error = _error(flamingo.lm, head, ids)
    except torch.OutOfMemoryError:
        raise  # it says nothing of the head, and the answer is remembered
    except Exception:  # noqa: BLE001 - whatever a model does that was not made to have one column of logits
        return False
    return error <= (1e-5 if weight.dtype.itemsize >= 4 else 1e-2)


def _error(lm: nn.Module, head: OutputHead, ids: Tensor) -> float:
    """How far the last logits are from the head's own, relative to their size; inf where shapes differ."""
    seen: list[Tensor] = []
    with head.shown(seen):
        call_language_model(lm, ids)
    factor = 1000 / float(head.logits(seen[0]).abs().max())  # so large that a soft cap shows
    with head.shown(seen, factor=factor):
        logits = call_language_model(lm, ids).logits.float()
    if len(seen) != 2 or seen[1].shape[:2] != ids.shape:
        return float("inf")
    expected = head.logits(seen[1][:, -1:] * factor).float()
    if logits.shape != expected.shape:
        return float("inf")
    return float((logits - expected).abs().max() / expected.abs().max())
