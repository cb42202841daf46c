"""Asks a Flamingo queries behind shots: what it writes, and how likely it finds candidates."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch

from flamingo_blocks.data import InterleavedDocument
from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.decode.answers import CandidateScores, Written
from flamingo_blocks.evaluation.decode.batch_sizes import TokenBytes, in_batches, skips_pads
from flamingo_blocks.evaluation.decode.context_length import context_length
from flamingo_blocks.evaluation.decode.media_pool import MediaPool
from flamingo_blocks.evaluation.decode.prompt_tokens import PromptTokenizer, TokenizedPrompt
from flamingo_blocks.evaluation.decode.query_rows import PlacedRows, QueryRow, place_rows
from flamingo_blocks.evaluation.decode.score_rows import Candidates, score_copies
from flamingo_blocks.evaluation.decode.shared_prompt import SharedPrompt
from flamingo_blocks.evaluation.decode.write_rows import Writing, WrittenIds, text_ends, write_rows, written
from flamingo_blocks.models.eval_mode import eval_mode
from flamingo_blocks.models.flamingo import Flamingo
from flamingo_blocks.models.processor import FlamingoProcessor


class Decoder:
    def __init__(
        self,
        flamingo: Flamingo,
        processor: FlamingoProcessor,
        pool: MediaPool | None = None,
        *,
        num_beams: int = 3,
        length_penalty: float = 0.0,
        max_new_tokens: int = 20,
        terminator: bool = True,
        memory_bytes: int = 2**31,
        max_rows: int | None = None,
        share: bool | Literal["auto"] = "auto",
    ) -> None:
        _check(flamingo, processor, terminator=terminator)
        self.flamingo, self.processor = flamingo, processor
        self.pool = MediaPool(flamingo) if pool is None else pool
        self.terminator, self.memory_bytes, self.max_rows, self.share = terminator, memory_bytes, max_rows, share
        self._tokenizer = PromptTokenizer(processor)
        self._writing = Writing(
            num_beams=num_beams, length_penalty=length_penalty, max_new_tokens=max_new_tokens,
            tag_ids=processor.special.media_ids, chunk_end=processor.special.end_of_chunk,
            text_ends=text_ends(flamingo, processor), pad_id=processor.pad_token_id,
        )  # fmt: skip
        self._bytes = TokenBytes.of(flamingo)

    @property
    def max_tokens(self) -> int | None:
        return context_length(self.flamingo.lm)

    def tokens(self, document: InterleavedDocument) -> int:
        return len(self._tokenizer.prompt(document).ids)

    def begin(self, document: InterleavedDocument, *, before: SharedPrompt | None = None) -> SharedPrompt:
        """Run a prompt of shots once, or the shots that follow those of another prompt.

        Args:
            document: The shots; behind a prompt only the further ones.
            before: A prompt of fewer shots, which stays as it is.

        Returns:
            The prompt with all shots.
        """
        parts = () if before is None else before.document.segments
        whole = InterleavedDocument((*parts, *document.segments)).merged()
        prompt = self._tokenizer.prompt(whole)
        if not self._shares or not prompt.stable:
            return SharedPrompt(whole)
        row = QueryRow.of(0, prompt, before, kept=prompt.stable)
        num_media = sum(tag < prompt.stable for tag in prompt.tags)
        with eval_mode(self.flamingo):
            state = self.flamingo.prefill(**self._place([row]).arguments())
        return SharedPrompt(whole, prompt.ids[: prompt.stable], num_media, state)

    def write(
        self,
        queries: Sequence[InterleavedDocument],
        *,
        prompt: SharedPrompt | None = None,
        max_new_tokens: int | None = None,
    ) -> list[Written]:
        rows = []
        for number, query in enumerate(queries):
            whole = self._whole(query, prompt)
            rows.append(QueryRow.of(number, whole, prompt, kept=len(whole.ids)))

        def run(batch: list[QueryRow]) -> list[WrittenIds]:
            return write_rows(self.flamingo, self._place(batch), self._writing)

        found = self._run(rows, run, need=self._need_to_write)
        return [written(found[number], self._writing, self.processor) for number in range(len(queries))]

    def score(
        self,
        queries: Sequence[InterleavedDocument],
        candidates: Sequence[Sequence[str]],
        *,
        prompt: SharedPrompt | None = None,
    ) -> list[CandidateScores]:
        rows: dict[Candidates, list[QueryRow]] = {}
        found: dict[int, CandidateScores] = {}
        for number, (query, texts) in enumerate(zip(queries, candidates, strict=True)):
            whole = self._whole(query, prompt)
            kept, ids = self._tokenizer.candidates(whole, texts, terminator=self.terminator)
            rows.setdefault(ids, []).append(QueryRow.of(number, whole, prompt, kept=kept))
        for ids, group in rows.items():

            def run(batch: list[QueryRow], ids: Candidates = ids) -> list[CandidateScores]:
                scores = score_copies(self.flamingo, self._place(batch), ids)
                return [CandidateScores(log_probs=tuple(one), num_tokens=tuple(map(len, ids))) for one in scores]

            found |= self._run(group, run, need=self._need_to_write)
        return [found[number] for number in range(len(queries))]

    @property
    def _shares(self) -> bool:
        return self.share is not False

    def _whole(self, query: InterleavedDocument, prompt: SharedPrompt | None) -> TokenizedPrompt:
        whole = self._tokenizer.prompt(*(() if prompt is None else (prompt.document,)), query)
        if not whole.ids:
            raise EvaluationError("a query has neither text nor image; give it one")
        return whole

    def _place(self, rows: Sequence[QueryRow], *, left: bool = True) -> PlacedRows:
        special = self.processor.special
        return place_rows(self.pool, rows, pad_id=self.processor.pad_token_id, tag_ids=special.media_ids, left=left)

    def _run(
        self, rows: Sequence[QueryRow], run: Callable[[list[QueryRow]], list[Any]], *, need: Callable[[QueryRow], int]
    ) -> dict[int, Any]:
        found: dict[int, Any] = {}
        with eval_mode(self.flamingo), torch.no_grad():
            for shared in (True, False):
                some = [row for row in rows if (row.prompt is not None) == shared]
                if some:
                    found |= in_batches(
                        some, run, need=need, memory_bytes=self.memory_bytes, max_rows=self.max_rows,
                        padded=skips_pads(self.flamingo, between=shared),
                    )  # fmt: skip
        return found

    def _need_to_write(self, row: QueryRow) -> int:
        held = 0 if row.prompt is None else row.prompt.input_ids.shape[1]
        copied = (held + len(row.ids) + self._writing.max_new_tokens) * self._bytes.cached
        return self._writing.num_beams * (copied + self._bytes.predicted) + len(row.ids) * self._bytes.running


def _check(flamingo: Flamingo, processor: FlamingoProcessor, *, terminator: bool) -> None:
    """Refuse a processor that writes other tags than the model reads, or no `<EOC>` where it is to be scored."""
    tag, ours = processor.special.media_ids[0], flamingo.media_token_id
    if tag != ours:
        raise EvaluationError(f"the tag of processor is {tag}, that of flamingo {ours}; give both the same id")
    scope = "grouped" if processor.group_consecutive and processor.scope == "last" else processor.scope
    if scope != flamingo.scope:
        raise EvaluationError(
            f"scope of processor is {scope!r}, that of flamingo {flamingo.scope!r}; give both the same"
        )
    if terminator and processor.special.end_of_chunk is None:
        raise EvaluationError("terminator is True, but processor has no end_of_chunk; pass terminator=False")
