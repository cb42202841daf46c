"""Which shots are dropped where a prompt is longer than the language model reads."""

import pytest
import torch

from flamingo_blocks.data import ImageSegment
from flamingo_blocks.evaluation import Prediction, TaskItem
from flamingo_blocks.evaluation.controls import Shown, ShownShot
from flamingo_blocks.evaluation.decode import Decoder
from flamingo_blocks.evaluation.prompts import find_profile, join
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


def test_a_shot_without_a_url_is_known_by_what_it_shows():
    """Processes put prompts into one order, so the key of a shot is no address in memory."""
    keys = []
    for value in (1.0, 1.0, 2.0):
        item = TaskItem(id="a", media=(ImageSegment(data=torch.full((3, 8, 8), value)),))
        keys.append(ShownShot(item=item, answer="x").key)
    assert keys[0] == keys[1] != keys[2]
