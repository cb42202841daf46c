"""The demo's language model, and the measure of what it has learnt."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from flamingo_blocks.demo.language_model import TinyDecoder, text_recall, train_language_model
from flamingo_blocks.demo.words import NAMES, demo_vocabulary
from flamingo_blocks.lm import attach_token_rows

VOCABULARY = demo_vocabulary()


class Copier(nn.Module):
    """Names a thing as its document did before, by looking it up; wrong about all else."""

    def forward(self, input_ids):
        logits = torch.zeros(*input_ids.shape, len(VOCABULARY.words))
        for row, ids in enumerate(input_ids.tolist()):
            named = {}
            for place, word in enumerate(ids):
                if place >= 4 and word in VOCABULARY.encode(NAMES):
                    named[ids[place - 4]] = word
                if place >= 3 and ids[place - 3] in named:
                    logits[row, place, named[ids[place - 3]]] = 1.0
        return logits


def test_recall_counts_names_that_were_given_before():
    """Who looks up names in the document recalls all; who has learnt nothing recalls next to none."""
    assert text_recall(Copier(), VOCABULARY, seed=0, documents=8) == 1.0
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ignorant = TinyDecoder(vocab_size=len(VOCABULARY.words))
    assert text_recall(ignorant, VOCABULARY, seed=0, documents=8) < 0.2


@given(seed=st.integers(0, 10**6), text=st.integers(1, 9), data=st.data())
def test_no_token_looks_ahead(seed, text, data):
    """Another token at a place leaves all logits before it as they were, and moves its own."""
    place = data.draw(st.integers(0, text - 1))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        lm = TinyDecoder(vocab_size=11, dim=8, num_heads=2)
        ids = torch.randint(0, 11, (1, text))
    other = ids.clone()
    other[0, place] = (other[0, place] + 1) % 11
    before, after = lm(ids), lm(other)
    assert torch.equal(before[:, :place], after[:, :place])
    assert not torch.equal(before[:, place], after[:, place])


def test_logits_of_new_tokens_are_scaled_like_the_others():
    """A new token whose row is that of a known word is as likely as that word."""
    lm = TinyDecoder(vocab_size=11, dim=8, num_heads=2)
    assert lm.get_output_embeddings().weight is lm.get_input_embeddings().weight
    rows = attach_token_rows(lm, 1)
    rows.input.data[0] = lm.embedding.weight[4]
    logits = lm(torch.tensor([[1, 2, 3]]))
    torch.testing.assert_close(logits[..., 11], logits[..., 4])


def test_logits_start_at_unit_size():
    """Embeddings have unit variance, and so have the logits of a new model: no word starts out certain."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        logits = TinyDecoder(vocab_size=200)(torch.arange(40)[None])
    assert 0.5 < logits.std() < 2


def test_training_lowers_the_loss_and_freezes():
    """A few steps already make text likelier; afterwards nothing is trained any more."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        lm = TinyDecoder(vocab_size=len(VOCABULARY.words), dim=16, num_layers=1, num_heads=2)
    losses = []
    train_language_model(lm, VOCABULARY, steps=12, seed=0, on_step=lambda report: losses.append(report.losses["text"]))
    assert losses[-1] < losses[0] - 0.1
    assert not lm.training
    assert not any(parameter.requires_grad for parameter in lm.parameters())
