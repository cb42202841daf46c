"""Prompts, decoding and the chunked loss on CUDA and in half precision, rehearsed on the CPU."""

import pytest
import torch
import torch.nn.functional as F

from flamingo_blocks.ops.linear_cross_entropy import linear_cross_entropy
from tests.flamingos import NEW_TAG, make_flamingo

on_both = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
# Of the largest number compared, through a whole model.
BOUNDS = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
every_dtype = pytest.mark.parametrize("dtype", BOUNDS, ids=str)

SHOTS = torch.tensor([[3, NEW_TAG, 4, 5, NEW_TAG, 6, 7]])
QUERIES = torch.tensor([[NEW_TAG, 8], [NEW_TAG, 9], [NEW_TAG, 10]])
CANDIDATES = [[11], [12, 13], [14, 15, 16]]


def close(actual, expected, dtype):
    actual, expected = actual.detach(), expected.detach()
    assert actual.isfinite().all()
    bound = BOUNDS[dtype] * float(expected.abs().max())
    torch.testing.assert_close(actual.double(), expected.double(), atol=bound, rtol=0)


def parts(device, dtype):
    """A Flamingo, a prompt of two images, queries of one image each, and the same as whole texts."""
    flamingo = make_flamingo("llama").to(device, dtype)
    noise = torch.Generator().manual_seed(0)
    shots, own = (torch.rand(n, 1, 3, 8, 8, generator=noise).to(device, dtype) for n in (2, 3))
    queries = {"input_ids": QUERIES.to(device), "pixels": own}
    rows = len(QUERIES)
    whole = {
        "input_ids": torch.cat([SHOTS.expand(rows, -1), QUERIES], 1).to(device),
        "pixels": torch.cat([shots.expand(rows, *shots.shape), own[:, None]], 1).flatten(0, 1),
    }
    return flamingo, flamingo.prefill(SHOTS.to(device), pixels=shots), queries, whole


@on_both
@every_dtype
def test_scores_behind_a_shared_prompt_are_those_of_whole_texts(dtype, device):
    """The prompt's keys and values, its media's among them, are those that the whole text would have made."""
    flamingo, prompt, queries, whole = parts(device, dtype)
    expected = flamingo.score(candidates=CANDIDATES, **whole).log_probs
    close(flamingo.score(candidates=CANDIDATES, prompt=prompt, **queries).log_probs, expected, dtype)


@on_both
def test_greedy_answers_behind_a_shared_prompt_are_those_of_whole_texts(device):
    """Token for token, in float32, where no two tokens are equally likely."""
    flamingo, prompt, queries, whole = parts(device, torch.float32)
    ways = ({"prompt": prompt, **queries}, whole)
    ids = [
        flamingo.generate(max_new_tokens=5, do_sample=False, eos_token_id=None, pad_token_id=0, **way) for way in ways
    ]
    assert torch.equal(*(each[:, -5:] for each in ids))


@on_both
@every_dtype
def test_the_chunked_loss_is_the_plain_one(dtype, device):
    """Loss and gradients of hidden states and weight are those of all logits at once, in float32 from the same."""
    noise = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(*shape, generator=noise).to(device, dtype) for shape in ((70, 24), (90, 24)))
    labels = torch.randint(0, 90, (70,), generator=noise).to(device).index_fill(0, torch.tensor(3, device=device), -100)
    leaves = [x.requires_grad_() for x in (hidden, weight)]
    exact = [x.detach().float().requires_grad_() for x in leaves]
    loss, plain = linear_cross_entropy(*leaves, labels), F.cross_entropy(F.linear(*exact), labels)
    close(loss, plain, dtype)
    for actual, expected in zip(torch.autograd.grad(loss, leaves), torch.autograd.grad(plain, exact), strict=True):
        close(actual, expected, dtype)
