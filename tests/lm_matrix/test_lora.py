"""Low-rank adapters of PEFT in the language model, put in before the blocks or after them."""

import warnings

import peft
import pytest
import torch
from torch import Tensor, nn

from flamingo_blocks import Flamingo
from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.testing import check_language_model
from tests.flamingos import EXAMPLE_ROWS, KNOWN_TAG, NEW_TAG, make_batch, make_flamingo
from tests.language_models import make_language_model

WITHOUT_CAUSE = ("ignore", ".*fan_in_fan_out.*")  # GPT-2 keeps its matrices turned; PEFT sees that and says so


def with_adapters(lm: nn.Module, *, targets: str = "all-linear", seed: int = 5) -> nn.Module:
    """Adapters of drawn weights, so that they are felt, in the dtype of the model."""
    dtype = next(lm.parameters()).dtype
    with warnings.catch_warnings():
        warnings.filterwarnings(*WITHOUT_CAUSE)
        adapted = peft.get_peft_model(lm, peft.LoraConfig(r=2, target_modules=targets, task_type="CAUSAL_LM"))
    noise = torch.Generator().manual_seed(seed)
    for weight in adapters_of(adapted).values():
        weight.data = weight.data.to(dtype).normal_(generator=noise, std=0.3)
    return adapted.eval()


def adapters_of(lm: nn.Module) -> dict[str, nn.Parameter]:
    return {name: weight for name, weight in lm.named_parameters() if "lora_" in name}


def adapted_flamingo(name: str, order: str, **options) -> Flamingo:
    """A Flamingo around an adapted model; `freeze=False` leaves what PEFT decided, and the tower is frozen by hand."""
    lm = make_language_model(name).double()
    lm = with_adapters(lm) if order == "before" else lm
    flamingo = make_flamingo(name, lm=lm, freeze=False, **options)
    flamingo.vision.requires_grad_(False)
    if order == "after":
        with_adapters(flamingo.lm)
    return flamingo


orders = pytest.mark.parametrize("order", ["before", "after"])


@orders
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_closed_gates_are_the_adapted_model_bit_for_bit(name, order):
    """And it is not the model without adapters."""
    batch = make_batch(EXAMPLE_ROWS[:1], 0, tag=KNOWN_TAG)
    lm = make_language_model(name).double()
    bare = lm(batch.input_ids).logits
    expected = with_adapters(lm)(batch.input_ids).logits
    flamingo = adapted_flamingo(name, order, closed=True, num_new_tokens=0, media_token_id=KNOWN_TAG, end_token_id=None)
    logits = flamingo(**batch.arguments()).logits
    assert torch.equal(logits, expected) and not torch.allclose(logits, bare)


@orders
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_adapters_train_beside_the_blocks_and_the_base_does_not(name, order):
    """One step moves adapters, blocks, resampler and new rows, and nothing else."""
    flamingo = adapted_flamingo(name, order)
    batch = make_batch(EXAMPLE_ROWS, 0)
    before = {key: weight.detach().clone() for key, weight in flamingo.named_parameters()}
    optimiser = torch.optim.SGD(flamingo.trained_parameters().values(), lr=0.1)
    flamingo(**batch.arguments(), labels=batch.input_ids).loss.backward()
    optimiser.step()
    moved = {key for key, weight in flamingo.named_parameters() if not torch.equal(weight, before[key])}
    parts = {"adapter" if "lora_" in key else key.partition(".")[0] for key in moved}
    assert parts == {"adapter", "blocks", "resampler", "token_rows"}
    assert {key for key in moved if "lora_" in key} == set(adapters_of(flamingo))


@orders
def test_an_adapted_flamingo_generates_with_prompts_and_beams(order):
    """As the same model with the adapters merged into its weights."""
    flamingo = adapted_flamingo("llama", order)
    merged = make_flamingo("llama", lm=with_adapters(make_language_model("llama").double()).merge_and_unload())
    batch = make_batch((EXAMPLE_ROWS[0],), 0)
    for way in ({}, {"num_beams": 2}):
        arguments = dict(max_new_tokens=4, eos_token_id=None, **way)
        expected = merged.generate(**batch.arguments(), **arguments)
        assert torch.equal(flamingo.generate(**batch.arguments(), **arguments), expected)
        prompt = flamingo.prefill(**batch.columns(0, 3).arguments())
        assert torch.equal(flamingo.generate(**batch.columns(3).arguments(), prompt=prompt, **arguments), expected)


def logits_of(flamingo: Flamingo) -> Tensor:
    return flamingo(**make_batch(EXAMPLE_ROWS, 0).arguments()).logits


def test_adapters_are_saved_with_what_was_trained(tmp_path):
    """A saved model holds them; loading wants the adapted model again, with any adapter weights, and the same base."""
    flamingo = adapted_flamingo("llama", "before")
    flamingo.save_pretrained(tmp_path)
    loaded = Flamingo.from_pretrained(
        tmp_path, lm=with_adapters(make_language_model("llama").double(), seed=6), vision=flamingo.vision
    )
    assert torch.equal(logits_of(loaded), logits_of(flamingo))
    assert adapters_of(loaded) and all(weight.requires_grad for weight in adapters_of(loaded).values())
    with pytest.raises(CheckpointError, match="lm is not the one this model was trained with"):
        Flamingo.from_pretrained(tmp_path, lm=make_language_model("llama").double(), vision=flamingo.vision)
    other = make_language_model("llama").double()
    other.model.norm.weight.data.add_(1)
    with pytest.raises(CheckpointError, match="lm is not the one this model was trained with"):
        Flamingo.from_pretrained(tmp_path, lm=with_adapters(other), vision=flamingo.vision)


def test_detaching_gives_the_adapted_model_back():
    """And merging its adapters afterwards gives a plain model."""
    batch = make_batch(EXAMPLE_ROWS[:1], 0, tag=KNOWN_TAG)
    flamingo = adapted_flamingo("llama", "before")
    with flamingo.attachment.without_media():
        flamingo.token_rows.detach()
        expected = flamingo.lm(batch.input_ids).logits
    lm = flamingo.detach()
    assert torch.equal(lm(batch.input_ids).logits, expected)
    torch.testing.assert_close(lm.merge_and_unload()(batch.input_ids).logits, expected)
    assert expected.shape[-1] == NEW_TAG


def test_the_suite_takes_an_adapted_model():
    """With every ability that the model has without adapters."""
    report = check_language_model(with_adapters(make_language_model("llama")))
    assert set(report.holds.values()) == {"ok"}
