"""Laws 1, 2, 4, 5, 11, 12, 16 and 17 for the whole model, around each language model of the tests."""

from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn

from flamingo_blocks import Flamingo, MediaLayout
from tests.flamingos import (
    KNOWN_TAG,
    NEW_TAG,
    PAD,
    Batch,
    close,
    make_batch,
    make_flamingo,
    prompt_rows,
    text_rows,
)
from tests.language_models import NAMES, OF_TRANSFORMERS, make_language_model
from tests.strategies import heavy, seeds

language_models = pytest.mark.parametrize("name", NAMES)
MASKED = (*OF_TRANSFORMERS, "paper")  # they take an attention_mask
masked_language_models = pytest.mark.parametrize("name", MASKED)
scopes = st.sampled_from(["last", "all"])


def own_logits(lm: nn.Module, input_ids: Tensor) -> Tensor:
    out = lm(input_ids)
    return out if isinstance(out, Tensor) else out.logits


def without_pads(batch: Batch) -> Batch:
    """The same rows for a model that knows no pads: they are text like any other."""
    return replace(batch, real=torch.ones_like(batch.real))


def batch_for(name: str, rows, seed: int, **options) -> Batch:
    batch = make_batch(rows, seed, **options)
    return without_pads(batch) if name == "plain" else batch


@language_models
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@heavy(6)
@given(text_rows(), seeds)
def test_at_zero_gates_the_logits_are_the_language_models_own(name, dtype, rows, seed):
    """Bit for bit, with the trained parts in float32 beside a language model in bfloat16 as well."""
    lm = make_language_model(name).to(dtype)
    batch = without_pads(make_batch(rows, seed, tag=KNOWN_TAG, dtype=torch.float32))
    expected = own_logits(lm, batch.input_ids)
    flamingo = make_flamingo(name, lm=lm, closed=True, media_token_id=KNOWN_TAG).float()
    lm.to(dtype)
    actual = flamingo(**batch.arguments()).logits
    assert torch.equal(actual[..., : expected.shape[-1]], expected)
    assert actual.dtype == dtype


@language_models
@heavy(4)
@given(text_rows(), text_rows(), scopes, st.booleans(), seeds, st.data())
def test_text_and_media_never_move_earlier_logits(name, rows, later, scope, known, seed, data):
    """Whatever follows a column, other words, other tags or other images, the logits up to it stay the same."""
    tag = KNOWN_TAG if known else NEW_TAG
    flamingo = make_flamingo(name, scope=scope, media_token_id=tag)
    batch = batch_for(name, rows, seed, tag=tag)
    column = data.draw(st.integers(0, batch.input_ids.shape[1]))
    number = batch.input_ids.shape[0]
    other = batch_for(name, tuple((later * number)[:number]), seed + 1, tag=tag)
    changed = batch.columns(0, column).then(other)
    before, after = flamingo(**batch.arguments()).logits, flamingo(**changed.arguments()).logits
    real = batch.real[:, :column]
    close(after[:, :column][real], before[:, :column][real], name)


@masked_language_models
@heavy(4)
@given(text_rows(), scopes, seeds)
def test_pads_and_other_rows_change_nothing(name, rows, scope, seed):
    """Each row has the logits it has alone, whatever pads, absent frames and rows without media surround it."""
    flamingo = make_flamingo(name, scope=scope)
    batch = make_batch(rows, seed)
    logits = flamingo(**batch.arguments()).logits
    for row in range(len(rows)):
        if batch.real[row].any():
            close(logits[row][batch.real[row]], flamingo(**batch.row(row).arguments()).logits[0], name)


@heavy(4)
@given(prompt_rows(padded=False), st.integers(0, 2), scopes, seeds)
def test_right_pads_and_other_rows_change_nothing_without_a_mask_too(rows, pads, scope, seed):
    """A decoder that takes no mask may be padded on the right, where causality keeps the pads harmless."""
    flamingo = make_flamingo("plain", scope=scope)
    batch = make_batch(tuple(row + (PAD,) * pads for row in rows), seed)
    logits = flamingo(**batch.arguments()).logits
    for row in range(len(rows)):
        close(logits[row][batch.real[row]], flamingo(**batch.row(row).arguments()).logits[0])


@masked_language_models
@heavy(4)
@given(text_rows(max_rows=2, max_documents=3), scopes, seeds)
def test_documents_of_a_packed_row_are_as_if_alone(name, rows, scope, seed):
    """Text, positions and media of the other documents in the row change nothing."""
    flamingo = make_flamingo(name, scope=scope)
    batch = make_batch(rows, seed)
    logits = flamingo(**batch.arguments(), document=batch.document).logits
    for row in range(len(rows)):
        for document in batch.document[row][batch.real[row]].unique().tolist():
            own = batch.real[row] & (batch.document[row] == document)
            close(logits[row][own], flamingo(**batch.row(row, document).arguments()).logits[0], name)


@language_models
@heavy(4)
@given(text_rows(), seeds, st.integers(1, 3), st.integers(0, 2))
def test_patches_and_frames_that_do_not_count_change_nothing(name, rows, seed, more_frames, more_patches):
    """Features with padded patches and frames of any content give the logits of those without."""
    batch = batch_for(name, rows, seed)
    flamingo = make_flamingo(name)
    noise = torch.Generator().manual_seed(seed)
    features = torch.randn(int(batch.is_media.sum()), 1, 4, 16, generator=noise, dtype=torch.float64)
    text = {key: value for key, value in batch.arguments().items() if key in ("input_ids", "attention_mask")}
    padded = torch.full((len(features), more_frames, 4 + more_patches, 16), float("nan"), dtype=torch.float64)
    padded[:, :1, :4] = features
    counts = torch.zeros(padded.shape[:3], dtype=torch.bool)
    counts[:, :1, :4] = True
    expected = flamingo(**text, features=features).logits
    close(flamingo(**text, features=padded, patch_valid=counts).logits, expected, name)
    if not more_patches:
        frames = counts[..., 0]
        close(flamingo(**text, features=padded, frame_valid=frames).logits, expected, name)


@language_models
@heavy(4)
@given(text_rows(), seeds, st.booleans())
def test_text_without_media_reaches_every_trained_parameter(name, rows, seed, known):
    """Its gradients are tensors, not None, so that a data-parallel step never waits for a rank that saw no image."""
    flamingo = make_flamingo(name, media_token_id=KNOWN_TAG if known else NEW_TAG)
    batch = without_pads(make_batch(tuple(tuple(map(as_text, row)) for row in rows), seed))
    flamingo(batch.input_ids, labels=batch.input_ids).loss.backward()
    trained = flamingo.trained_parameters()
    assert {name.partition(".")[0] for name in trained} == {"resampler", "blocks", "token_rows"}
    assert [key for key, weight in trained.items() if weight.grad is None or not weight.grad.isfinite().all()] == []


def as_text(token):
    return replace(token, kind="text", items=0)


def weights_of(flamingo: Flamingo) -> dict[str, Tensor]:
    """A copy of all parameters and buffers, each once."""
    return {key: value.detach().clone() for key, value in (*flamingo.named_parameters(), *flamingo.named_buffers())}


@language_models
@heavy(5)
@given(text_rows(), seeds)
def test_frozen_weights_never_move(name, rows, seed):
    """Frozen parts stay in eval mode under `.train()`, and bit for bit as they were whatever an optimiser is given."""
    flamingo = make_flamingo(name).train()
    assert flamingo.training and flamingo.blocks["0"].training and flamingo.resampler.training
    assert not any(module.training for part in (flamingo.lm, flamingo.vision) for module in part.modules())
    batch = batch_for(name, rows, seed)
    before = weights_of(flamingo)
    optimiser = torch.optim.AdamW(flamingo.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(2):
        optimiser.zero_grad()
        flamingo(**batch.arguments(), labels=batch.input_ids).loss.backward()
        optimiser.step()
    trained = flamingo.trained_parameters()
    assert all(weight.grad is None for key, weight in flamingo.named_parameters() if key not in trained)
    after = weights_of(flamingo)
    assert [key for key in before if key not in trained and not torch.equal(after[key], before[key])] == []
    assert any(not torch.equal(after[key], before[key]) for key in trained)


@language_models
@heavy(5)
@given(text_rows(), seeds, st.sampled_from([float("nan"), float("inf")]), scopes)
def test_an_item_that_nobody_sees_reaches_no_gradient(name, rows, seed, bad, scope):
    """NaN in an item that the layout names for no token leaves all parameter gradients as they are without."""
    flamingo = make_flamingo(name, scope=scope)
    batch = batch_for(name, rows, seed)
    given = batch.arguments()
    layout = flamingo.make_layout(batch.input_ids, attention_mask=given.get("attention_mask"))
    weights = list(flamingo.trained_parameters().values())
    expected = torch.autograd.grad(flamingo(**given, labels=batch.input_ids).loss, weights)
    given["pixels"] = torch.cat([given["pixels"], torch.full_like(batch.clips[:1, 0, : given["pixels"].shape[1]], bad)])
    given["frame_valid"] = torch.cat([given["frame_valid"], torch.ones_like(given["pixels"][:1, :, 0, 0, 0]).bool()])
    out = flamingo(**given, labels=batch.input_ids, layout=layout)
    for actual, wanted in zip(torch.autograd.grad(out.loss, weights), expected, strict=True):
        close(actual, wanted, name)


@language_models
@heavy(5)
@given(text_rows(), seeds)
def test_at_zero_gates_the_first_step_moves_gates_and_token_rows_only(name, rows, seed):
    """Behind closed gates nothing else can have a gradient."""
    batch = batch_for(name, rows, seed)
    assume((~batch.is_media[:, 1:]).any())  # some label counts
    flamingo = make_flamingo(name, closed=True)
    before = weights_of(flamingo)
    optimiser = torch.optim.SGD(flamingo.trained_parameters().values(), lr=1.0)
    flamingo(**batch.arguments(), labels=batch.input_ids).loss.backward()
    optimiser.step()
    moved = {key for key, value in weights_of(flamingo).items() if not torch.equal(value, before[key])}
    assert all("gate.gate" in key or key.startswith("token_rows.") for key in moved)
    assert any("gate.gate" in key for key in moved)


@language_models
@heavy(5)
@given(text_rows(), seeds, st.data())
def test_shared_items_are_copies(name, rows, seed, data):
    """Rows that name one item of the pool see what they see when each has a copy of it."""
    batch = batch_for(name, rows, seed)
    flamingo = make_flamingo(name)
    given = batch.arguments()
    count = int(batch.is_media.sum())
    assume(count)
    number = data.draw(st.integers(1, count))
    chosen = torch.tensor(data.draw(st.lists(st.integers(0, number - 1), min_size=count, max_size=count)))
    layout = flamingo.make_layout(batch.input_ids, attention_mask=given.get("attention_mask"))
    shared = replace(layout, item_ids=torch.where(layout.item_ids < 0, -1, chosen[layout.item_ids.clamp(min=0)]))
    copies = {key: given[key][chosen] for key in ("pixels", "frame_valid")}
    pool = {key: given[key][:number] for key in ("pixels", "frame_valid")}
    assert isinstance(shared, MediaLayout) and isinstance(flamingo, Flamingo)
    close(flamingo(**given | pool, layout=shared).logits, flamingo(**given | copies).logits, name)
