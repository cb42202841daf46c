"""The demo's vision encoder, trained by captions."""

from dataclasses import replace
from itertools import islice

import pytest
import torch

from flamingo_blocks.cli import demo as command
from flamingo_blocks.cli import main
from flamingo_blocks.demo import quick_config
from flamingo_blocks.demo.captioned_tower import CaptionMatcher, _batches, train_by_captions
from flamingo_blocks.demo.images import NUM_PAIRS, SEEN_PAIRS, Digits, pair_words, tint
from flamingo_blocks.demo.parts import prepare_parts
from flamingo_blocks.demo.progress import Stopwatch
from flamingo_blocks.demo.tower import DigitTower
from flamingo_blocks.demo.words import COLOURS, demo_vocabulary

SILENT = Stopwatch(lambda *_: None)


@pytest.fixture
def matcher():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return CaptionMatcher(DigitTower(dim=16), demo_vocabulary())


@pytest.fixture
def digits(generator):
    return Digits(torch.rand(20, 8, 8, generator=generator), torch.arange(20) % 10)


def test_each_pair_has_its_caption(matcher):
    """In the words that captions have in the rest of the demo, and no two alike."""
    assert demo_vocabulary().decode(matcher.captions[45].tolist()) == " ".join(("an image of a", *pair_words(45)))
    assert len(matcher.captions.unique(dim=0)) == NUM_PAIRS


def test_a_batch_shows_each_seen_pair_once(generator):
    """Each picture is of the digit of its pair, so no caption is the negative of its own like."""
    labels = torch.arange(20) % 10
    flat = Digits(((labels + 1) / 10)[:, None, None].expand(20, 8, 8).contiguous(), labels)
    for batch in islice(_batches(flat, generator=generator), 3):
        assert batch["pairs"].tolist() == list(SEEN_PAIRS)
        assert batch["pixels"].shape == (len(SEEN_PAIRS), 3, 8, 8)
        # The middle of an image is turned and shifted, but stays as bright as all of it.
        brightness = batch["pixels"][:, :, 3:5, 3:5].mean((2, 3)).amax(1)
        digit = batch["pairs"] // len(COLOURS)
        dim, bright = (brightness[(digit == 0) | (digit == 1)].mean(), brightness[(digit == 8) | (digit == 9)].mean())
        assert bright > 4 * dim


def test_training_lowers_the_loss_finds_captions_and_freezes(matcher, digits):
    """After a few steps pictures are closer to their own captions; afterwards nothing is trained any more."""
    losses = []
    pairs = torch.tensor(SEEN_PAIRS)
    pixels = tint(digits.images[pairs // len(COLOURS)], pairs % len(COLOURS))
    before = matcher.accuracy(pixels, pairs)
    train_by_captions(
        matcher, digits, steps=80, seed=0, on_step=lambda report: losses.append(report.losses["captions"])
    )
    assert losses[-1] < losses[0] - 2
    assert matcher.accuracy(pixels, pairs) > before + 0.2
    assert not any(parameter.requires_grad for parameter in matcher.parameters())


def test_the_language_model_is_the_same_beside_either_tower():
    """Nothing that the contrastive tower draws reaches the other parts, and the tower is another one."""
    by_labels, by_captions = (
        prepare_parts(SILENT, seed=5, tower_steps=1, lm_steps=1, tower_training=training)
        for training in ("labels", "contrastive")
    )
    states = [parts.lm.state_dict() for parts in (by_labels, by_captions)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert torch.equal(by_labels.training.pairs, by_captions.training.pairs)
    assert not torch.equal(by_labels.training.features, by_captions.training.features)
    assert set(by_captions.tower_accuracy) == {"seen", "unseen"}
    torch.testing.assert_close(by_captions.training.features.mean((0, 1)), torch.zeros(64), atol=1e-4, rtol=0.0)


@pytest.mark.parametrize(("words", "training"), [([], "labels"), (["--tower", "contrastive"], "contrastive")])
def test_the_command_says_which_tower(monkeypatch, small_run, tmp_path, words, training):
    """`--tower contrastive` reaches the config; without it the tower is the one it always was."""
    seen = []

    def run_nothing(config, out, *, on_progress):
        seen.append(config)
        return small_run[0]

    monkeypatch.setattr(command, "run_demo", run_nothing)
    monkeypatch.setattr(command, "print_result", lambda *_, **__: None)
    assert main(["demo", "--quick", "--out", str(tmp_path), *words]) == 0
    assert seen == [replace(quick_config(), tower_training=training)]
