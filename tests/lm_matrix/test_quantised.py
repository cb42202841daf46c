"""Language models with weights in eight bits: those that pass gradients on train blocks, the others are refused."""

import copy

import pytest
import torch
from torch import Tensor, nn

from flamingo_blocks import Flamingo
from flamingo_blocks.errors import ConformanceError
from flamingo_blocks.testing import check_language_model
from tests.flamingos import EXAMPLE_ROWS, KNOWN_TAG, make_batch, make_flamingo
from tests.language_families import parametrised
from tests.language_models import make_language_model


class EightBitLinear(nn.Module):
    """Weights as integers with one factor a row, made floats again when they are used."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        scale = linear.weight.detach().abs().amax(1, keepdim=True) / 127
        self.register_buffer("scale", scale)
        self.register_buffer("weight", (linear.weight.detach() / scale).round().to(torch.int8))
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight.to(x.dtype) * self.scale.to(x.dtype), self.bias)


def in_eight_bits(lm: nn.Module, *, head: bool = False) -> nn.Module:
    """The model with its matrices exchanged, the head too if it is asked for."""
    for module in list(lm.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear and (head or child.out_features != 50):
                setattr(module, name, EightBitLinear(child))
    return lm


@parametrised(["llama", "opt", "qwen3"], in_every_run=["opt"])
def test_the_suite_takes_a_model_with_weights_in_eight_bits(name):
    """All abilities stay, training among them."""
    report = check_language_model(in_eight_bits(make_language_model(name)))
    assert set(report.holds.values()) == {"ok"}


def test_a_head_in_eight_bits_makes_all_logits():
    """Rows of new tokens and a loss in pieces want a head of floats; without them the model runs and trains."""
    lm = in_eight_bits(make_language_model("llama"), head=True)
    report = check_language_model(lm)
    assert {check for check in report.holds if not report.can(check)} <= {"new tokens", "loss in pieces"}
    assert not report.can("loss in pieces")


def dynamic(lm: nn.Module) -> nn.Module:
    """Torch's own dynamic quantisation, which is on its way out and says so."""
    return torch.ao.quantization.quantize_dynamic(lm, {nn.Linear}, dtype=torch.qint8)


pytestmark = pytest.mark.filterwarnings("ignore:.*(torch.ao.quantization|quantize_per_tensor).*")
has_engine = pytest.mark.skipif(
    torch.backends.quantized.engine in (None, "none"), reason="this build of torch has no kernels in eight bits"
)


def flamingo_around(lm: nn.Module, **options) -> Flamingo:
    flamingo = make_flamingo("llama", num_new_tokens=0, media_token_id=KNOWN_TAG, end_token_id=None, **options).float()
    blocks = {int(index): block for index, block in flamingo.blocks.items()}
    return Flamingo(
        lm=lm, blocks=blocks, media_token_id=KNOWN_TAG, vision=flamingo.vision, resampler=flamingo.resampler
    ).eval()


@has_engine
def test_closed_gates_on_dynamic_quantisation_are_the_model_bit_for_bit():
    """Attached to the quantised model; and taken off again."""
    batch = make_batch(EXAMPLE_ROWS[:1], 0, tag=KNOWN_TAG, dtype=torch.float32)
    lm = dynamic(make_language_model("llama"))
    expected = lm(batch.input_ids).logits
    flamingo = flamingo_around(lm, closed=True)
    assert torch.equal(flamingo(**batch.arguments()).logits, expected)
    assert torch.equal(flamingo.detach()(batch.input_ids).logits, expected)


@has_engine
def test_training_through_dynamic_quantisation_is_refused():
    """Only the residual would carry gradients, and they would be wrong; without gradients there is a loss."""
    batch = make_batch(EXAMPLE_ROWS[:1], 0, tag=KNOWN_TAG, dtype=torch.float32)
    flamingo = flamingo_around(dynamic(make_language_model("llama")))
    with pytest.raises(
        ValueError, match="LlamaForCausalLM has quantised layers of torch.ao, which pass no gradient on"
    ):
        flamingo(**batch.arguments(), labels=batch.input_ids)
    with torch.no_grad():
        quantised = flamingo(**batch.arguments(), labels=batch.input_ids).loss
        exact = flamingo_around(make_language_model("llama"))(**batch.arguments(), labels=batch.input_ids).loss
    torch.testing.assert_close(quantised, exact, atol=0.2, rtol=0.0)


@has_engine
def test_the_suite_says_what_dynamic_quantisation_breaks():
    """Its activations share one scale in a call, so later words and other rows move logits: more than rounding."""
    lm = dynamic(make_language_model("llama"))
    with pytest.raises(ConformanceError, match="causality: .*\n  rows are apart"):
        check_language_model(copy.deepcopy(lm))
    report = check_language_model(lm, bound=0.15)
    assert not report.can("training") and "pass no gradient on" in report.holds["training"]
