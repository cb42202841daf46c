"""Let the model write behind rows: beams or greedy choice, up to the end of a chunk."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.decode.answers import Written
from flamingo_blocks.evaluation.decode.query_rows import PlacedRows
from flamingo_blocks.models.flamingo import Flamingo
from flamingo_blocks.models.plain_decoding import as_ids
from flamingo_blocks.models.processor import FlamingoProcessor


@dataclass(frozen=True, kw_only=True)
class Writing:
    """How a model writes.

    Args:
        num_beams: Beams; 1 is greedy choice.
        length_penalty: Of beams: 0 ranks them by the sum of their log-probabilities, 1 by the mean.
        max_new_tokens: Most tokens.
        tag_ids: The media tag, which is never written.
        chunk_end: Id of `<EOC>`.
        text_ends: Ids that end a text.
        pad_id: Id of pads.
    """

    num_beams: int
    length_penalty: float
    max_new_tokens: int
    tag_ids: tuple[int, ...]
    chunk_end: int | None
    text_ends: tuple[int, ...]
    pad_id: int

    @property
    def ends(self) -> list[int]:
        """All ids at which writing stops."""
        return [*(() if self.chunk_end is None else (self.chunk_end,)), *self.text_ends]


@dataclass(frozen=True, eq=False)
class WrittenIds:
    """The tokens that were written behind a row, up to the one that stopped it.

    Args:
        ids: Token ids.
        log_probs: Of each token, for greedy choice; of the whole text under the length penalty, for beams; empty where
            the model does not tell.
    """

    ids: tuple[int, ...]
    log_probs: tuple[float, ...] = ()


def text_ends(flamingo: Flamingo, processor: FlamingoProcessor) -> tuple[int, ...]:
    """Ids that end a text: those of the language model, and the one of the processor."""
    lm = flamingo.lm
    told = [getattr(getattr(lm, name, None), "eos_token_id", None) for name in ("generation_config", "config")]
    ids = [*as_ids(told[0]), *as_ids(told[1]), *as_ids(processor.special.eos)]
    return tuple(dict.fromkeys(token for token in ids if token != processor.special.end_of_chunk))


def write_rows(flamingo: Flamingo, rows: PlacedRows, how: Writing, *, with_log_probs: bool = False) -> list[WrittenIds]:
    """Write behind rows.

    Args:
        flamingo: The model.
        rows: Rows with pads on their left.
        how: Beams, length and stops.
        with_log_probs: Whether to tell log-probabilities, which takes the scores of all steps.

    Raises:
        EvaluationError: If beams are asked of a model without a `generate` of its own.
    """
    arguments: dict[str, Any] = {
        "max_new_tokens": how.max_new_tokens, "eos_token_id": how.ends or None, "pad_token_id": how.pad_id,
    }  # fmt: skip
    if not callable(getattr(flamingo.lm, "generate", None)):
        _refuse_beams(flamingo.lm, how.num_beams)
        with _without(flamingo.lm, how.tag_ids):
            out = flamingo.generate(**rows.arguments(), **arguments)
        return [WrittenIds(_up_to_end(row, how.ends)) for row in out[:, _width(rows) :].tolist()]
    arguments |= {  # whatever the model's own generation config says
        "do_sample": False, "num_beams": how.num_beams, "num_return_sequences": 1, "min_length": 0,
        "repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "return_dict_in_generate": True,
        "output_scores": with_log_probs,
    }  # fmt: skip
    if how.num_beams > 1:
        arguments |= {"length_penalty": how.length_penalty, "early_stopping": False}
    if len(how.tag_ids) == 1:
        arguments["suppress_tokens"] = list(how.tag_ids)
    else:
        arguments["bad_words_ids"] = [list(how.tag_ids)]
    out = flamingo.generate(**rows.arguments(), **arguments)
    new = out.sequences[:, _width(rows) :]
    found = [_up_to_end(row, how.ends) for row in new.tolist()]
    if not with_log_probs:
        return [WrittenIds(ids) for ids in found]
    return [WrittenIds(ids, told) for ids, told in zip(found, _log_probs(out, new, found), strict=True)]


def written(ids: WrittenIds, how: Writing, processor: FlamingoProcessor) -> Written:
    """What was written, as text.

    Args:
        ids: The tokens.
        how: Says which of them stop.
        processor: Decodes them.
    """
    last = ids.ids[-1] if ids.ids else None
    if last is not None and last == how.chunk_end:
        return Written(text=processor.decode(ids.ids[:-1]), ids=ids.ids, stopped_by="end_of_chunk")
    if last in how.text_ends:
        return Written(text=processor.decode(ids.ids[:-1]), ids=ids.ids, stopped_by="end_of_text")
    return Written(text=processor.decode(ids.ids), ids=ids.ids, stopped_by="length")


def _width(rows: PlacedRows) -> int:
    return rows.ids.shape[1] + (0 if rows.prompt is None else rows.prompt.input_ids.shape[1])


def _up_to_end(row: Sequence[int], ends: Sequence[int]) -> tuple[int, ...]:
    stop = next((place for place, token in enumerate(row) if token in ends), len(row) - 1)
    return tuple(row[: stop + 1])


def _log_probs(out: Any, new: Tensor, found: Sequence[tuple[int, ...]]) -> list[tuple[float, ...]]:
    if getattr(out, "sequences_scores", None) is not None:
        return [(score,) for score in out.sequences_scores.tolist()]
    steps = [scores.float().log_softmax(-1).gather(1, new[:, [step]]) for step, scores in enumerate(out.scores)]
    return [tuple(row[: len(ids)]) for row, ids in zip(torch.cat(steps, dim=1).tolist(), found, strict=True)]


def _refuse_beams(lm: nn.Module, num_beams: int) -> None:
    if num_beams > 1:
        raise EvaluationError(
            f"num_beams is {num_beams}, but {type(lm).__name__} has no generate of its own, and the plain loop chooses "
            "greedily; pass num_beams=1, or give the language model a generate as transformers' have"
        )


@contextmanager
def _without(lm: nn.Module, tag_ids: Sequence[int]) -> Iterator[None]:
    """Keep a model from writing the tag; one of several tokens is text, which no choice of single tokens can tell."""

    def ban(_: nn.Module, __: Any, output: Any) -> Any:
        logits = output if isinstance(output, Tensor) else output.logits
        if tag_ids[0] >= logits.shape[-1]:
            return output
        logits = logits.index_fill(-1, torch.tensor([tag_ids[0]], device=logits.device), float("-inf"))
        if isinstance(output, Tensor):
            return logits
        output.logits = logits
        return output

    handle = lm.register_forward_hook(ban) if len(tag_ids) == 1 else None
    try:
        yield
    finally:
        if handle is not None:
            handle.remove()
