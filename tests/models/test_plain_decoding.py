"""The loop for language models without `generate`: greedy choice, sampling, ends and streams."""

from collections import Counter

import pytest
import torch
from torch import Tensor, nn

from flamingo_blocks.models.plain_decoding import plain_generate
from tests.language_models import make_language_model

LOGITS = torch.tensor([0.1, 0.4, 0.2, 0.3]).log()


class Fixed(nn.Module):
    """Gives the same scores for each next token, or those of a table by the last token."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, input_ids: Tensor) -> Tensor:
        table = self.logits if self.logits.ndim == 2 else self.logits.expand(4, -1)
        return table[input_ids]


def drawn(**options) -> dict[int, float]:
    """How often each token is drawn."""
    ids = torch.zeros(4000, 1, dtype=torch.long)
    generator = torch.Generator().manual_seed(0)
    out = plain_generate(Fixed(LOGITS), ids, max_new_tokens=1, do_sample=True, generator=generator, **options)
    return {token: count / 4000 for token, count in Counter(out[:, 1].tolist()).items()}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (dict(), [0.1, 0.4, 0.2, 0.3]),
        (dict(top_k=2), [0, 4 / 7, 0, 3 / 7]),
        (dict(top_k=1), [0, 1, 0, 0]),
        (dict(top_k=9), [0.1, 0.4, 0.2, 0.3]),
        (dict(top_k=0), [0.1, 0.4, 0.2, 0.3]),
        (dict(top_p=0.6), [0, 4 / 7, 0, 3 / 7]),
        (dict(top_p=0.8), [0, 4 / 9, 2 / 9, 3 / 9]),
        (dict(top_p=0.01), [0, 1, 0, 0]),
        (dict(top_p=0.0), [0, 1, 0, 0]),
        (dict(top_p=1.0), [0.1, 0.4, 0.2, 0.3]),
        (dict(top_k=0, top_p=0.6), [0, 4 / 7, 0, 3 / 7]),
        (dict(top_k=3, top_p=0.7), [0, 4 / 7, 0, 3 / 7]),
        (dict(temperature=0.5), [1 / 30, 16 / 30, 4 / 30, 9 / 30]),
    ],
)
def test_samples_follow_the_probabilities(options, expected):
    """Of all tokens, of the best few, or of the fewest that together are likely enough; sharper when it is colder."""
    found = drawn(**options)
    for token, probability in enumerate(expected):
        assert found.get(token, 0) == pytest.approx(probability, abs=0.03)
        assert (token in found) == (probability > 0)


def test_greedy_takes_the_likeliest_and_reads_what_it_said():
    """Each step runs on the whole text so far."""
    chain = Fixed(torch.eye(4).roll(1, 1))  # after 0 comes 1, after 1 comes 2
    assert plain_generate(chain, torch.tensor([[0], [2]]), max_new_tokens=3).tolist() == [[0, 1, 2, 3], [2, 3, 0, 1]]


def test_rows_end_by_themselves_and_are_padded():
    """A row that ended stays ended; when all have, the loop stops."""
    chain = Fixed(torch.eye(4).roll(1, 1))
    ids = torch.tensor([[0], [2]])
    assert plain_generate(chain, ids, max_new_tokens=5, eos_token_id=3).tolist() == [[0, 1, 2, 3], [2, 3, 3, 3]]
    padded = plain_generate(chain, ids, max_new_tokens=5, eos_token_id=[3, 9], pad_token_id=0)
    assert padded.tolist() == [[0, 1, 2, 3], [2, 3, 0, 0]]
    assert plain_generate(chain, ids, max_new_tokens=0).tolist() == ids.tolist()


def test_pads_grow_with_the_text_of_rows_that_ended():
    """The mask marks what stands behind an end as pads, so that a model with a mask never reads it."""
    lm = make_language_model("paper").double()
    ids = torch.tensor([[0, 3, 4], [5, 6, 7]])
    mask = torch.tensor([[False, True, True], [True, True, True]])
    out = plain_generate(lm, ids, attention_mask=mask, max_new_tokens=3)
    alone = plain_generate(lm, ids[:1, 1:], max_new_tokens=3)
    assert out[0, 1:].tolist() == alone[0].tolist()
    ended = plain_generate(lm, ids, attention_mask=mask, max_new_tokens=3, eos_token_id=int(out[1, 3]))
    assert ended[0].tolist() == out[0].tolist()


@pytest.mark.parametrize("wrong", [dict(max_new_tokens=-1), dict(temperature=0.0)])
def test_lengths_and_temperatures_are_checked(wrong):
    """The message holds both values."""
    with pytest.raises(ValueError, match=r"max_new_tokens is -?\d+ and temperature \d\.\d; wanted >= 0 and > 0"):
        plain_generate(Fixed(LOGITS), torch.tensor([[0]]), **{"max_new_tokens": 1, **wrong})


@pytest.mark.parametrize("wrong", [dict(top_k=-1), dict(top_p=-0.5)])
def test_cuts_of_the_vocabulary_are_checked(wrong):
    """The message holds both values, and what stands for no cut."""
    with pytest.raises(ValueError, match=r"top_k is (-1|None) and top_p (-0.5|None); wanted >= 0, or None for all"):
        plain_generate(Fixed(LOGITS), torch.tensor([[0]]), do_sample=True, **wrong)


def test_transformers_draws_among_the_same_tokens():
    """`top_k` and `top_p` cut the vocabulary where its `generate` does, at the ends of their ranges too."""
    transformers = pytest.importorskip("transformers")
    lm = make_language_model("gpt2")
    scores = lm(torch.tensor([[3]])).logits[0, -1]
    for cut in (dict(top_k=0, top_p=1.0), dict(top_k=3, top_p=1.0), dict(top_k=0, top_p=0.3), dict(top_k=0, top_p=0.0)):
        config = transformers.GenerationConfig(
            do_sample=True, max_new_tokens=1, output_scores=True, return_dict_in_generate=True, eos_token_id=None,
            pad_token_id=0, **cut,
        )  # fmt: skip
        kept = lm.generate(torch.tensor([[3]]), generation_config=config).scores[0][0].isfinite()
        ids, generator = torch.zeros(3000, 1, dtype=torch.long), torch.Generator().manual_seed(0)
        out = plain_generate(Fixed(scores.detach()), ids, max_new_tokens=1, do_sample=True, generator=generator, **cut)
        ours = torch.bincount(out[:, 1], minlength=len(kept)) > 0
        assert not (ours & ~kept).any()
        assert ours[kept & (scores.softmax(-1) > 0.005)].all()
