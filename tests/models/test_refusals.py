"""What a Flamingo refuses, to be made or to be called, and how it says so."""

import pytest
import torch
from torch import nn

from tests.flamingos import EXAMPLE_ROWS, LATENTS, NEW_TAG, VISION_DIM, make_batch, make_block, make_flamingo
from tests.language_models import VOCAB, make_language_model


@pytest.mark.parametrize("call", ["forward", "prefill", "generate", "score"])
def test_tags_and_items_must_agree(call):
    """The error tells how many of each there are, and what to do."""
    flamingo, batch = make_flamingo("gpt2"), make_batch(EXAMPLE_ROWS, 0)
    given = batch.arguments()
    more = {"score": dict(candidates=[[3]]), "generate": dict(max_new_tokens=1)}.get(call, {})
    for items in (2, 4):
        wrong = given | {name: given[name][torch.arange(items) % 3] for name in ("pixels", "frame_valid")}
        with pytest.raises(
            ValueError, match=rf"hold 3 media tags \(id {NEW_TAG}\), but {items} items were given; give"
        ):
            getattr(flamingo, call)(**wrong, **more)
    text = {name: given[name] for name in ("input_ids", "attention_mask")}
    with pytest.raises(ValueError, match="hold 3 media tags .* but 0 items were given"):
        getattr(flamingo, call)(**text, **more)


@pytest.mark.parametrize("call", ["forward", "prefill", "generate", "score"])
@pytest.mark.parametrize("kinds", [("pixels", "features"), ("pixels", "media"), ("features", "media")])
def test_two_kinds_of_media_are_refused(call, kinds):
    """The error names both that were given and the three there are."""
    flamingo, ids = make_flamingo("plain"), torch.tensor([[3, NEW_TAG, 4]])
    media = {
        "pixels": torch.zeros(1, 1, 3, 8, 8),
        "features": torch.zeros(1, 1, 4, VISION_DIM),
        "media": torch.zeros(1, LATENTS, VISION_DIM),
    }
    more = {"score": dict(candidates=[[3]]), "generate": dict(max_new_tokens=1)}.get(call, {})
    with pytest.raises(ValueError, match=f"{' and '.join(kinds)} were given; wanted one of pixels, features and media"):
        getattr(flamingo, call)(ids, **{kind: media[kind] for kind in kinds}, **more)


@pytest.mark.usefixtures("without_shape_checks")
def test_pixels_need_a_tower():
    """A model without one says what it takes."""
    flamingo = make_flamingo("plain", vision=None)
    with pytest.raises(ValueError, match="no vision tower; pass vision=, or give features"):
        flamingo(torch.tensor([[NEW_TAG]]), pixels=torch.zeros(1, 1, 3, 8, 8))
    with pytest.raises(
        ValueError, match=r"features has shape \(1, 4, 16\), wanted \[items frames patches vision_dim\]"
    ):
        flamingo._encode(features=torch.zeros(1, 4, VISION_DIM))


def test_labels_need_every_logit_and_a_prompt_is_one_document():
    """Pairs of arguments that exclude each other."""
    flamingo, ids = make_flamingo("gpt2"), torch.tensor([[3, 4]])
    with pytest.raises(ValueError, match="labels need all logits, but logits_to_keep is 1"):
        flamingo(ids, labels=ids, logits_to_keep=1)
    with pytest.raises(ValueError, match="return_logits is False and labels is None"):
        flamingo(ids, return_logits=False)
    with pytest.raises(ValueError, match="document and prompt exclude each other"):
        flamingo(ids, document=ids, prompt=flamingo.prefill(ids))
    two = flamingo.prefill(ids.repeat(2, 1))
    with pytest.raises(ValueError, match="prompt has 2 rows and input_ids 3; wanted 1 row to share, or as many"):
        flamingo(ids.repeat(3, 1), prompt=two)


@pytest.mark.parametrize("call", ["generate", "score"])
def test_right_pads_are_refused_where_new_tokens_follow(call):
    """The error names the row, and the side to pad on."""
    flamingo = make_flamingo("gpt2")
    ids, mask = torch.tensor([[3, 4], [3, 0]]), torch.tensor([[1, 1], [1, 0]])
    more = dict(candidates=[[3]]) if call == "score" else dict(max_new_tokens=1)
    with pytest.raises(ValueError, match="attention_mask of row 1 ends in a pad; pad on the left"):
        getattr(flamingo, call)(ids, attention_mask=mask, **more)


def test_left_pads_need_a_model_that_takes_a_mask():
    """A decoder without `attention_mask` would read the pads, so it is refused."""
    flamingo = make_flamingo("plain")
    with pytest.raises(ValueError, match="pads before real tokens, but PlainDecoder.forward takes no attention_mask"):
        flamingo(torch.tensor([[0, 3]]), attention_mask=torch.tensor([[0, 1]]))


def test_an_unknown_width_of_features_is_told():
    """A projector that does not say what it takes can not run a text without media; the error says what it lacks."""
    flamingo = make_flamingo("plain", vision=None, resampler=nn.Sequential(nn.Linear(VISION_DIM, VISION_DIM)))
    with pytest.raises(ValueError, match="give the resampler an attribute vision_dim, or pass features of shape"):
        flamingo(torch.tensor([[3]]))
    features = torch.zeros(0, 1, 1, VISION_DIM, dtype=torch.float64)
    assert flamingo(torch.tensor([[3]]), features=features).logits.shape == (1, 1, VOCAB + 2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(embedding="nowhere"), "embedding='nowhere' names no module"),
        (dict(media_token_id=99), "media_token_id is 99"),
        (dict(end_token_id=-1), "end_token_id is -1"),
        (dict(layers="nowhere"), "layers='nowhere' names no list"),
        (dict(blocks={9: make_block()}), "a block for layer 9"),
    ],
)
def test_a_model_that_cannot_be_made_leaves_the_language_model_as_it_was(wrong, message):
    """No hook is left, nothing is frozen, and the next try is free."""
    lm = make_language_model("gpt2").train()
    with pytest.raises(ValueError, match=message):
        make_flamingo("gpt2", lm=lm, **wrong)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in lm.modules())
    assert all(weight.requires_grad for weight in lm.parameters()) and lm.training
    assert make_flamingo("gpt2", lm=lm).detach() is lm
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in lm.modules())


def test_embedding_and_head_can_be_named():
    """A decoder with several of each is told which ones are meant."""
    lm = make_language_model("plain", max_text=VOCAB)  # as many positions as words
    with pytest.raises(ValueError, match="pass embedding="):
        make_flamingo("plain", lm=lm)
    flamingo = make_flamingo("plain", lm=lm, embedding="embedding", head="head")
    assert flamingo(torch.tensor([[3, 4]])).logits.shape == (1, 2, VOCAB + 2)
