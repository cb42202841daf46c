"""The suite for language models finds planted faults, and gives the model back as it was."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from flamingo_blocks.errors import ConformanceError, LayersNotFoundError
from flamingo_blocks.testing import LanguageModelReport, check_language_model
from tests.language_models import DIM, VOCAB, PlainDecoder, draw_weights, make_language_model


def broken(cls: type[nn.Module]) -> nn.Module:
    return draw_weights(cls())


class LooksAhead(PlainDecoder):
    """A mean over all tokens, later ones too."""

    def embed(self, input_ids: Tensor) -> Tensor:
        x = super().embed(input_ids)
        return x + 0.1 * x.mean(1, keepdim=True)


class MixesRows(PlainDecoder):
    """Normed over the batch."""

    def embed(self, input_ids: Tensor) -> Tensor:
        x = super().embed(input_ids)
        return x - 0.1 * x.mean(0, keepdim=True)


class Restless(PlainDecoder):
    """Dropout that eval mode does not reach."""

    def embed(self, input_ids: Tensor) -> Tensor:
        return torch.nn.functional.dropout(super().embed(input_ids), 0.1, training=True)


class SkipsALayer(PlainDecoder):
    """The last layer is in the list and does not run."""

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.head(self.layers[0](self.embed(input_ids)))


class IgnoresALayer(PlainDecoder):
    """The second layer runs, and what it gives is thrown away."""

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.layers[0](self.embed(input_ids))
        self.layers[1](x)
        return self.head(x)


class NoGrad(PlainDecoder):
    """Runs its layers without a graph."""

    def forward(self, input_ids: Tensor) -> Tensor:
        with torch.no_grad():
            return super().forward(input_ids)


class PartlyWithoutGrad(PlainDecoder):
    """Layers whose own part passes no gradient on, as kernels for inference; the residual does."""

    def __init__(self) -> None:
        super().__init__()
        for layer in self.layers:
            layer.qkv.forward = torch.no_grad()(layer.qkv.forward)


class LeavesAHook(PlainDecoder):
    """Puts a hook of its own on a layer where it sees others."""

    def forward(self, input_ids: Tensor) -> Tensor:
        if self.layers[0]._forward_pre_hooks:
            self.layers[0].register_forward_hook(lambda *_: None)
        return super().forward(input_ids)


class CastsBehindHooks(PlainDecoder):
    """Rounds what enters its layers when hooks are there."""

    def embed(self, input_ids: Tensor) -> Tensor:
        x = super().embed(input_ids)
        return x.bfloat16().to(x.dtype) if self.layers[0]._forward_pre_hooks else x


MUST = {
    LooksAhead: "causality: with other words from 1 on, those before",
    MixesRows: "rows are apart: row 0 in a batch, against the row alone: the logits differ by",
    Restless: "the same logits twice: two calls with the same text",
    SkipsALayer: r"calls its layers 'layers' in the order \[0\], wanted each of the 2 once",
    IgnoresALayer: "every block is felt: with the block before layer 1 closed",
    NoGrad: "training: the gradient of 0.attention.norm.weight is None",
    PartlyWithoutGrad: "training: logits depend on an image through the model's own layers, and no gradient",
    LeavesAHook: "attach and detach: after detach the model has other",
    CastsBehindHooks: "closed gates: blocks with closed gates change the logits by",
}


@pytest.mark.parametrize("fault", MUST, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_found(fault):
    """What must hold, and what a model does wrong without an error, is an error of the suite."""
    with pytest.raises(ConformanceError, match=MUST[fault]):
        check_language_model(broken(fault), require=["training"])


class Masked(nn.Module):
    """A model of transformers, with something wrong in what it does with its arguments."""

    def __init__(self, name: str = "llama") -> None:
        super().__init__()
        self.lm = make_language_model(name)
        self.config = self.lm.config

    def get_input_embeddings(self) -> nn.Module:
        return self.lm.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Module:
        return self.lm.get_output_embeddings()

    def forward(self, input_ids, attention_mask=None, position_ids=None, past_key_values=None, use_cache=None):
        return self.lm(
            input_ids, attention_mask=attention_mask, position_ids=position_ids, past_key_values=past_key_values,
            use_cache=use_cache,
        )  # fmt: skip


class WrongPads(Masked):
    """Skips pads in short texts only, so that a look of a few tokens does not find it."""

    def forward(self, input_ids, attention_mask=None, **arguments):
        wrong = attention_mask is not None and attention_mask.ndim == 2 and len(attention_mask) > 1
        return super().forward(input_ids, None if wrong else attention_mask, **arguments)


class WrongCache(Masked):
    """Forgets its first token as soon as three are cached in two rows."""

    def forward(self, input_ids, attention_mask=None, past_key_values=None, use_cache=None, **arguments):
        if past_key_values is not None and attention_mask is not None and len(attention_mask) == 2:
            attention_mask = attention_mask.clone()
            attention_mask[:, 0] = attention_mask.shape[1] < 6
        cached = {"past_key_values": past_key_values, "use_cache": use_cache}
        return super().forward(input_ids, attention_mask, **cached, **arguments)


class WrongGenerate(Masked):
    """Generates one word, always."""

    def generate(self, input_ids, *, attention_mask, max_new_tokens, **more):
        return torch.cat([input_ids, torch.full((len(input_ids), max_new_tokens), 3)], 1)


class WrongHead(Masked):
    """Caps its logits from the second row on."""

    def forward(self, input_ids, **arguments):
        out = super().forward(input_ids, **arguments)
        factor = torch.ones(len(out.logits), 1, 1)
        factor[1:] = 1.5
        return SimpleNamespace(logits=out.logits * factor, past_key_values=out.past_key_values)


SILENT = {
    WrongPads: "left pads: a row with two pads on its left: the logits differ by",
    WrongCache: "cached prompts: tokens 5 to 5 behind a prompt: the logits differ by",
    WrongGenerate: "generate: a generated token is less likely than another by",
    WrongHead: "rows are apart: row 1 in a batch",
}


@pytest.mark.parametrize("fault", SILENT, ids=lambda fault: fault.__name__)
def test_wrong_numbers_without_an_error_fail_the_suite(fault):
    """Such a model could be trusted with nothing, so this is no mere `no` in the report."""
    with pytest.raises(ConformanceError, match=SILENT[fault]):
        check_language_model(fault())


def test_every_finding_is_in_the_message():
    """Not the first one alone, and under the name of the model."""

    class Both(LooksAhead, MixesRows):
        pass

    with pytest.raises(ConformanceError, match="Both fails . of the checks:") as caught:
        check_language_model(broken(Both))
    assert "causality" in str(caught.value) and "rows are apart" in str(caught.value)


def test_what_is_required_must_hold():
    """A refusal is in the report, unless the caller needs it."""
    lm = make_language_model("plain")
    assert not check_language_model(lm).can("left pads")
    with pytest.raises(ConformanceError, match="left pads: attention_mask has pads before real tokens, but PlainDecod"):
        check_language_model(lm, require=["left pads", "generate"])
    with pytest.raises(ValueError, match=r"require names \['flying'\], wanted some of left pads, .*prompt look-up"):
        check_language_model(lm, require=["flying"])


def test_layers_that_are_not_found_can_be_named():
    """The error of the search passes through."""
    lm = nn.Sequential(nn.Embedding(VOCAB, DIM), nn.Linear(DIM, VOCAB))
    with pytest.raises(LayersNotFoundError, match="no nn.ModuleList in Sequential could be its decoder layers"):
        check_language_model(lm)
    assert check_language_model(make_language_model("plain"), layers="layers", head="head").layers == "layers"


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_given_back_as_it_was(training):
    """Modes, gradients, hooks, weights and the stream of random numbers."""
    lm = make_language_model("llama").train(training)
    lm.model.embed_tokens.requires_grad_(False)
    flags = [weight.requires_grad for weight in lm.parameters()]
    weights = [weight.clone() for weight in lm.parameters()]
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    check_language_model(lm)
    assert torch.equal(torch.rand(1), expected)
    assert all(module.training == training for module in lm.modules())
    assert [weight.requires_grad for weight in lm.parameters()] == flags
    assert all(map(torch.equal, lm.parameters(), weights))
    assert all(weight.grad is None for weight in lm.parameters())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in lm.modules())


def test_no_other_device_is_seeded():
    """A GPU that starts after the check draws what it would have drawn."""
    torch.cuda.manual_seed_all(7)
    waiting = torch.cuda._lazy_seed_tracker.get_calls()
    check_language_model(make_language_model("plain"))
    assert torch.cuda._lazy_seed_tracker.get_calls() == waiting


def test_a_model_in_low_precision_has_a_bound_of_its_own():
    """bfloat16 rounds; the bound can be set as well."""
    lm = make_language_model("llama").bfloat16()
    assert check_language_model(lm).can("cached prompts")
    with pytest.raises(ConformanceError, match="bound 1e-09"):
        check_language_model(lm, bound=1e-9)


def test_a_report_reads_as_a_table():
    """One line a check, names first."""
    report = LanguageModelReport("model.layers", 2, 32, {"left pads": "ok", "beams": "none"})
    assert str(report).splitlines() == ["model.layers: 2 layers of width 32", "  left pads   ok", "  beams       none"]
    assert report.can("left pads") and not report.can("beams")


class OfEncoderLayers(nn.Module):
    """A causal model of torch's own layers, which torch runs another way as long as they hold no hook."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(40, 16), nn.Linear(16, 40)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True) for _ in range(2)
        )

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.embedding(input_ids)
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        for layer in self.layers:
            x = layer(x, src_mask=mask, is_causal=True)
        return self.head(x)


def test_layers_of_torch_pass():
    """Their fast path is off while they are compared, and on again afterwards."""
    report = check_language_model(broken(OfEncoderLayers))
    assert report.num_layers == 2 and report.can("training")
    assert torch.backends.mha.get_fastpath_enabled()
