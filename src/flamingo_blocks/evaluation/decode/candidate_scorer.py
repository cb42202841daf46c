"""The ways to score candidates, from the fastest to the one that asks nothing of a language model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch

from flamingo_blocks.evaluation.decode.batch_sizes import halved
from flamingo_blocks.evaluation.decode.prompt_tokens import TokenizedPrompt
from flamingo_blocks.evaluation.decode.query_rows import PlacedRows, QueryRow
from flamingo_blocks.evaluation.decode.row_runner import RowRunner
from flamingo_blocks.evaluation.decode.score_trie import score_trie, why_no_trie
from flamingo_blocks.evaluation.decode.shared_prompt import SharedPrompt
from flamingo_blocks.evaluation.decode.token_trie import Candidates, TokenTrie, split
from flamingo_blocks.models.abilities import goes_on_from_cache
from flamingo_blocks.models.flamingo import Flamingo

Way = Literal["trie", "copies", "rows"]
WAYS: tuple[Way, ...] = get_args(Way)
_PRICE_OF_COPY = 64  # in pairs of tokens: a guess at what a token of the prompt costs that is copied for one more row


@dataclass(frozen=True)
class Asked:
    """A query whose candidates are to be scored.

    Args:
        number: Which query it is.
        whole: All of its text, prompt included.
        kept: How many tokens of it stand before the candidates.
        candidates: Token ids of each candidate.
        prompt: What it follows.
    """

    number: int
    whole: TokenizedPrompt
    kept: int
    candidates: Candidates
    prompt: SharedPrompt | None

    def row(self, *, shared: bool) -> QueryRow:
        """Its tokens before the candidates, without those that a shared prompt holds."""
        return QueryRow.of(self.number, self.whole, self.prompt if shared else None, kept=self.kept)


class CandidateScorer:
    """Scores candidates by a way that is named.

    Args:
        runner: Places and runs the rows.
    """

    def __init__(self, runner: RowRunner) -> None:
        self.runner = runner

    def why_not(self, way: Way, asked: Sequence[Asked], *, shared: bool) -> str | None:
        """Why a way cannot be gone, as far as that can be told before; None where it can.

        Args:
            way: The way.
            asked: What is to be scored.
            shared: Whether prompts are shared.
        """
        if way != "trie":
            return None
        longest = max(one.kept + max(map(len, one.candidates)) for one in asked)
        prompts = (one.row(shared=shared).prompt for one in asked)
        prompt = next((one for one in prompts if one is not None), None)
        return why_no_trie(self.runner.flamingo, num_tokens=longest, prompt=prompt)

    @torch.no_grad()
    def run(self, way: Way, asked: Sequence[Asked], *, shared: bool) -> dict[int, list[float]]:
        """Log-probabilities of the candidates of each query, by its number.

        Args:
            way: `"trie"`: all in one pass; `"copies"`: behind copies of what the model keeps; `"rows"`: whole texts.
            asked: What is to be scored.
            shared: Whether prompts are shared.
        """
        if way == "trie":
            return self._by_trie(asked, shared=shared)
        if way == "rows":
            return {one.number: self.whole_texts(one, range(len(one.candidates))) for one in asked}
        if not goes_on_from_cache(self.runner.flamingo):
            return self._by_texts(asked)
        found: dict[int, list[float]] = {}
        for candidates in dict.fromkeys(one.candidates for one in asked):
            rows = [one.row(shared=shared) for one in asked if one.candidates == candidates]
            found |= self._by_copies(rows, candidates)
        return found

    @torch.no_grad()
    def whole_texts(self, asked: Asked, numbers: Sequence[int]) -> list[float]:
        """Score some candidates of a query, each in a text of its own that nothing is kept of.

        Args:
            asked: The query.
            numbers: Which of its candidates.
        """
        flamingo, row = self.runner.flamingo, self.runner.place([asked.row(shared=False)])
        found = []
        for number in numbers:
            candidate = asked.candidates[number]
            ids = torch.cat([row.ids, torch.tensor([candidate], device=row.ids.device)], dim=1)
            layout, keep = row.layout.extend(len(candidate)), len(candidate) + 1
            logits = flamingo(ids, media=row.media, layout=layout, logits_to_keep=keep).logits
            chosen = logits[:, :-1].float().log_softmax(-1).gather(-1, ids[:, -len(candidate) :, None])
            found.append(float(chosen.cpu().double().sum()))
            self.runner.num_tokens += ids.shape[1]
        return found

    def _by_texts(self, asked: Sequence[Asked]) -> dict[int, list[float]]:
        """Each candidate behind its whole text, those of all queries together: for want of a cache there is no less."""
        rows: list[QueryRow] = []
        lengths: list[int] = []
        for one in asked:
            row = one.row(shared=False)
            for candidate in one.candidates:
                rows.append(replace(row, number=len(rows), ids=row.ids + candidate))
                lengths.append(len(candidate))
        self.runner.num_tokens += sum(len(row.ids) for row in rows)
        sizes = self.runner.bytes

        def run(batch: list[QueryRow]) -> list[float]:
            placed, longest = self.runner.place(batch), max(lengths[row.number] for row in batch)
            logits = self.runner.flamingo(**placed.arguments(), logits_to_keep=longest + 1).logits[:, :-1]
            chosen = logits.float().log_softmax(-1).gather(-1, placed.ids[:, -longest:, None])[..., 0].cpu().double()
            return [float(own[-lengths[row.number] :].sum()) for own, row in zip(chosen, batch, strict=True)]

        def need(row: QueryRow) -> int:
            return len(row.ids) * (sizes.running + sizes.cached) + (lengths[row.number] + 1) * sizes.predicted

        scores = self.runner.run(rows, run, need=need, padded=False)
        each = iter(scores[number] for number in range(len(rows)))
        return {one.number: [next(each) for _ in one.candidates] for one in asked}

    def _by_copies(self, rows: Sequence[QueryRow], candidates: Candidates) -> dict[int, list[float]]:
        sizes = self.runner.bytes
        self.runner.num_tokens += sum(len(row.ids) for row in rows)
        self.runner.num_tokens += len(rows) * sum(len(candidate) - 1 for candidate in candidates)

        def need(row: QueryRow) -> int:
            held = 0 if row.prompt is None else row.prompt.input_ids.shape[1]
            longest = max(map(len, candidates))
            return (
                2 * (held + len(row.ids) + longest) * sizes.cached
                + len(row.ids) * sizes.running
                + longest * sizes.predicted
            )

        def run(batch: list[QueryRow]) -> list[list[float]]:
            return _score_copies(self.runner.flamingo, self.runner.place(batch), candidates)

        return self.runner.run(rows, run, need=need, more=max(map(len, candidates)))

    def _by_trie(self, asked: Sequence[Asked], *, shared: bool) -> dict[int, list[float]]:
        pieces: list[tuple[Asked, list[int], TokenTrie]] = []
        rows = []
        for one in asked:
            row = one.row(shared=shared)
            for numbers in split(one.candidates, self._most_tokens(row, one.candidates)):
                rows.append(replace(row, number=len(pieces)))
                trie = TokenTrie.of(tuple(one.candidates[number] for number in numbers))
                pieces.append((one, numbers, trie))

        def run(batch: list[QueryRow]) -> list[list[float]]:
            tries = [pieces[row.number][2] for row in batch]
            pairs = zip(batch, tries, strict=True)
            self.runner.num_tokens += sum(len(row.ids) + len(trie.nodes) for row, trie in pairs)
            return score_trie(self.runner.flamingo, self.runner.place(batch, left=False), tries)

        def need(row: QueryRow) -> int:
            return self._trie_bytes(row, len(pieces[row.number][2].nodes))

        scores = self.runner.run(rows, run, need=need, padded=True)
        found = {one.number: [0.0] * len(one.candidates) for one in asked}
        for piece, (one, numbers, _) in enumerate(pieces):
            for number, score in zip(numbers, scores[piece], strict=True):
                found[one.number][number] = score
        return found

    def _trie_bytes(self, row: QueryRow, nodes: int) -> int:
        sizes, held = self.runner.bytes, 0 if row.prompt is None else row.prompt.input_ids.shape[1]
        columns = len(row.ids) + nodes
        once = sizes.cached + sizes.running + 2 * sizes.scored * (held + columns)
        return held * sizes.cached + columns * once + (nodes + 1) * sizes.predicted

    def _most_tokens(self, row: QueryRow, candidates: Candidates) -> int:
        """How many tokens of candidates stand beside one row: those that fit, half as many until they do.

        No more than are worth it, too. Attention computes all pairs of nodes and masks most: N nodes of one row are N *
        N pairs, in R rows N * N / R; but each further row reads the text of the query and copies the prompt.
        """
        sizes, held, text = self.runner.bytes, 0 if row.prompt is None else row.prompt.input_ids.shape[1], len(row.ids)
        further = text * (sizes.pairs + held + text) + _PRICE_OF_COPY * held
        tokens, longest = sum(map(len, candidates)), max(map(len, candidates))
        rows = max(1, int((tokens - len(candidates)) / math.sqrt(further)))
        fit = 2**16
        while fit > 1 and self._trie_bytes(row, fit) > self.runner.memory_bytes:
            fit //= 2
        return min(fit, -(-tokens // rows) + longest - 1)


def _score_copies(flamingo: Flamingo, rows: PlacedRows, candidates: Candidates) -> list[list[float]]:
    """Behind copies of what the model keeps; fewer candidates at once where memory is short and there is one row."""

    def run(some: list[tuple[int, ...]]) -> list[list[float]]:
        by_row: list[list[float]] = (
            flamingo.score(candidates=some, **rows.arguments()).log_probs.cpu().double().tolist()
        )
        return [list(column) for column in zip(*by_row, strict=True)]

    columns = halved(candidates, run) if rows.ids.shape[0] == 1 else run(list(candidates))
    return [list(row) for row in zip(*columns, strict=True)]
