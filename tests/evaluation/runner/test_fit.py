"""Which shots are dropped where a prompt is longer than the language model reads."""

from dataclasses import replace

import pytest
import torch

from flamingo_blocks.data import ImageSegment
from flamingo_blocks.evaluation import Prediction, TaskItem
from flamingo_blocks.evaluation.controls import Shown, ShownShot
from flamingo_blocks.evaluation.decode import Decoder
from flamingo_blocks.evaluation.prompts import find_profile, join, prompt_text
from flamingo_blocks.evaluation.runner.ask import Asker
from flamingo_blocks.evaluation.runner.plan import Asked
from flamingo_blocks.evaluation.synthetic import synthetic_task
from tests.evaluation.subjects import make_subject
from tests.language_models import make_language_model

TASK = synthetic_task("counting", queries=1, size=8)


@pytest.mark.parametrize(("short", "dropped"), ((0, 0), (1, 1)))
def test_no_shot_is_dropped_while_the_prompt_fits(monkeypatch, short, dropped):
    """A prompt that just fits with its answer keeps all shots; a token less drops the oldest."""
    flamingo, processor = make_subject(lm=make_language_model("llama", max_position_embeddings=512))
    decoder, profile = Decoder(flamingo, processor, num_beams=1), find_profile("paper")
    shots = tuple(ShownShot(item=item, answer="3") for item in TASK.support[:4])
    query = TASK.queries[0]
    asked = Asked(
        blank=Prediction(task="counting", id=query.id, shots=4, seed=0, shot_ids=tuple(one.item.id for one in shots)),
        shown=Shown(shots=shots, query=query),
    )
    parts = [profile.shot(TASK.kind, one.item, one.answer, with_media=True) for one in shots]
    length = decoder.tokens(join([*parts, profile.query(TASK.kind, query, with_media=True)])) + 5
    monkeypatch.setattr(Decoder, "max_tokens", length - short)
    asker = Asker(answerer=decoder, closed_gates=lambda: None, task=TASK, profile=profile, max_new_tokens=5)
    (found,) = asker.fit([asked])
    assert (found.blank.dropped_shots, len(found.shown.shots)) == (dropped, 4 - dropped)


def test_candidates_are_counted_once(monkeypatch):
    """Those that many queries choose among are not counted anew for each: a model of others takes long to count."""
    task = synthetic_task("binding", queries=4, size=8, answering="closed")
    flamingo, processor = make_subject(lm=make_language_model("llama", max_position_embeddings=512))
    decoder, profile, counted = Decoder(flamingo, processor, num_beams=1), find_profile("paper"), []
    real = decoder.tokens
    monkeypatch.setattr(decoder, "tokens", lambda document: counted.append(prompt_text(document)) or real(document))
    asker = Asker(answerer=decoder, closed_gates=lambda: None, task=task, profile=profile, max_new_tokens=5)
    candidates = task.queries[0].candidates or task.candidates
    queries = [replace(query, candidates=candidates) for query in task.queries]
    blank = Prediction(task="binding", id="0", shots=0, seed=0)
    asker.fit([Asked(blank=blank, shown=Shown(shots=(), query=query)) for query in queries])
    texts = [profile.candidate_text(task.kind, each) for each in candidates]
    assert [text for text in counted if text in texts] == texts


def test_a_shot_without_a_url_is_known_by_what_it_shows():
    """Processes put prompts into one order, so the key of a shot is no address in memory."""
    keys = []
    for value in (1.0, 1.0, 2.0):
        item = TaskItem(id="a", media=(ImageSegment(data=torch.full((3, 8, 8), value)),))
        keys.append(ShownShot(item=item, answer="x").key)
    assert keys[0] == keys[1] != keys[2]
