"""Metrics of a run: ranked as the profile ranks, and asked for what they read before the model is."""

from dataclasses import replace

import pytest

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation import EvalConfig, Score, evaluate, rescore
from flamingo_blocks.evaluation.decode import Decoder
from flamingo_blocks.evaluation.metrics import ClassAccuracy, NextQa
from flamingo_blocks.evaluation.synthetic import synthetic_task
from tests.evaluation.subjects import make_subject
from tests.language_models import make_language_model

CONFIG = EvalConfig(shots=(0, 2), seeds=(0,), controls=("shuffle_labels",), bootstrap=0, max_new_tokens=2, num_beams=1)
MATCHING = synthetic_task("matching", queries=4, size=8, answering="closed")
RANKED = replace(MATCHING, metrics=(ClassAccuracy(candidates=MATCHING.candidates, top=(1,)), *MATCHING.metrics))


def ask(task, config=CONFIG, **more):
    flamingo, processor = make_subject(lm=make_language_model("llama", max_position_embeddings=512))
    return evaluate(flamingo, processor, [task], config, **more)


@pytest.mark.parametrize(("profile", "order"), (("paper", ("sum", "mean")), ("open_flamingo", ("mean", "sum"))))
def test_candidates_are_ranked_as_the_profile_ranks_them(profile, order, tmp_path):
    """The headline takes sums or means as the profile does, with the other beside it, and again when scored again."""
    result = ask(RANKED, replace(CONFIG, profile=profile), folder=tmp_path)
    for found in (result, rescore(tmp_path, [RANKED])):
        first, *_, last = found.cell(RANKED.name, 2).scores
        assert [first.variant, last.variant] == [f"top-1({each} of log-probs)" for each in order]
    assert result.tasks[RANKED.name]["metric"] == first.variant


class Unready:
    """A metric whose file is not there."""

    variant = "unready"

    def ready(self):
        raise EvaluationError("the file of unready is missing")

    def score(self, items, predictions):
        return Score(variant=self.variant, value=None)


def test_a_metric_that_lacks_what_it_reads_ends_the_run_before_the_model_is_asked(monkeypatch):
    """Nobody waits for answers that cannot be scored."""
    monkeypatch.setattr(Decoder, "score", lambda *_, **__: pytest.fail("the model was asked"))
    with pytest.raises(EvaluationError, match="the file of unready is missing"):
        ask(replace(MATCHING, metrics=(Unready(),)))


def test_next_qa_looks_for_wordnet_when_asked_if_it_is_ready(tmp_path):
    """The error says which file is missing where; functions of one's own need none."""
    with pytest.raises(EvaluationError, match="WordNet is missing index.noun in"):
        NextQa(wordnet=tmp_path).ready()
    NextQa(similarity=lambda _one, _other: 0.0, lemmatise=str.split, name="equal").ready()


def test_copies_are_not_told_where_shots_show_the_answers_of_others():
    """The share would be that of answers that the prompt did not show."""
    result = ask(MATCHING)
    assert set(result.cell(MATCHING.name, 2).rates) == {"copy_any", "copy_last"}
    assert result.cell(MATCHING.name, 2, control="shuffle_labels").rates == {}
