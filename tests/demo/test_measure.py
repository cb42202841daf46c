"""The demo's curves by the evaluation that any model is asked with: shares that are counted by hand here."""

from dataclasses import replace

import pytest
import torch

from flamingo_blocks.demo.demo_processor import demo_processor
from flamingo_blocks.demo.image_bank import ImageBank
from flamingo_blocks.demo.images import NUM_PAIRS, SEEN_PAIRS
from flamingo_blocks.demo.language_model import TinyDecoder
from flamingo_blocks.demo.measure import caption_accuracy, naming_curves
from flamingo_blocks.demo.model import build_flamingo
from flamingo_blocks.demo.naming_task import captions_task, naming_task
from flamingo_blocks.demo.rows import ROWS
from flamingo_blocks.demo.tower import DigitTower
from flamingo_blocks.demo.words import demo_vocabulary
from flamingo_blocks.evaluation.prompts import PAPER, join
from flamingo_blocks.nn import closed_gates

VOCABULARY = demo_vocabulary()
EPISODES = 4
ROW = ROWS[3]


@pytest.fixture(scope="module")
def model():
    """A model of the demo with open gates that has learnt nothing, and images that differ by their features."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flamingo = build_flamingo(DigitTower(), TinyDecoder(vocab_size=len(VOCABULARY.words)), VOCABULARY).eval()
        for name, parameter in flamingo.named_parameters():
            if "gate" in name:
                parameter.data.fill_(1.0)
    pairs = torch.arange(20 * NUM_PAIRS) % NUM_PAIRS
    features = torch.randn(len(pairs), 16, flamingo.vision.dim, generator=torch.Generator().manual_seed(1))
    return flamingo, ImageBank(features=features, pairs=pairs)


@torch.no_grad()
def by_hand(flamingo, bank, shots):
    """Shares of right answers: the likeliest name with its `<EOC>`, and the likeliest word of all."""
    task = naming_task(ROW, bank, VOCABULARY, episodes=EPISODES)
    processor = demo_processor(VOCABULARY, flamingo, bank=bank)
    prompts, answered = [], []
    for query in task.queries:
        shown = [PAPER.shot("continue", shot, shot.answers[0]) for shot in query.support[:shots]]
        prompts.append(join([*shown, PAPER.query("continue", query)]))
        answered += [join([*shown, PAPER.shot("continue", query, name)]) for name in query.facts["names"]]
    right = torch.tensor([query.facts["names"].index(query.answers[0]) for query in task.queries])
    batch = processor(answered)
    log_probs = flamingo(**batch.model_inputs()).logits.log_softmax(-1)[:, -3:-1]
    sums = log_probs.gather(2, batch.input_ids[:, -2:, None]).sum(dim=(1, 2))
    closed = (sums.view(EPISODES, -1).argmax(1) == right).float().mean()
    candidates = torch.tensor([VOCABULARY.encode(query.facts["names"]) for query in task.queries])
    likeliest = flamingo(**processor(prompts).model_inputs()).logits[:, -1].argmax(1)
    opened = (likeliest == candidates.gather(1, right[:, None])[:, 0]).float().mean()
    return float(closed), float(opened)


def test_the_curves_are_those_counted_by_hand(model):
    """Open and closed accuracy, and closed with the gates closed, are the same shares of the same episodes."""
    flamingo, bank = model
    controls = [replace(ROW, key=f"{ROW.key}.{control}", control=control) for control in ("gates_closed", "permuted")]
    asked = []
    curves = naming_curves(
        flamingo, bank, VOCABULARY, rows=(ROW, *controls), episodes=EPISODES, on_row=lambda: asked.append(1)
    )
    assert set(curves) == {f"{ROW.key}.{name}" for name in ("closed", "open", "gates_closed", "permuted")}
    assert len(asked) == 3
    assert all(list(curve) == [str(shots) for shots in ROW.shots] for curve in curves.values())
    for shots in ROW.shots:
        closed, opened = by_hand(flamingo, bank, shots)
        assert curves[f"{ROW.key}.closed"][str(shots)] == pytest.approx(closed)
        if shots:  # without a shot, open answers are asked behind two in text alone
            assert curves[f"{ROW.key}.open"][str(shots)] == pytest.approx(opened)
        with closed_gates(flamingo):
            assert curves[f"{ROW.key}.gates_closed"][str(shots)] == pytest.approx(by_hand(flamingo, bank, shots)[0])
    for shots in ("0", "1"):  # one image has no other order
        assert curves[f"{ROW.key}.permuted"][shots] == curves[f"{ROW.key}.closed"][shots]


@torch.no_grad()
def test_captions_are_those_that_one_pass_would_write(model):
    """A caption is right in full if and only if each of its words is the likeliest behind the right ones before it."""
    flamingo, bank = model
    task = captions_task(bank, pairs=SEEN_PAIRS, name="captions", count=6)
    processor = demo_processor(VOCABULARY, flamingo, bank=bank)
    batch = processor([PAPER.shot("continue", query, query.answers[0]) for query in task.queries])
    likeliest = flamingo(**batch.model_inputs()).logits[:, 1:-1].argmax(-1)
    right = (likeliest == batch.input_ids[:, 2:]).all(1).float().mean()
    found = caption_accuracy(flamingo, bank, VOCABULARY, pairs=SEEN_PAIRS, count=6)
    assert found == pytest.approx(float(right))
