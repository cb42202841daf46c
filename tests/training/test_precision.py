"""What is stored in which dtype, and which parts of a model that trains stay in eval mode."""

import pytest
import torch
from torch import nn

from flamingo_blocks.models import build_tiny_flamingo
from flamingo_blocks.training.ranks.precision import prepare_precision
from flamingo_blocks.vision import CallableTower
from tests.flamingos import EXAMPLE_ROWS, make_batch, make_flamingo
from tests.language_models import make_language_model


def test_frozen_weights_are_narrow_and_trained_ones_wide():
    """Of every part, whatever they were before; a tied head stays tied."""
    model = build_tiny_flamingo().double()
    prepare_precision(model)
    for name, parameter in model.named_parameters():
        assert parameter.dtype == (torch.float32 if parameter.requires_grad else torch.bfloat16), name
    assert model.lm.head.weight is model.lm.embedding.weight
    prepare_precision(model, torch.float16)
    assert model.vision.encoder.weight.dtype == torch.float16


def test_a_model_in_mixed_precision_trains():
    """Without shards too: the loss is near that in float32, and gradients are float32."""
    ids, pixels = torch.tensor([[1, 32, 5, 6]]), torch.ones(1, 1, 3, 8, 8)
    expected = build_tiny_flamingo()(ids, pixels=pixels, labels=ids).loss
    model = build_tiny_flamingo()
    prepare_precision(model)
    loss = model(ids, pixels=pixels, labels=ids).loss
    loss.backward()
    torch.testing.assert_close(loss.float(), expected, rtol=0.03, atol=0.03)
    assert {p.grad.dtype for p in model.trained_parameters().values()} == {torch.float32}


def test_saved_buffers_of_frozen_parts_are_narrow_and_computed_ones_are_not():
    """Frequencies of rotary positions would lose what tells far positions apart."""
    tower = nn.Sequential(nn.Conv2d(3, 16, 4, stride=4), nn.BatchNorm2d(16))
    llama = make_language_model("llama")
    model = make_flamingo("llama", lm=llama, vision=CallableTower(tower, image_size=8))
    prepare_precision(model)
    assert tower[1].running_mean.dtype == torch.bfloat16
    assert tower[1].num_batches_tracked.dtype == torch.int64
    kept = [buffer.dtype for name, buffer in llama.named_buffers() if "inv_freq" in name]
    assert kept and torch.bfloat16 not in kept
    batch = make_batch(EXAMPLE_ROWS, 0, dtype=torch.float32)
    assert model(**batch.arguments(), labels=batch.input_ids).loss.isfinite()


def test_quantised_weights_stay_as_they_are():
    """Their numbers are no floating ones."""
    model = nn.Module()
    model.codes = nn.Parameter(torch.zeros(2, dtype=torch.uint8), requires_grad=False)
    prepare_precision(model)
    assert model.codes.dtype == torch.uint8


def test_frozen_parts_stay_in_eval_mode():
    """Whatever is said of training; what trains follows."""
    model = build_tiny_flamingo().train()
    prepare_precision(model)
    for mode in (True, False, True):
        model.train(mode)
        assert not any(module.training for part in (model.lm, model.vision) for module in part.modules())
        assert all(module.training == mode for part in (model.blocks, model.resampler) for module in part.modules())


@pytest.mark.parametrize("saved", [None, ["ln_f"]])
def test_adapters_train_in_a_frozen_language_model(saved):
    """Their dropout runs, and that of the model around them does not; so with modules that are trained as copies."""
    import peft

    lm = make_language_model("gpt2")
    config = peft.LoraConfig(
        r=2, lora_dropout=0.5, target_modules=["c_attn"], modules_to_save=saved, fan_in_fan_out=True
    )
    model = make_flamingo("gpt2", lm=peft.get_peft_model(lm, config), freeze=False)
    model.vision.requires_grad_(False)
    prepare_precision(model.train())
    for mode in (True, False, True):
        model.train(mode)
        for name, module in model.lm.named_modules():
            own = "lora_" in name or ".modules_to_save" in name
            around = hasattr(module, "base_layer") or hasattr(module, "original_module")
            assert module.training == (mode and (own or around)), name
    assert {p.dtype for name, p in model.named_parameters() if "lora_" in name} == {torch.float32}


def test_a_language_model_that_trains_is_left_in_training_mode():
    """With weights of its own that train, adapters or not."""
    model = build_tiny_flamingo()
    model.lm.layers[1].o_proj.weight.requires_grad_()
    assert all(module.training for module in model.train().lm.modules())


def test_no_floating_dtype_is_refused():
    """The message says what is wanted."""
    with pytest.raises(ValueError, match=r"dtype is torch\.int8, wanted a floating one"):
        prepare_precision(nn.Linear(1, 1), torch.int8)
