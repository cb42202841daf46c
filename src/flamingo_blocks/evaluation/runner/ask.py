"""Ask a model: prompts of shots run once, what is asked behind them in batches."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

from flamingo_blocks.data import InterleavedDocument, TextSegment
from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.answering import Answerer
from flamingo_blocks.evaluation.controls import Shown, ShownShot, find_control
from flamingo_blocks.evaluation.decode import CandidateScores, NotFiniteError, SharedPrompt
from flamingo_blocks.evaluation.prediction import Prediction
from flamingo_blocks.evaluation.prompts import PromptProfile, join, prompt_text
from flamingo_blocks.evaluation.runner.plan import Asked, drop_oldest, in_order
from flamingo_blocks.evaluation.shots import permutations_of
from flamingo_blocks.evaluation.task import Task

_AT_ONCE = 256  # queries between two writes to the journal; batches are the answerer's own


@dataclass(frozen=True, kw_only=True, eq=False)
class Asker:
    """Asks one model the queries of one task.

    Args:
        answerer: Runs prompts and queries.
        closed_gates: Blinds the model for a while.
        task: The task.
        profile: Writes prompts and cleans up answers.
        max_new_tokens: Most tokens of an open answer.
        ensemble: Orders of the shots that closed answers are averaged over.
    """

    answerer: Answerer
    closed_gates: Callable[[], AbstractContextManager[None] | None]
    task: Task
    profile: PromptProfile
    max_new_tokens: int
    ensemble: int = 1
    _seen: set[int] = field(default_factory=set)
    _lengths: dict[tuple[object, ...], int] = field(default_factory=dict)
    _longest: dict[tuple[str, ...], int] = field(default_factory=dict)

    def ask_all(
        self, prompts: Iterable[list[Asked]], *, control: str, keep: Callable[[list[Prediction]], None]
    ) -> None:
        """Ask what was planned, prompt by prompt.

        Args:
            prompts: As `in_order` gives them.
            control: Name of the control.
            keep: Called with each few predictions.
        """
        self._seen.clear()
        before: tuple[tuple[str, ...], SharedPrompt] | None = None
        alone: list[Asked] = []
        blind = self.closed_gates() if find_control(control).closes_gates else None
        with nullcontext() if blind is None else blind:
            for queries in prompts:
                if len(queries) > 1 and queries[0].shown.shots:
                    self._check_anew(queries)
                    before = self._ask_prompt(queries, before, keep)
                    continue
                alone += queries  # no prompt is shared: those of many prompts run side by side
                while len(alone) >= _AT_ONCE:
                    self._ask_alone(alone[:_AT_ONCE], keep)
                    del alone[:_AT_ONCE]
            if alone:
                self._ask_alone(alone, keep)

    def _check_anew(self, queries: Sequence[Asked]) -> None:
        """Let the answerer hold its fast ways against the plain one again where a number of shots is new."""
        new = {each.blank.shots for each in queries} - self._seen
        if new:
            self._seen.update(new)
            self.answerer.new_cell()

    def fit(self, asked: Sequence[Asked]) -> list[Asked]:
        """The queries with as many of their shots as the language model reads; the oldest go first.

        Args:
            asked: What is to be asked.

        Raises:
            EvaluationError: If a query alone is too long.
        """
        most = self.answerer.max_tokens
        return list(asked) if most is None else [drop_oldest(each, self._too_many(each, most)) for each in asked]

    def _too_many(self, asked: Asked, most: int) -> int:
        own = self.answerer.tokens(self._query(asked.shown)) + self._answer_tokens(asked.shown)
        if own > most:
            raise EvaluationError(
                f"task {self.task.name}, query {asked.blank.id!r}: it has {own} tokens with its answer, the language "
                f"model reads {most}; a query is never cut, leave it out"
            )
        shots, answer = asked.shown.shots, self._answer_tokens(asked.shown)
        if own + sum(map(self._tokens_of_shot, shots)) <= most:
            return 0
        whole = (self._whole(replace(asked.shown, shots=shots[dropped:])) for dropped in range(len(shots)))
        fits = (self.answerer.tokens(document) + answer <= most for document in whole)
        return next((dropped for dropped, fit in enumerate(fits) if fit), len(shots))

    def _tokens_of_shot(self, shot: ShownShot) -> int:
        """Tokens of a shot by itself: rather more than it has in a prompt, which begins once for all of them."""
        if shot.key not in self._lengths:
            self._lengths[shot.key] = self.answerer.tokens(self._shot(shot))
        return self._lengths[shot.key]

    def _answer_tokens(self, shown: Shown) -> int:
        if self.task.answering == "open":
            return self.max_new_tokens
        texts = tuple(self._candidates(shown))
        if texts not in self._longest:
            lengths = (self.answerer.tokens(InterleavedDocument((TextSegment(text),))) for text in texts)
            self._longest[texts] = max(lengths) + 2
        return self._longest[texts]

    def _ask_prompt(
        self,
        queries: list[Asked],
        before: tuple[tuple[str, ...], SharedPrompt] | None,
        keep: Callable[[list[Prediction]], None],
    ) -> tuple[tuple[str, ...], SharedPrompt] | None:
        """Ask the queries of one prompt; gives it with its key, for the next one to go on from."""
        orders, last = self._orders(queries[0].shown), None
        for start in range(0, len(queries), _AT_ONCE):
            some = queries[start : start + _AT_ONCE]
            scored: list[list[CandidateScores]] = []
            for shots in orders:
                prompt, last = self._begin(shots, before, last)
                documents = [self._query(each.shown) for each in some]
                if self.task.answering == "open":
                    keep(self._written(some, documents, prompt))
                else:
                    scored.append(self._scored(some, documents, prompt))
            if scored:
                keep([self._closed(each, parts) for each, parts in zip(some, zip(*scored, strict=True), strict=True)])
        return last

    def _ask_alone(self, some: list[Asked], keep: Callable[[list[Prediction]], None]) -> None:
        """Ask queries that hold their shots themselves."""
        self._check_anew(some)
        if self.task.answering == "open":
            keep(self._written(some, [self._whole(each.shown) for each in some], None))
            return
        orders = [self._orders(each.shown) for each in some]
        each_order = [(each, shots) for each, its in zip(some, orders, strict=True) for shots in its]
        documents = [self._whole(replace(each.shown, shots=shots)) for each, shots in each_order]
        scores = iter(self._scored([each for each, _ in each_order], documents, None))
        keep([self._closed(each, [next(scores) for _ in its]) for each, its in zip(some, orders, strict=True)])

    def _orders(self, shown: Shown) -> list[tuple[ShownShot, ...]]:
        if self.task.answering == "open" or self.ensemble == 1 or len(shown.shots) < 2:
            return [shown.shots]
        by_id = {shot.item.id: shot for shot in shown.shots}
        items = [shot.item for shot in shown.shots]
        orders = permutations_of(items, count=self.ensemble, key="\n".join((self.task.name, *sorted(by_id))))
        return [tuple(by_id[item.id] for item in order) for order in orders]

    def _begin(
        self,
        shots: tuple[ShownShot, ...],
        before: tuple[tuple[str, ...], SharedPrompt] | None,
        last: tuple[tuple[str, ...], SharedPrompt] | None,
    ) -> tuple[SharedPrompt, tuple[tuple[str, ...], SharedPrompt]]:
        key = tuple(repr(shot.key) for shot in shots)
        if last is not None and last[0] == key:  # the part before of the same queries
            return last[1], last
        done, onto = 0, None
        if before is not None and key[: len(before[0])] == before[0]:
            done, onto = len(before[0]), before[1]
        document = join([self._shot(shot) for shot in shots[done:]])
        prompt = onto if onto is not None and done == len(shots) else self.answerer.begin(document, before=onto)
        return prompt, (key, prompt)

    def _whole(self, shown: Shown) -> InterleavedDocument:
        return join([*(self._shot(shot) for shot in shown.shots), self._query(shown)])

    def _shot(self, shot: ShownShot) -> InterleavedDocument:
        return self.profile.shot(self.task.kind, shot.item, shot.answer, with_media=shot.with_media)

    def _query(self, shown: Shown) -> InterleavedDocument:
        return self.profile.query(self.task.kind, shown.query, with_media=shown.query_with_media)

    def _candidates(self, shown: Shown) -> list[str]:
        names = shown.query.candidates or self.task.candidates
        return [self.profile.candidate_text(self.task.kind, name) for name in names]

    def _scored(
        self,
        some: list[Asked],
        documents: list[InterleavedDocument],
        prompt: SharedPrompt | None,
    ) -> list[CandidateScores]:
        texts = [self._candidates(each.shown) for each in some]
        try:
            return list(self.answerer.score(documents, texts, prompt=prompt))
        except NotFiniteError as error:
            name = some[error.query].blank.id
            raise EvaluationError(f"task {self.task.name}, query {name!r}: {error.problem}") from error

    def _written(
        self, some: list[Asked], documents: list[InterleavedDocument], prompt: SharedPrompt | None
    ) -> list[Prediction]:
        found = []
        for each, written in zip(some, self.answerer.write(documents, prompt=prompt), strict=True):
            cleaned = self.profile.clean(self.task.kind, written.text, keep_lists=self.task.keep_lists)
            stopped = "keyword" if cleaned.by_keyword and written.stopped_by == "length" else written.stopped_by
            found.append(
                replace(
                    each.blank, raw=written.text, answer=cleaned.text, stopped_by=stopped, prompt=self._text(each.shown)
                )
            )
        return found

    def _closed(self, asked: Asked, parts: Sequence[CandidateScores]) -> Prediction:
        """The prediction of a closed task: log-probabilities averaged over the orders of the shots."""
        means = tuple(sum(values) / len(parts) for values in zip(*(part.log_probs for part in parts), strict=True))
        lengths = parts[0].num_tokens
        by_length = self.profile.normalise == "mean"
        ranked = [value / length if by_length else value for value, length in zip(means, lengths, strict=True)]
        names = asked.shown.query.candidates or self.task.candidates
        best = names[max(range(len(ranked)), key=lambda place: ranked[place])]
        return replace(
            asked.blank, answer=best, log_probs=means, num_tokens=tuple(lengths), prompt=self._text(asked.shown)
        )

    def _text(self, shown: Shown) -> str:
        return prompt_text(self._whole(shown))


def plan_prompts(asker: Asker, asked: Iterable[Asked]) -> list[list[Asked]]:
    """What is asked, cut to what the model reads and put in order.

    Args:
        asker: Knows what the model reads.
        asked: What was planned.
    """
    return in_order(asker.fit(list(asked)))
