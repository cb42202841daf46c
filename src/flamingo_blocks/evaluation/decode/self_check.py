"""Whether the fast ways give what a model gives that shares nothing: tried on the first queries of each cell."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from flamingo_blocks.evaluation.decode.answer_writer import AnswerWriter
from flamingo_blocks.evaluation.decode.candidate_scorer import WAYS, Asked, CandidateScorer, Way
from flamingo_blocks.evaluation.decode.num_alike import num_alike
from flamingo_blocks.evaluation.decode.query_rows import QueryRow
from flamingo_blocks.evaluation.decode.write_rows import Writing, WrittenIds

_QUERIES_TO_WRITE, _QUERIES_TO_SCORE, _CANDIDATES = 4, 2, 4
# Of a sum of log-probabilities, and what half precision adds for each token: logits of 16 to 32 lie that far apart
_BOUND, _BOUND_OF_HALF = 1e-3, {torch.float16: 0.05, torch.bfloat16: 0.25}


@dataclass
class Findings:
    """Which ways are gone, and what was found of them.

    Args:
        writes_shared: Whether writing goes on from shared prompts.
        scores_shared: Whether scoring does.
        way: How candidates are scored.
        checked: Queries that were also computed without sharing.
        largest_difference: Of log-probabilities, between the ways that are gone and whole texts.
        refused: What was given up since it was wrong, and why; kept from cell to cell.
        not_made_for: What the language model is not made for, as far as that is known without trying, in some cell.
        best: The best way that was not refused; where the next cell begins.
        may_unshare: Whether sharing may be given up.
        may_step_down: Whether the way may be.
    """

    writes_shared: bool
    scores_shared: bool
    way: Way = "trie"
    checked: int = 0
    largest_difference: float = 0.0
    refused: list[str] = field(default_factory=list)
    not_made_for: list[str] = field(default_factory=list)
    best: Way = "trie"
    may_unshare: bool = True
    may_step_down: bool = True

    def step_down(self, why: str, *, shares: bool, known: bool = False) -> bool:
        """Give up what is wrong: the trie first, then sharing, then copies; False where nothing may be given up.

        Args:
            why: What is wrong.
            shares: Whether prompts are shared.
            known: Whether the language model is known not to be made for it, so that nobody needs a warning.
        """
        unshare = shares and self.scores_shared and self.may_unshare
        if unshare and (self.way != "trie" or not self.may_step_down):
            self.scores_shared = False
            self.refuse("Candidates are scored without shared prompts", why)
        elif self.may_step_down and self.way != "rows":
            name, self.way = self.way, WAYS[WAYS.index(self.way) + 1]
            told = f"Candidates are scored by {self.way!r} in place of {name!r}"
            if known:
                self.not_made_for = list(dict.fromkeys((*self.not_made_for, f"{told}: {why}")))
            else:
                self.best = self.way
                self.refuse(told, why)
        else:
            return False
        return True

    def refuse(self, what: str, why: str) -> None:
        """Note that a way is not gone any more, and warn of it."""
        self.refused.append(f"{what}: {why}")
        warnings.warn(f"{what} from now on: {why}", stacklevel=5)

    def new_cell(self) -> None:
        """Try again what the texts of this cell may be made for; what was wrong stays refused."""
        self.way = self.best


def check_writing(
    findings: Findings, writer: AnswerWriter, how: Writing, rows: Sequence[tuple[QueryRow, QueryRow]]
) -> None:
    """Write behind a few queries with and without a shared prompt, and stop sharing where that makes a difference.

    Args:
        findings: Gets the verdict.
        writer: Writes.
        how: Beams, length and stops.
        rows: Queries behind the prompt, each with its whole text.
    """
    some = [pair for pair in rows if pair[0].prompt is not None and pair[0].prompt.cache is not None]
    some = some[:_QUERIES_TO_WRITE]
    if not some:  # without a cache the text of the prompt is run again, and nothing is shared but media
        return
    findings.checked += len(some)
    try:
        shared = writer.run([row for row, _ in some], how, with_log_probs=True)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a model does with a cache that it was not made for
        _share_no_writing(findings, f"{type(error).__name__}: {error}")
        return
    dtype = next(writer.runner.flamingo.lm.parameters()).dtype
    largest = 0.0
    for row, whole in some:
        alone = writer.run([whole], how, with_log_probs=True)[whole.number]
        difference = _between(shared[row.number], alone, dtype)
        if difference > _bound(dtype, len(alone.ids)):
            told = (
                "other tokens are written behind a shared prompt"
                if math.isinf(difference)
                else f"log-probabilities behind a shared prompt are off by {difference:.2g}"
            )
            _share_no_writing(findings, told)
            return
        largest = max(largest, difference)
    findings.largest_difference = max(findings.largest_difference, largest)


def check_scoring(findings: Findings, scorer: CandidateScorer, asked: Sequence[Asked]) -> None:
    """Score candidates of a few queries in whole texts, and step down to the first way that gives the same.

    Args:
        findings: Gets the verdict.
        scorer: Scores.
        asked: Queries with their candidates.
    """
    some = asked[:_QUERIES_TO_SCORE]
    numbers = {one.number: _spread(one) for one in some}
    right = {one.number: scorer.whole_texts(one, numbers[one.number]) for one in some}
    if not all(math.isfinite(value) for values in right.values() for value in values):
        return  # nothing could be equal to that; what is scored next says so
    findings.checked += len(some)
    dtype = next(scorer.runner.flamingo.lm.parameters()).dtype
    shares = any(one.prompt is not None and one.prompt.state is not None for one in some)
    while True:
        why, largest = scorer.why_not(findings.way, asked, shared=findings.scores_shared), 0.0
        known = why is not None
        if why is None:
            why, largest = _off(findings, scorer, some, numbers, right, dtype)
        if why is None or not findings.step_down(why, shares=shares and not known, known=known):
            findings.largest_difference = max(findings.largest_difference, largest)
            return


def _off(
    findings: Findings,
    scorer: CandidateScorer,
    some: Sequence[Asked],
    numbers: dict[int, list[int]],
    right: dict[int, list[float]],
    dtype: torch.dtype,
) -> tuple[str | None, float]:
    """Why a way is wrong, None where it is not; and the largest difference."""
    try:
        scores = scorer.run(findings.way, some, shared=findings.scores_shared)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a model does with what it was not made for
        return f"{type(error).__name__}: {error}", 0.0
    largest = 0.0
    for one in some:
        for number, wanted in zip(numbers[one.number], right[one.number], strict=True):
            difference = abs(scores[one.number][number] - wanted)
            if not difference <= _bound(dtype, len(one.candidates[number])):  # NaN neither
                return f"log-probabilities are off by {difference:.2g}", difference
            largest = max(largest, difference)
    return None, largest


def _share_no_writing(findings: Findings, why: str) -> None:
    findings.writes_shared = False
    findings.refuse("Answers are written without shared prompts", why)


def _bound(dtype: torch.dtype, num_tokens: int) -> float:
    return max(_BOUND, _BOUND_OF_HALF.get(dtype, 0.0) * num_tokens)


def _between(one: WrittenIds, other: WrittenIds, dtype: torch.dtype) -> float:
    """How far two writings of one query are apart; half precision may choose another one of two that are as likely."""
    if one.ids != other.ids and dtype not in _BOUND_OF_HALF:
        return math.inf
    if not one.log_probs or not other.log_probs:
        return 0.0 if one.ids == other.ids else math.inf
    pairs = zip(one.log_probs, other.log_probs, strict=False)
    alike = num_alike(one.ids, other.ids)
    return max(abs(a - b) for step, (a, b) in enumerate(pairs) if step <= alike)


def _spread(asked: Asked) -> list[int]:
    """A few candidates: the longest one, and some from first to last."""
    count = len(asked.candidates)
    longest = max(range(count), key=lambda number: len(asked.candidates[number]))
    return sorted({longest, *(count * part // _CANDIDATES for part in range(_CANDIDATES))})


def told(findings: Findings, **more: Any) -> dict[str, Any]:
    """Findings as they stand in result files."""
    return {
        "writes_shared": findings.writes_shared, "scores_shared": findings.scores_shared, "scorer": findings.way,
        "checked": findings.checked, "largest_difference": findings.largest_difference,
        "refused": list(findings.refused), "not_made_for": list(findings.not_made_for), **more,
    }  # fmt: skip
