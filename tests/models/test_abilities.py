"""Pads and caches that a model gets wrong: seen once, refused or not used, and never paid for twice."""

import pytest
import torch
from torch import Tensor, nn
from torch.testing._internal.distributed.fake_pg import FakeStore

from flamingo_blocks.models import PaperLanguageModel
from flamingo_blocks.models.abilities import goes_on_from_cache, refuse_misread_pads
from flamingo_blocks.models.output_head import proven_head
from tests.flamingos import PAD, TAG, TEXT, close, make_batch, make_flamingo
from tests.language_models import DIM, VOCAB, make_language_model

LEFT = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
INNER = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 1]])
RIGHT = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
IDS = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 10]])


class ReadsPads(PaperLanguageModel):
    """Takes a mask and does not look at it."""

    def __init__(self, times: int = 1) -> None:
        super().__init__(vocab_size=VOCAB, dim=DIM, depth=2, num_heads=4)
        self.calls = 0

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        self.calls += 1
        return super().forward(input_ids)


def float32(name: str, **options):
    return make_flamingo(name, lm=make_language_model(name), **options).float()


@pytest.mark.parametrize("call", ["forward", "prefill", "generate", "score"])
def test_pads_that_the_model_reads_are_refused_wherever_they_come(call):
    """On the left, and between words; the error names the model and a way out."""
    flamingo = make_flamingo("paper", lm=ReadsPads())
    more = {"score": dict(candidates=[[3]]), "generate": dict(max_new_tokens=1)}.get(call, {})
    message = "has pads {} a text, and ReadsPads does not skip those"
    with pytest.raises(ValueError, match=message.format("left of") + ".*pad on the right"):
        getattr(flamingo, call)(IDS, attention_mask=LEFT, **more)
    with pytest.raises(ValueError, match=message.format("between the words of") + ".*run each row alone"):
        getattr(flamingo, call)(IDS, attention_mask=INNER, **more)
    if call in ("forward", "prefill"):
        getattr(flamingo, call)(IDS, attention_mask=RIGHT)
    getattr(flamingo, call)(IDS, attention_mask=torch.ones_like(IDS), **more)


def test_a_query_padded_behind_a_prompt_is_refused_by_models_that_only_grow():
    """Its pads stand between words of the whole text; a batch of one length runs."""
    flamingo = float32("mamba2")
    prompt = flamingo.prefill(IDS[:1])
    with pytest.raises(ValueError, match="pads between the words of a text, and Mamba2ForCausalLM does not skip those"):
        flamingo(IDS, attention_mask=LEFT, prompt=prompt)
    whole = flamingo(torch.cat([IDS[:1].repeat(2, 1), IDS], 1)).logits
    torch.testing.assert_close(flamingo(IDS, prompt=prompt).logits, whole[:, 4:], atol=1e-4, rtol=1e-4)


def test_a_model_is_looked_at_when_it_matters_and_once():
    """No pads, no look; right pads neither; the first left pads cost a few short calls, those after them none."""
    flamingo = make_flamingo("paper", lm=ReadsPads())
    lm = flamingo.lm
    for mask in (None, torch.ones_like(IDS), RIGHT, RIGHT * 0):
        flamingo(IDS, attention_mask=mask)
    assert lm.calls == 4
    for _ in range(2):
        with pytest.raises(ValueError, match="does not skip those"):
            flamingo(IDS, attention_mask=LEFT)
        assert lm.calls == 7


def test_models_that_skip_pads_are_trusted_from_then_on():
    """A look at a good model changes nothing: not its mode, not its outputs, not the random numbers that follow."""
    flamingo = make_flamingo("gpt2", freeze=False).train()
    torch.manual_seed(0)
    before = torch.rand(1)
    torch.manual_seed(0)
    refuse_misread_pads(flamingo, LEFT)
    assert torch.equal(torch.rand(1), before)
    assert flamingo._abilities.left_pads is True and flamingo._abilities.inner_pads is None
    assert all(module.training for module in flamingo.lm.modules())


def test_a_model_that_runs_no_plain_text_says_so_itself():
    """Its own error is no finding about pads."""

    class Broken(ReadsPads):
        def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
            message = "no kernel for this device"
            raise ZeroDivisionError(message)

    with pytest.raises(ZeroDivisionError, match="no kernel"):
        make_flamingo("paper", lm=Broken())(IDS, attention_mask=LEFT)


@pytest.fixture
def two_processes():
    """This process is the first of two, of which the other runs nothing."""
    torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("two_processes")
def test_one_process_of_several_looks_only_when_it_is_told():
    """A call that takes part of the others would wait for ever; told to all, it is looked at, and believed."""
    flamingo = make_flamingo("paper", lm=ReadsPads())
    flamingo(IDS, attention_mask=LEFT)
    assert flamingo.lm.calls == 1 and goes_on_from_cache(float32("jamba"))
    flamingo.look_at_language_model()
    calls = flamingo.lm.calls
    with pytest.raises(ValueError, match="does not skip those"):
        flamingo(IDS, attention_mask=LEFT)
    hybrid = float32("jamba")
    hybrid.look_at_language_model()
    assert flamingo.lm.calls == calls and not goes_on_from_cache(hybrid)


@pytest.mark.usefixtures("two_processes")
def test_what_was_seen_before_the_model_was_sharded_is_believed():
    """Nobody can look again, so it is not forgotten, though the weights are others."""
    flamingo = make_flamingo("paper", lm=ReadsPads())
    flamingo.look_at_language_model()
    flamingo.lm.register_buffer("of_the_shards", torch.zeros(1))
    with pytest.raises(ValueError, match="does not skip those"):
        flamingo(IDS, attention_mask=LEFT)


def test_a_model_whose_weights_deepspeed_keeps_is_not_looked_at():
    """Each of its calls takes part of all processes; its head is not read outside a call."""
    flamingo = make_flamingo("paper", lm=ReadsPads())
    for number, weight in enumerate(flamingo.lm.parameters()):
        weight.ds_id = number
    flamingo(IDS, attention_mask=LEFT)
    assert flamingo.lm.calls == 1 and proven_head(flamingo) is None


def adapted(lm: nn.Module) -> None:
    lm.layers[0].add_module("adapter", nn.Linear(DIM, 2))


def quantised(lm: nn.Module) -> None:
    lm.layers[0].register_buffer("scale", torch.ones(1))


def other_attention(lm: nn.Module) -> None:
    lm.config._attn_implementation = "eager"


@pytest.mark.parametrize("change", [adapted, quantised, other_attention])
def test_a_model_that_was_changed_is_looked_at_again(change):
    """What was seen of its pads, its cache, its gradients and its packed rows is forgotten, and only then."""
    flamingo = make_flamingo("llama", freeze=False)
    if change is not other_attention:
        flamingo.lm.layers = flamingo.lm.model.layers
    document = torch.tensor([[0, 0, 1, 1]])
    flamingo(IDS, attention_mask=LEFT)
    flamingo(IDS[:1], document=document)
    seen = flamingo._abilities
    assert seen.left_pads and seen.documents and seen.cache is None
    assert goes_on_from_cache(flamingo) and flamingo._abilities is seen
    change(flamingo.lm)
    assert goes_on_from_cache(flamingo)
    assert flamingo._abilities.left_pads is None and flamingo._abilities.documents is None


@pytest.mark.parametrize("name", ["jamba", "qwen3_next", "bamba"])
def test_a_cache_that_cannot_go_on_is_not_used(name):
    """Prompts of hybrid models run their text again, and are right."""
    flamingo = float32(name)
    assert not goes_on_from_cache(flamingo)
    batch = make_batch(((TEXT, TAG, TEXT, TEXT, TAG, TEXT),), 0, dtype=torch.float32)
    prompt = flamingo.prefill(**batch.columns(0, 2).arguments())
    assert prompt.cache is None
    prompt = flamingo.prefill(**batch.columns(2, 5).arguments(), prompt=prompt)
    logits = flamingo(**batch.columns(5).arguments(), prompt=prompt).logits
    torch.testing.assert_close(logits, flamingo(**batch.arguments()).logits[:, 5:], atol=1e-4, rtol=1e-4)


def test_a_good_cache_is_kept():
    """Of keys and values, windows among them."""
    for name in ("llama", "gemma3", "mpt", "falcon_alibi"):
        flamingo = float32(name)
        assert goes_on_from_cache(flamingo) and flamingo.prefill(IDS[:1]).cache is not None


class Forgetful(nn.Module):
    """A model of transformers that drops all but the last token of what it cached."""

    def __init__(self, lm: nn.Module) -> None:
        super().__init__()
        self.lm = lm

    def forward(self, input_ids, attention_mask=None, past_key_values=None, use_cache=None):
        if past_key_values is not None:
            past_key_values.crop(1)
            attention_mask = None
        return self.lm(input_ids, attention_mask=attention_mask, past_key_values=past_key_values, use_cache=use_cache)


def test_a_forgetful_cache_is_found_out():
    """Wrong numbers, no error: the prompt runs without that cache."""
    flamingo = make_flamingo(
        "llama", lm=Forgetful(make_language_model("llama")), embedding="lm.model.embed_tokens", head="lm.lm_head"
    )
    assert not goes_on_from_cache(flamingo)
    prompt = flamingo.prefill(IDS)
    close(flamingo(IDS, prompt=prompt).logits, flamingo(torch.cat([IDS, IDS], 1)).logits[:, 4:], "llama")


def test_beams_of_states_that_stay_behind_run_without_them():
    """In transformers 5.0 beams change places and the states of Mamba do not."""
    flamingo = float32("mamba")
    for seed in range(3):
        batch = make_batch(((TEXT, TAG, TEXT), (TEXT, TEXT, TAG)), seed, dtype=torch.float32)
        arguments = dict(max_new_tokens=8, num_beams=4, eos_token_id=None)
        expected = flamingo.generate(**batch.arguments(), **arguments, use_cache=False)
        assert torch.equal(flamingo.generate(**batch.arguments(), **arguments), expected)


@pytest.mark.parametrize("num_text", [1, 2, 3, 4, 5])
def test_a_short_text_goes_on_as_it_does_without_states(num_text):
    """Mamba of transformers 5.0 shifts the states that it makes of a text shorter than its convolution of four."""
    flamingo = float32("mamba")
    batch = make_batch(((TEXT, TEXT, TAG, TEXT, TEXT)[:num_text],), 0, dtype=torch.float32)
    arguments = dict(max_new_tokens=4, do_sample=False, eos_token_id=None)
    expected = flamingo.generate(**batch.arguments(), **arguments, use_cache=False)
    assert torch.equal(flamingo.generate(**batch.arguments(), **arguments), expected)


def test_pads_in_a_batch_of_mamba_are_skipped_or_refused():
    """What the newest transformers skips on the left is skipped here."""
    from tests.language_families import FAMILIES

    flamingo = float32("mamba2")
    batch = make_batch(((PAD, PAD, TEXT, TAG, TEXT), (TEXT, TAG, TEXT, TAG, TEXT)), 0, dtype=torch.float32)
    if not FAMILIES["mamba2"].can("left pads"):
        with pytest.raises(ValueError, match="pads left of a text, and Mamba2ForCausalLM does not skip those"):
            flamingo(**batch.arguments())
        return
    logits = flamingo(**batch.arguments()).logits
    torch.testing.assert_close(logits[0, 2:], flamingo(**batch.row(0).arguments()).logits[0], atol=1e-4, rtol=1e-4)
