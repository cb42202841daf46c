"""The forward pass in transformers' form."""

import pytest
import torch
from transformers import DynamicCache

from flamingo_blocks.hf import FlamingoCausalLMOutput, FlamingoForConditionalGeneration
from tests.hf.tiny import SIDE, TAG, make_model

IDS = torch.tensor([[0, 0, TAG, 5, 6, 7], [TAG, 5, 6, TAG, 8, 9], [0, 5, 6, 7, 8, 9]])
MASK = (IDS != 0).long()
PIXELS = torch.randn(3, 1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model() -> FlamingoForConditionalGeneration:
    return make_model()


@torch.no_grad()
def test_logits_are_those_of_the_model_inside(model):
    """Clips and images give what `Flamingo.forward` gives, and what the language model offers comes along."""
    expected = model.flamingo(IDS, pixels=PIXELS, attention_mask=MASK).logits
    for pixels in (PIXELS, PIXELS[:, 0]):
        output = model(IDS, pixel_values=pixels, attention_mask=MASK, output_hidden_states=True, inputs_embeds=None)
        assert isinstance(output, FlamingoCausalLMOutput)
        assert torch.equal(output.logits[MASK.bool()], expected[MASK.bool()])
        assert len(output.hidden_states) == 3
    last = model(IDS, pixel_values=PIXELS, attention_mask=MASK, logits_to_keep=2, return_dict=False)
    torch.testing.assert_close(last[0], expected[:, -2:], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_cache_goes_on_with_its_media(model):
    """Token by token, cache and media passed on, the logits are those of the whole text; media are projected once."""
    whole = model(IDS, pixel_values=PIXELS, attention_mask=MASK).logits
    projected = []
    model.flamingo.blocks["0"].attention.k_proj.register_forward_pre_hook(lambda _, args: projected.append(args))
    output = model(IDS[:, :4], pixel_values=PIXELS, attention_mask=MASK[:, :4], layout=model.flamingo.make_layout(
        IDS, attention_mask=MASK), use_cache=True)  # fmt: skip
    for column in (4, 5):
        output = model(
            IDS[:, column : column + 1],
            attention_mask=MASK[:, : column + 1],
            past_key_values=output.past_key_values,
            media=output.media,
        )
        torch.testing.assert_close(output.logits[:, 0], whole[:, column], atol=1e-5, rtol=1e-5)
    assert len(projected) == 1
    with pytest.raises(ValueError, match="media=output.media"):
        model(IDS[:, 5:], past_key_values=output.past_key_values)


@pytest.mark.usefixtures("without_shape_checks")
def test_ids_are_a_tensor(model):
    """With labels, without, and where a cache is wanted."""
    for more in ({}, {"labels": IDS}, {"use_cache": True}):
        with pytest.raises(TypeError, match="input_ids is a list, wanted a tensor of ids"):
            model(IDS.tolist(), pixel_values=PIXELS, **more)


def test_labels_give_the_loss(model):
    """Loss as the model inside gives it; logits beside it in eval mode or on request, not in training."""
    labels = IDS.masked_fill(MASK == 0, -100)
    given = {"pixel_values": PIXELS, "attention_mask": MASK, "labels": labels}
    expected = model.flamingo(IDS, pixels=PIXELS, attention_mask=MASK, labels=labels).loss
    output = model(IDS, **given)
    assert output.logits is not None
    torch.testing.assert_close(output.loss, expected)
    model.train()
    output = model(IDS, **given)
    assert output.logits is None
    torch.testing.assert_close(output.loss, expected)
    assert model(IDS, **given, return_logits=True).logits is not None
    # what `Trainer` asks for: the sum over labels, divided by those of the whole step
    counted = (labels[:, 1:] != -100) & (labels[:, 1:] != TAG)
    scaled = model(IDS, **given, num_items_in_batch=torch.tensor(30)).loss
    torch.testing.assert_close(scaled, expected * counted.sum() / 30)


def test_packed_documents_are_kept_apart(model):
    """`document` goes to the model inside, with labels and without."""
    ids, document = IDS[1:2], torch.tensor([[0, 0, 0, 1, 1, 1]])
    with torch.no_grad():
        packed = model(ids, pixel_values=PIXELS[:2], document=document).logits
        apart = model(ids[:, 3:], pixel_values=PIXELS[1:2]).logits
    torch.testing.assert_close(packed[:, 3:], apart, atol=1e-5, rtol=1e-5)
    assert model(ids, pixel_values=PIXELS[:2], document=document, labels=ids).loss.requires_grad


@pytest.mark.parametrize("beside", ["labels", "document"])
@pytest.mark.parametrize(
    "given",
    [
        {"past_key_values": DynamicCache()},
        {"position_ids": torch.arange(6)[None]},
        {"output_hidden_states": True},
        {"output_attentions": True},
        {"logits_to_keep": 1},
        {"shift_labels": IDS},
    ],
    ids=lambda given: next(iter(given)),
)
def test_nothing_is_dropped_beside_labels(model, given, beside):
    """What would not be used beside `labels` or `document` is refused by name; what says nothing may pass."""
    two = {"labels": IDS} if beside == "labels" else {"document": torch.zeros_like(IDS)}
    with pytest.raises(ValueError, match=f"{next(iter(given))} given together with labels or document"):
        model(IDS, pixel_values=PIXELS, attention_mask=MASK, **two, **given)
    idle = {"use_cache": True, "output_hidden_states": False, "output_attentions": None, "logits_to_keep": 0}
    expected = model(IDS, pixel_values=PIXELS, **two)
    output = model(IDS, pixel_values=PIXELS, **two, **idle)
    assert torch.equal(output.logits, expected.logits)


def test_only_ids_are_read(model):
    """Media tags stand in the ids: embeddings in their place are refused."""
    with pytest.raises(ValueError, match="input_ids is None"):
        model(inputs_embeds=torch.zeros(1, 2, 16))


def test_tables_are_those_of_the_language_model(model):
    """Embeddings and head are found, and keep their size: new tokens are rows beside them."""
    assert model.get_input_embeddings() is model.flamingo.lm.model.embed_tokens
    assert model.get_output_embeddings() is model.flamingo.lm.lm_head
    assert model.get_decoder() is model.flamingo.lm.model
    assert model.resize_token_embeddings(TAG + 2) is model.get_input_embeddings()
    with pytest.raises(ValueError, match="num_new_tokens="):
        model.resize_token_embeddings(TAG + 3)


def test_gradient_checkpointing_is_the_models_own(model):
    """It is switched by transformers' names, and changes neither loss nor gradients."""
    given = {"pixel_values": PIXELS, "attention_mask": MASK, "labels": IDS}

    def gradients():
        model.zero_grad()
        model(IDS, **given).loss.backward()
        return [weight.grad.clone() for weight in model.parameters() if weight.requires_grad]

    expected = gradients()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    assert model.is_gradient_checkpointing
    assert all(block.activation_checkpointing for block in model.flamingo.blocks.values())
    torch.testing.assert_close(gradients(), expected)
    model.gradient_checkpointing_disable()
    assert not model.is_gradient_checkpointing
