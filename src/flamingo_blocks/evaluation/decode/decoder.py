"""Asks a Flamingo queries behind shots: what it writes, and how likely it finds candidates."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch

from flamingo_blocks.data import InterleavedDocument
from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.decode.answer_writer import AnswerWriter
from flamingo_blocks.evaluation.decode.answers import CandidateScores, NotFiniteError, Written
from flamingo_blocks.evaluation.decode.candidate_scorer import WAYS, Asked, CandidateScorer, Way
from flamingo_blocks.evaluation.decode.context_length import context_length
from flamingo_blocks.evaluation.decode.media_pool import MediaPool
from flamingo_blocks.evaluation.decode.prompt_tokens import PromptTokenizer, TokenizedPrompt
from flamingo_blocks.evaluation.decode.query_rows import QueryRow
from flamingo_blocks.evaluation.decode.row_runner import RowRunner
from flamingo_blocks.evaluation.decode.self_check import Findings, check_scoring, check_writing, told
from flamingo_blocks.evaluation.decode.shared_prompt import SharedPrompt
from flamingo_blocks.evaluation.decode.token_trie import Candidates, one_in_another
from flamingo_blocks.evaluation.decode.write_rows import Writing, text_ends, written
from flamingo_blocks.models.eval_mode import eval_mode
from flamingo_blocks.models.flamingo import Flamingo
from flamingo_blocks.models.processor import FlamingoProcessor


class Decoder:
    """Runs the shots of a prompt once for all queries behind it, and answers open and closed questions.

    Queries are run as many at once as memory allows, those of one length side by side; what comes back does not depend
    on that. Whatever is computed in a fast way is also computed in the plain one for the first queries after
    `new_cell`: each text whole, by itself, and nothing kept. Where the two differ, the fast way is given up with a
    warning, and `facts` says so.

    Args:
        flamingo: The model; it is run in eval mode.
        processor: Writes prompts as tokens; its tag and scope are those of the model.
        pool: Encodes images and clips; one of its own by default. Give all decoders of a model the same.
        num_beams: Beams of open answers, 3 in the paper; 1 chooses greedily.
        length_penalty: Of beams: 0 takes the answer with the largest sum of log-probabilities.
        max_new_tokens: Most tokens of an open answer.
        terminator: Score candidates with `<EOC>`. Without, one that begins another is never the less likely of both.
        memory_bytes: What a batch may take besides model and prompts. Where the device has less, batches are halved.
        max_rows: Most queries at once; as many as fit by default.
        share: True: share prompts, and trust that; False: run each query with all of its shots; `"auto"`: share where
            that has been seen to be right.
        scorer: `"trie"`: all candidates of a query in one pass; `"copies"`: a few at a time, behind copies of what the
            model keeps; `"rows"`: one after the other in whole texts. `"auto"`: the first that has been seen to be
            right.

    Raises:
        EvaluationError: If the processor has another tag or scope than the model, no `<EOC>` beside `terminator`, or a
            number is out of range.

    Example:
        >>> from flamingo_blocks.data import ImageSegment
        >>> from flamingo_blocks.models import FlamingoProcessor, build_tiny_flamingo
        >>> class Letters:
        ...     def encode(self, text):
        ...         return [ord(letter) % 30 for letter in text]
        ...
        ...     def decode(self, ids):
        ...         return "".join(chr(96 + token) for token in ids)
        >>> processor = FlamingoProcessor(tokenizer=Letters(), media_token_id=32, end_token_id=33, pad_token_id=0)
        >>> decoder = Decoder(build_tiny_flamingo(), processor, num_beams=1, max_new_tokens=3)
        >>> cat, dog = (ImageSegment(url=name, data=torch.zeros(3, 8, 8)) for name in ("cat.png", "dog.png"))
        >>> shots = decoder.begin(InterleavedDocument.from_parts([cat, "Output: a cat<EOC>"]))
        >>> query = InterleavedDocument.from_parts([dog, "Output:"])
        >>> len(decoder.write([query], prompt=shots)[0].ids), decoder.pool.encoded
        (3, 2)
        >>> decoder.score([query], [[" a cat", " a dog"]], prompt=shots)[0].num_tokens
        (7, 7)

    Source:
        Flamingo (arXiv 2204.14198), section 3.1 and appendix A.2: beams for open tasks, the log-likelihood of each
        possible answer for closed ones. The terminator, and everything that saves time, is ours.
    """

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
        scorer: Way | Literal["auto"] = "auto",
    ) -> None:
        _check_fit(flamingo, processor, terminator=terminator)
        _check_numbers(num_beams=num_beams, max_new_tokens=max_new_tokens, memory_bytes=memory_bytes, max_rows=max_rows)
        if share not in (True, False, "auto") or scorer not in (*WAYS, "auto"):
            raise EvaluationError(f"share is {share!r} and scorer {scorer!r}; wanted 'auto', or as documented")
        self.flamingo, self.processor = flamingo, processor
        self.pool = MediaPool(flamingo) if pool is None else pool
        self.terminator = terminator
        self._tokenizer = PromptTokenizer(processor)
        self._runner = RowRunner(self.pool, processor, memory_bytes=memory_bytes, max_rows=max_rows)
        self._writer, self._scorer = AnswerWriter(self._runner), CandidateScorer(self._runner)
        self._how = Writing(
            num_beams=num_beams, length_penalty=length_penalty, max_new_tokens=max_new_tokens,
            tag_ids=processor.special.media_ids, chunk_end=processor.special.end_of_chunk,
            text_ends=text_ends(flamingo, processor), pad_id=processor.pad_token_id,
        )  # fmt: skip
        shares = share is not False
        way: Way = "trie" if scorer == "auto" else scorer
        self._found = Findings(
            shares, shares, way=way, best=way, may_unshare=share == "auto", may_step_down=scorer == "auto"
        )
        self._to_check = {"write", "score"}
        self._warned = False

    @property
    def max_tokens(self) -> int | None:
        """The longest text that the language model reads; None where it does not tell."""
        return context_length(self.flamingo.lm)

    @property
    def facts(self) -> Mapping[str, Any]:
        """How it was run, as result files have it: what is shared, the scorer, what was checked and refused."""
        return told(self._found, images_encoded=self.pool.encoded, lm_tokens=self._runner.num_tokens)

    def new_cell(self) -> None:
        """Check the next queries again: another task or another number of shots begins.

        What was given up stays so, for the model is the same.
        """
        self._to_check = {"write", "score"}
        self._found.new_cell()

    def tokens(self, document: InterleavedDocument) -> int:
        """Tokens of a prompt, shots and query together; those that are written come to it.

        Args:
            document: The whole prompt.
        """
        return len(self._tokenizer.prompt(document).ids)

    def begin(self, document: InterleavedDocument, *, before: SharedPrompt | None = None) -> SharedPrompt:
        """Run a prompt of shots once, or the shots that follow those of a shorter one.

        Args:
            document: The shots; behind another prompt the further ones alone.
            before: A prompt of fewer shots, which stays as it is.

        Returns:
            The prompt with all shots.

        Raises:
            UnreadableMediaError: If an image or clip cannot be read.
        """
        parts = () if before is None else before.document.segments
        whole = InterleavedDocument((*parts, *document.segments)).merged()
        prompt = self._tokenizer.prompt(whole)
        shares = self._found.writes_shared or self._found.scores_shared
        if not shares or not prompt.stable:
            return SharedPrompt(whole)
        if before is not None and prompt.ids[: prompt.stable] == before.ids:
            return replace(before, document=whole)
        row = QueryRow.of(0, prompt, before, kept=prompt.stable)
        self._runner.num_tokens += len(row.ids)
        with eval_mode(self.flamingo):
            state = self.flamingo.prefill(**self._runner.place([row]).arguments())
        num_media = sum(tag < prompt.stable for tag in prompt.tags)
        return SharedPrompt(whole, prompt.ids[: prompt.stable], num_media, state)

    def write(
        self,
        queries: Sequence[InterleavedDocument],
        *,
        prompt: SharedPrompt | None = None,
        max_new_tokens: int | None = None,
    ) -> list[Written]:
        """Let the model answer, up to `<EOC>`, the end of its text or the most tokens; it never writes a tag.

        Args:
            queries: What follows the prompt; the whole text where there is none.
            prompt: The shots.
            max_new_tokens: Most tokens, in place of those of the decoder.

        Returns:
            One answer for each query, in order.

        Raises:
            EvaluationError: If a query is empty, or beams are asked of a language model without a `generate` of its
                own.
            UnreadableMediaError: If an image or clip cannot be read.
        """
        how = self._how if max_new_tokens is None else replace(self._how, max_new_tokens=max_new_tokens)
        pairs: list[tuple[QueryRow, QueryRow]] = []
        for number, query in enumerate(queries):
            whole = self._whole(number, query, prompt)
            shared, alone = (QueryRow.of(number, whole, each, kept=len(whole.ids)) for each in (prompt, None))
            pairs.append((shared, alone))
        with eval_mode(self.flamingo), torch.no_grad():
            if (
                "write" in self._to_check
                and self._found.writes_shared
                and self._found.may_unshare
                and prompt is not None
            ):
                self._to_check.discard("write")
                check_writing(self._found, self._writer, how, pairs)
            found = self._writer.run([pair[0 if self._found.writes_shared else 1] for pair in pairs], how)
        return [written(found[number], how, self.processor) for number in range(len(queries))]

    def score(
        self,
        queries: Sequence[InterleavedDocument],
        candidates: Sequence[Sequence[str]],
        *,
        prompt: SharedPrompt | None = None,
    ) -> list[CandidateScores]:
        """Tell how likely the model finds each candidate as the answer.

        The tokens of a candidate are those of prompt, query and candidate together, less those before it.

        Args:
            queries: What follows the prompt; the whole text where there is none.
            candidates: For each query the texts to be scored, as they would follow it: mind the space.
            prompt: The shots.

        Returns:
            Sums of log-probabilities for each query, in order.

        Raises:
            EvaluationError: If queries and lists of candidates differ in number, a candidate is empty or comes twice,
                or a log-probability is not finite.
            UnreadableMediaError: If an image or clip cannot be read.
        """
        if len(queries) != len(candidates):
            raise EvaluationError(
                f"queries has {len(queries)} queries, candidates {len(candidates)} lists; give each one"
            )
        asked = []
        for number, (query, texts) in enumerate(zip(queries, candidates, strict=True)):
            whole = self._whole(number, query, prompt)
            kept, ids = self._tokenizer.candidates(whole, texts, terminator=self.terminator)
            if not kept:
                raise EvaluationError(f"query {number} has no token before its candidates; give it text or an image")
            self._warn_of_beginnings(ids, texts)
            asked.append(Asked(number, whole, kept, ids, prompt))
        with eval_mode(self.flamingo), torch.no_grad():
            if asked and "score" in self._to_check and (self._found.may_unshare or self._found.may_step_down):
                self._to_check.discard("score")
                check_scoring(self._found, self._scorer, asked)
            found = self._score(asked)
        return [_finite(one, found[one.number], candidates[one.number]) for one in asked]

    def _score(self, asked: Sequence[Asked]) -> dict[int, list[float]]:
        way, shared = self._found.way, self._found.scores_shared
        why = self._scorer.why_not(way, asked, shared=shared) if asked else None
        if why is not None:
            if not self._found.may_step_down:
                raise EvaluationError(f"scorer is 'trie', but {why}; pass scorer='auto'")
            self._found.step_down(why, shares=False, known=True)
        return self._scorer.run(self._found.way, asked, shared=shared)

    def _warn_of_beginnings(self, ids: Candidates, texts: Sequence[str]) -> None:
        """Without an end to be scored, a candidate is never less likely than one that it begins."""
        pair = None if self.terminator or self._warned else one_in_another(ids)
        if pair is not None:
            self._warned = True
            warnings.warn(
                f"candidate {texts[pair[0]]!r} begins candidate {texts[pair[1]]!r} and terminator is False, so its sum "
                "is never the smaller one; pass terminator=True, or compare means",
                stacklevel=3,
            )

    def _whole(self, number: int, query: InterleavedDocument, prompt: SharedPrompt | None) -> TokenizedPrompt:
        whole = self._tokenizer.prompt(*(() if prompt is None else (prompt.document,)), query)
        if not query.merged().segments or not whole.ids:
            raise EvaluationError(f"query {number} has neither text nor image; give it one")
        return whole


def _check_fit(flamingo: Flamingo, processor: FlamingoProcessor, *, terminator: bool) -> None:
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
        raise EvaluationError("terminator is True, but processor has no <EOC>; give end_token_id, or terminator=False")


def _check_numbers(**numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise EvaluationError(f"{name} is {number}, wanted 1 or more")


def _finite(asked: Asked, log_probs: Sequence[float], texts: Sequence[str]) -> CandidateScores:
    for text, found in zip(texts, log_probs, strict=True):
        if not math.isfinite(found):
            raise NotFiniteError(
                asked.number,
                f"the log-probability of candidate {text!r} is {found}, wanted a finite one; look at the weights, and "
                "at the precision of the model",
            )
    return CandidateScores(log_probs=tuple(log_probs), num_tokens=tuple(map(len, asked.candidates)))
