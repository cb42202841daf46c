"""One data set of a run: what is drawn from it, how it is scored, and how much it counts."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from flamingo_blocks.data import FlamingoBatch
from flamingo_blocks.models.output_head import counted_labels
from flamingo_blocks.ops.next_token_loss import number_counted, shifted_labels


def count_labels(model: nn.Module, batch: Any) -> int:
    """How many tokens of a batch `flamingo_loss` takes its mean over; 1 for what is no batch with labels.

    Args:
        model: A `Flamingo`, which leaves out its media tag, or any other.
        batch: Any.

    Returns:
        The number.

    Example:
        >>> count_labels(nn.Identity(), "a batch of another kind")
        1
    """
    if not isinstance(batch, FlamingoBatch) or batch.labels is None:
        return 1
    labels = batch.labels
    if (media_token_id := getattr(model, "media_token_id", None)) is not None:
        labels = counted_labels(media_token_id, labels, batch.input_ids, batch.document)
    return int(number_counted(shifted_labels(labels)))


class BatchParts(tuple[Any, ...]):
    """A batch that comes in parts, which are run one after the other and add up to the loss of the whole.

    Use it where a batch does not fit into memory at once. It is made of an iterable of the parts, each as the loss of
    its objective takes a batch.

    Example:
        >>> len(BatchParts(["one half", "the other"]))
        2
    """

    __slots__ = ()


@dataclass(frozen=True, kw_only=True)
class Objective:
    """One data set of a run: what is drawn from it, how it is scored, and how much it counts.

    Args:
        name: Stands in reports.
        batches: Gives at least as many batches as the run has steps, whole or as `BatchParts`. A `FlamingoBatch` best
            stands on the CPU: what it holds is counted there, before it is moved to the model; to count one on a GPU
            the host waits for it.
        loss: Takes the model and a batch, gives a scalar: a mean over what `count` counts.
        weight: Factor on the loss. A data set of weight 0 is not drawn from.
        count: Takes the model and a batch, gives how many terms its loss is a mean of: so the loss of several ranks or
            parts is the mean over the terms of all of them, and not a mean of means. By default the labels that count.

    Example:
        >>> Objective(name="squares", batches=[torch.ones(4, 2)], loss=lambda model, x: model(x).square().mean()).weight
        1.0

    Source:
        Flamingo (arXiv 2204.14198), section 2.4: a weighted sum over data sets of the likelihood of the text.
    """

    name: str
    batches: Iterable[Any]
    loss: Callable[[Any, Any], Tensor]
    weight: float = 1.0
    count: Callable[[Any, Any], int] = count_labels


@dataclass(frozen=True)
class Drawn:
    """What a step has drawn from a data set.

    Args:
        objective: The data set.
        parts: On the device of the model.
        counts: How many terms the loss of each part is a mean of.
        tokens: Real tokens of text of all parts.
        items: Their items.
    """

    objective: Objective
    parts: tuple[Any, ...]
    counts: tuple[int, ...]
    tokens: int
    items: int

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Terms of the loss, real tokens of text, and items."""
        return sum(self.counts), self.tokens, self.items


def draw(objective: Objective, source: Iterator[Any], model: nn.Module, step: int) -> Drawn:
    """The next batch of a data set, counted where it is and then moved to the model.

    Raises:
        ValueError: If there is none, or it has no part.
    """
    try:
        batch = next(source)
    except StopIteration:
        raise ValueError(
            f"objective {objective.name!r} ran dry at step {step}: its batches must last as long as the run"
        ) from None
    parts = tuple(batch) if isinstance(batch, BatchParts) else (batch,)
    if not parts:
        raise ValueError(f"objective {objective.name!r} gave a batch of no parts at step {step}, wanted one at least")
    batches = [part for part in parts if isinstance(part, FlamingoBatch)]
    counts = tuple(objective.count(model, part) for part in parts)
    tokens, items = sum(int(batch.attention_mask.sum()) for batch in batches), sum(map(_num_items, batches))
    device = next(model.parameters()).device
    return Drawn(objective, tuple(_moved(part, device) for part in parts), counts, tokens, items)


def check_objectives(objectives: Sequence[Objective]) -> None:
    """Refuse data sets of one name, and weights that say nothing.

    Raises:
        ValueError: If there are such.
    """
    names = [objective.name for objective in objectives]
    if len(set(names)) < len(names):
        raise ValueError(f"objectives have the names {names}: each needs a name of its own")
    for objective in objectives:
        if isinstance(objective.batches, Iterator) and hasattr(objective.batches, "batches"):
            raise ValueError(
                f"batches of objective {objective.name!r} is a whole {type(objective.batches).__name__}; "
                f"give it those of one source, mixture.batches({objective.name!r})"
            )
    weights = {objective.name: objective.weight for objective in objectives}
    if not all(0 <= weight < float("inf") for weight in weights.values()) or not any(weights.values()):
        raise ValueError(f"objectives have the weights {weights}: wanted none below 0 and one above")


def _num_items(batch: FlamingoBatch) -> int:
    pool = batch.pixels if batch.pixels is not None else batch.features
    return 0 if pool is None else len(pool)


def _moved(part: Any, device: torch.device) -> Any:
    """Batches of another kind are moved by whoever makes them."""
    if not isinstance(part, FlamingoBatch) or part.input_ids.device == device:
        return part
    return part.to(device, non_blocking=True)
