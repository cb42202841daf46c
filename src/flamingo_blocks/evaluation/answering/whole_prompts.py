"""Queries with all of their shots, each a prompt of its own, for models that nothing more is known of."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from flamingo_blocks.data import InterleavedDocument, TextSegment
from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.answering.evaluated_model import AnswerSettings
from flamingo_blocks.evaluation.answering.pictures import document_with_pictures
from flamingo_blocks.evaluation.decode import CandidateScores, NotFiniteError, SharedPrompt, Written
from flamingo_blocks.evaluation.prompts import join
from flamingo_blocks.evaluation.prompts.plain_field import END


@runtime_checkable
class WritesAndScores(Protocol):
    """What is asked of a model here; `VisionLanguageModel` says what each is."""

    end_of_shot: str
    max_tokens: int | None

    def write(
        self, prompts: Sequence[InterleavedDocument], *, num_beams: int, length_penalty: float, max_new_tokens: int
    ) -> Sequence[Written]:
        """Answer prompts."""
        ...

    def score(
        self, prompts: Sequence[InterleavedDocument], candidates: Sequence[Sequence[str]]
    ) -> Sequence[CandidateScores]:
        """Score texts behind prompts."""
        ...

    def tokens(self, prompt: InterleavedDocument) -> int:
        """Count the tokens of a prompt."""
        ...


class WholePrompts:
    """Asks a `VisionLanguageModel` the queries of one task.

    Args:
        model: The model.
        settings: Beams, length, and whether the end of a shot is scored.

    Example:
        >>> class Counts:
        ...     end_of_shot, max_tokens = " |", None
        ...
        ...     def write(self, prompts, *, num_beams, length_penalty, max_new_tokens):
        ...         return [Written(text=" two | three", ids=(), stopped_by="length") for _ in prompts]
        ...
        ...     def score(self, prompts, candidates):
        ...         alike = [(0.0,) * len(each) for each in candidates]
        ...         return [CandidateScores(log_probs=each, num_tokens=(1,) * len(each)) for each in alike]
        ...
        ...     def tokens(self, prompt):
        ...         return len(prompt.segments)
        >>> asked = WholePrompts(Counts(), AnswerSettings(num_beams=1))
        >>> asked.write([InterleavedDocument.from_parts(["How many?"])])[0].text
        ' two'
    """

    def __init__(self, model: WritesAndScores, settings: AnswerSettings) -> None:
        self.model, self.settings = model, settings

    @property
    def max_tokens(self) -> int | None:
        """The longest text that the model reads, where it says so."""
        return self.model.max_tokens

    @property
    def facts(self) -> Mapping[str, Any]:
        """That nothing is shared."""
        return {"writes_shared": False, "scores_shared": False, "end_of_shot": self.model.end_of_shot}

    def new_cell(self) -> None:
        """Nothing is remembered."""

    def tokens(self, document: InterleavedDocument) -> int:
        """Tokens of a prompt, as the model counts them.

        Args:
            document: The whole prompt.
        """
        return self.model.tokens(self._shown(document, None))

    def begin(self, document: InterleavedDocument, *, before: SharedPrompt | None = None) -> SharedPrompt:
        """A prompt of shots, which runs with each of its queries.

        Args:
            document: The shots; behind another prompt the further ones alone.
            before: A prompt of fewer shots.
        """
        return SharedPrompt(document if before is None else join([before.document, document]))

    def write(self, queries: Sequence[InterleavedDocument], *, prompt: SharedPrompt | None = None) -> list[Written]:
        """What the model writes, up to the end of a shot.

        Args:
            queries: What follows the prompt.
            prompt: The shots.

        Raises:
            EvaluationError: If the model gives another number of answers.
            UnreadableMediaError: If an image or clip cannot be read.
        """
        how = self.settings
        found = self.model.write(
            [self._shown(query, prompt) for query in queries], num_beams=how.num_beams,
            length_penalty=how.length_penalty, max_new_tokens=how.max_new_tokens,
        )  # fmt: skip
        self._check("write", found, Written, len(queries), "prompts")
        return [self._cut(written) for written in found]

    def score(
        self,
        queries: Sequence[InterleavedDocument],
        candidates: Sequence[Sequence[str]],
        *,
        prompt: SharedPrompt | None = None,
    ) -> list[CandidateScores]:
        """How likely the model finds each candidate.

        Args:
            queries: What follows the prompt.
            candidates: For each query the texts to be scored.
            prompt: The shots.

        Raises:
            EvaluationError: If the model gives another number of scores, or one that is not finite.
            UnreadableMediaError: If an image or clip cannot be read.
        """
        end = self.model.end_of_shot if self.settings.terminator else ""
        texts = [[text + end for text in each] for each in candidates]
        found = self.model.score([self._shown(query, prompt) for query in queries], texts)
        self._check("score", found, CandidateScores, len(queries), "prompts")
        for number, (scores, names) in enumerate(zip(found, candidates, strict=True)):
            self._check("score", scores.log_probs, object, len(names), "candidates")
            self._check("score", scores.num_tokens, object, len(names), "candidates")
            for name, log_prob in zip(names, scores.log_probs, strict=True):
                if not math.isfinite(log_prob):
                    raise NotFiniteError(
                        number, f"the log-probability of candidate {name!r} is {log_prob}, wanted a finite one"
                    )
        return list(found)

    def _shown(self, query: InterleavedDocument, prompt: SharedPrompt | None) -> InterleavedDocument:
        whole = query if prompt is None else join([prompt.document, query])
        parts = tuple(
            TextSegment(part.text.replace(END, self.model.end_of_shot)) if isinstance(part, TextSegment) else part
            for part in whole.segments
        )
        return document_with_pictures(InterleavedDocument(parts))

    def _cut(self, written: Written) -> Written:
        text, end, _ = written.text.partition(self.model.end_of_shot)
        return replace(written, text=text, stopped_by="end_of_chunk") if end else written

    def _check(self, method: str, found: Sequence[object], kind: Any, wanted: int, of: str) -> None:
        told = f"{type(self.model).__name__}.{method}"
        if len(found) != wanted:
            raise EvaluationError(f"{told} gave {len(found)} results to {wanted} {of}; give each one, in order")
        for one in found:
            if not isinstance(one, kind):
                raise EvaluationError(
                    f"{told} gave a {type(one).__name__} for one of its {of}, wanted a {kind.__name__}"
                )
