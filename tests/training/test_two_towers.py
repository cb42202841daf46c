"""Two towers and their temperature, alone and in the loop."""

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from flamingo_blocks.training import Objective, TrainConfig, param_groups, train, warmup_hold_decay
from flamingo_blocks.training.contrast.contrastive import contrastive_loss, retrieval_accuracy
from flamingo_blocks.training.contrast.two_towers import TwoTowers, two_towers_loss
from flamingo_blocks.vision import PatchTokens


class Patches(nn.Module):
    """Four patches, the last two of which may be said not to count."""

    dim, grid = 6, (2, 2)
    preprocess = staticmethod(torch.as_tensor)

    def __init__(self, *, partly=False):
        super().__init__()
        self.layer, self.partly = nn.Conv2d(3, 6, 2, 2), partly

    def forward(self, pixels):
        tokens = self.layer(pixels).flatten(2).mT
        counted = torch.tensor([True, True, False, False]).expand(len(tokens), -1)
        return PatchTokens(tokens, counted if self.partly else None)


class Bert(nn.Module):
    """Gives its tokens as transformers does, and must be told what is padding."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(20, 5)

    def forward(self, input_ids, *, attention_mask):
        assert attention_mask.dtype == torch.bool
        return SimpleNamespace(last_hidden_state=self.table(input_ids))


def make_towers(*, partly=False, text_tower=None, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TwoTowers(Patches(partly=partly), text_tower or nn.Embedding(20, 5), text_dim=5, dim=4, **options)


def make_batch(seed=0, pairs=3, text=4):
    noise = torch.Generator().manual_seed(seed)
    pixels = torch.randn(pairs, 3, 4, 4, generator=noise)
    return {"pixels": pixels, "input_ids": torch.randint(0, 20, (pairs, text), generator=noise)}


def test_tokens_are_averaged_and_projected():
    """Each side is the projection of the mean of its tokens."""
    towers, batch = make_towers(), make_batch()
    vectors = towers(**batch)
    images = F.linear(towers.image_tower(batch["pixels"]).tokens.mean(1), towers.image_projection.weight)
    texts = F.linear(towers.text_tower(batch["input_ids"]).mean(1), towers.text_projection.weight)
    torch.testing.assert_close(vectors.image, images)
    torch.testing.assert_close(vectors.text, texts)
    assert vectors.log_scale.item() == pytest.approx(math.log(1 / 0.07))


def test_pads_and_patches_that_do_not_count_are_not_averaged():
    """Other ids under the pads and another lower half of the image change nothing; a text of pads alone is zero."""
    towers, batch = make_towers(partly=True, text_tower=Bert()), make_batch(text=3)
    mask = torch.tensor([[True, True, False], [False, True, True], [False, False, False]])
    changed = {"pixels": batch["pixels"].clone(), "input_ids": batch["input_ids"].masked_fill(~mask, 7)}
    changed["pixels"][:, :, 2:] = float("nan")
    vectors, others = (towers(**given, attention_mask=mask) for given in (batch, changed))
    assert torch.equal(vectors.image, others.image)
    assert torch.equal(vectors.text, others.text)
    assert not vectors.text[2].any()


@given(st.floats(-2, 2), st.floats(-2, 2).filter(bool))
def test_the_scale_stops_at_its_bound_and_may_come_back(above, slope):
    """Up to the bound the gradient is that of the value; from there on it is zero where a step would go further up."""
    towers = make_towers(max_scale=100.0)
    towers.log_scale.data.fill_(math.log(100) + above)
    log_scale = towers(**make_batch()).log_scale
    assert log_scale.item() == pytest.approx(math.log(100) + min(above, 0.0), abs=1e-5)
    (slope * log_scale).sum().backward()
    stopped = towers.log_scale.detach().item() >= towers.max_log_scale and slope < 0
    assert towers.log_scale.grad.item() == pytest.approx(0.0 if stopped else slope)


def test_a_run_that_would_sharpen_for_ever_stays_at_the_bound():
    """On pairs that it can tell apart, the scale grows to its bound and is pushed no further."""
    towers, batch = make_towers(initial_temperature=0.5, max_scale=3.0), make_batch()
    run(towers, steps=100, label_smoothing=0.0, pairs=[batch])
    assert towers(**batch).log_scale.item() == pytest.approx(math.log(3.0))
    assert towers.log_scale.item() < math.log(3.0) + 0.3


def run(towers, *, steps, label_smoothing=0.1, **batches):
    loss = partial(two_towers_loss, label_smoothing=label_smoothing)
    return train(
        TrainConfig(
            model=towers,
            objectives=[Objective(name=name, batches=many * steps, loss=loss) for name, many in batches.items()],
            steps=steps,
            lr=0.02,
            schedule=warmup_hold_decay(warmup=5),
        )
    )


def test_two_data_sets_are_two_objectives_and_pairs_are_found_afterwards():
    """The loop adds up the gradients of both; after some steps images find their texts in each."""
    towers, batches = make_towers(), {"one": [make_batch(1)], "two": [make_batch(2)]}
    reports = run(towers, steps=80, **batches).reports
    assert all(reports[-1].losses[name] < reports[0].losses[name] - 1 for name in batches)
    for (batch,) in batches.values():
        assert retrieval_accuracy(*towers(**batch)[:2]) == (1.0, 1.0)


def test_negatives_never_cross_data_sets():
    """The gradient of two data sets is the sum of both alone, which one batch of all of them has not."""
    towers, batches = make_towers(), [make_batch(1), make_batch(2)]

    def slope(*given):
        towers.zero_grad()
        for batch in given:
            two_towers_loss(towers, batch).backward()
        return towers.image_projection.weight.grad.clone()

    mixed = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
    torch.testing.assert_close(slope(*batches), slope(batches[0]) + slope(batches[1]))
    assert (slope(*batches) - slope(mixed)).abs().max() > 0.01


def test_every_parameter_learns_and_the_temperature_does_not_decay():
    """All parts have a gradient; the temperature stands among those without weight decay."""
    towers = make_towers()
    two_towers_loss(towers, make_batch()).backward()
    assert all(p.grad is not None and p.grad.any() for p in towers.parameters())
    (group,) = [g for g in param_groups(towers, lr=1.0) if any(p is towers.log_scale for p in g["params"])]
    assert group["weight_decay"] == 0


def test_the_loss_of_two_towers_is_the_contrastive_loss():
    """What stands in a batch goes to the towers, and the rest to the loss."""
    towers, batch = make_towers(), make_batch()
    expected = contrastive_loss(*towers(**batch), label_smoothing=0.3)
    assert torch.equal(two_towers_loss(towers, batch, label_smoothing=0.3), expected)


@pytest.mark.parametrize("options", [{"initial_temperature": 0.0}, {"max_scale": -1.0}])
def test_a_temperature_that_is_none_is_told(options):
    """The error names both values."""
    with pytest.raises(ValueError, match=r"initial_temperature is .* and max_scale .*, wanted both above 0"):
        make_towers(**options)
