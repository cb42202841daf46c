"""The loss without the logits of all tokens: where it is taken, what it saves, and where all are made after all."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from flamingo_blocks.lm import attach_token_rows
from flamingo_blocks.models.output_head import proven_head
from tests.flamingos import EXAMPLE_ROWS, NEW_TAG, close, make_batch, make_flamingo
from tests.language_models import DIM, NAMES, VOCAB, PlainDecoder, draw_weights, make_language_model
from tests.shapes import Shapes

IDS = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 3]])


def gradients(flamingo, loss):
    names, weights = zip(*flamingo.trained_parameters().items(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, weights), strict=True))


def assert_same_loss(flamingo, name="plain", **given):
    """With and without logits beside it, in value and in every gradient."""
    both, alone = flamingo(**given, return_logits=True), flamingo(**given)
    assert alone.logits is None
    close(alone.loss, both.loss, name)
    expected = gradients(flamingo, both.loss)
    for key, actual in gradients(flamingo, alone.loss).items():
        close(actual, expected[key], name)


@pytest.mark.parametrize("name", (*NAMES, "paper"))
@pytest.mark.parametrize("freeze", [True, False])
def test_the_loss_is_that_of_all_logits(name, freeze):
    """Around each language model, frozen or trained, padded on either side; and its head is one to be trusted."""
    flamingo, batch = make_flamingo(name, freeze=freeze), make_batch(EXAMPLE_ROWS, 0)
    given = batch.arguments()
    if name == "plain":
        del given["attention_mask"]
    assert_same_loss(flamingo, name, **given, labels=batch.input_ids)
    assert proven_head(flamingo) is not None


@pytest.mark.parametrize("name", ["gpt2", "plain"])
def test_the_loss_behind_a_prompt_is_that_of_the_new_tokens(name):
    """With a cache, and with the whole text run again for want of one."""
    flamingo, batch = make_flamingo(name), make_batch((EXAMPLE_ROWS[0],), 0)
    prompt = flamingo.prefill(**batch.columns(0, 3).arguments())
    new = batch.columns(3)
    assert_same_loss(flamingo, name, **new.arguments(), prompt=prompt, labels=new.input_ids)


def test_the_loss_of_packed_documents_is_that_of_all_logits():
    """First tokens of documents count in neither."""
    document = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 1]])
    assert_same_loss(make_flamingo("gpt2"), "gpt2", input_ids=IDS, document=document, labels=IDS)


def test_logits_of_all_tokens_never_exist():
    """Neither as a whole nor flattened, forward and backward; on request they do."""
    flamingo = make_flamingo("plain")
    ids = torch.arange(3, 39).reshape(2, 18)
    labels = ids.clone()
    labels[:, 8:] = -100
    flamingo(ids, labels=ids)  # shows the head
    large = {(2, 18, VOCAB), (2, 18, VOCAB + 2), (36, VOCAB), (36, VOCAB + 2), (34, VOCAB + 2)}
    with Shapes() as alone:
        flamingo(ids, labels=labels).loss.backward()
    assert not alone.seen & large
    with Shapes() as both:
        flamingo(ids, labels=labels, return_logits=True).loss.backward()
    assert both.seen & large


def test_the_head_is_shown_once():
    """Its proof is a short text at the first call with labels, and none later."""
    flamingo = make_flamingo("plain")
    calls = []
    flamingo.lm.register_forward_pre_hook(lambda module, args: calls.append(args[0].shape[1]))
    flamingo(IDS)
    assert calls == [4]
    for _ in range(2):
        flamingo(IDS, labels=IDS)
    assert calls == [4, 3, 3, 4, 4]


class ScaledHead(PlainDecoder):
    def forward(self, input_ids):
        return super().forward(input_ids) / 8


class CappedHead(PlainDecoder):
    def forward(self, input_ids):
        return 50 * torch.tanh(super().forward(input_ids) / 50)


class WholeRowHead(PlainDecoder):
    """Makes something of all columns of its logits."""

    def forward(self, input_ids):
        logits = super().forward(input_ids)
        return logits - torch.zeros(logits.shape[0], input_ids.shape[1], 1).to(logits)


class OwnHead(nn.Linear):
    """A head that keeps its weight in another form, as quantised ones do."""

    def forward(self, x):
        return F.linear(x, self.weight.round(decimals=1))


class WrappedHead(nn.Module):
    """A head with an adapter beside it."""

    def __init__(self, base):
        super().__init__()
        self.base, self.weight = base, base.weight

    def forward(self, x):
        return self.base(x) + x.mean(-1, keepdim=True) * self.weight[:, 0]


def with_head(make):
    lm = make_language_model("plain")
    lm.head = make(lm.head)
    return lm


NO_ROWS = {"num_new_tokens": 0, "media_token_id": VOCAB - 1, "end_token_id": None}


def soft_capped():
    from transformers import Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(
        vocab_size=VOCAB, hidden_size=DIM, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=64, final_logit_softcapping=30.0,
    )  # fmt: skip
    return draw_weights(Gemma2ForCausalLM(config)).eval()


def scaled():
    from transformers import CohereConfig, CohereForCausalLM

    config = CohereConfig(
        vocab_size=VOCAB, hidden_size=DIM, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=64,
    )  # fmt: skip
    return draw_weights(CohereForCausalLM(config)).eval()


LANGUAGE_MODELS = {
    "scaled": lambda: draw_weights(ScaledHead()),
    "capped": lambda: draw_weights(CappedHead()),
    "all columns": lambda: draw_weights(WholeRowHead()),
    "quantised": lambda: with_head(lambda head: draw_weights(OwnHead(DIM, VOCAB, bias=False))),
    "wrapped": lambda: with_head(WrappedHead),
    "soft cap of transformers": soft_capped,
    "factor of transformers": scaled,
}


@pytest.mark.parametrize("kind", LANGUAGE_MODELS)
def test_heads_that_are_more_than_a_matrix_get_all_their_logits(kind):
    """The loss is that of the logits which the model gives, whatever it does behind its head."""
    with torch.random.fork_rng(devices=[]):
        flamingo = make_flamingo("plain", lm=LANGUAGE_MODELS[kind](), **NO_ROWS)
    bound = "llama" if "transformers" in kind else "plain"
    assert_same_loss(flamingo, bound, input_ids=IDS, labels=IDS)
    assert proven_head(flamingo) is None
    real = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    prompt = flamingo.prefill(IDS, attention_mask=real)
    close(prompt.logits[0, 0], flamingo(IDS).logits[0, -1], bound)
    close(prompt.logits[1, 0], flamingo(IDS).logits[1, -2], bound)


def test_rows_that_someone_else_attached_are_counted():
    """Logits wider than head and rows of the model show that the head is not all."""
    lm = make_language_model("plain")
    flamingo = make_flamingo("plain", lm=lm, **NO_ROWS)
    draw_weights(attach_token_rows(lm, 2), 3).double()
    assert_same_loss(flamingo, input_ids=torch.tensor([[3, VOCAB, 4, VOCAB + 1]]), labels=IDS[:1])
    assert proven_head(flamingo) is None


def test_a_head_that_is_changed_is_shown_again():
    """What was proven of one module is not believed of another."""
    flamingo = make_flamingo("plain", **NO_ROWS)
    flamingo(IDS, labels=IDS)
    assert proven_head(flamingo) is not None
    flamingo.lm.head = WrappedHead(flamingo.lm.head)
    assert_same_loss(flamingo, input_ids=IDS, labels=IDS)
    assert proven_head(flamingo) is None


def times_three(module, args, output):
    return output * 3


CHANGES = {
    "a hook on the model": lambda lm: lm.register_forward_hook(times_three).remove,
    "a hook on the head": lambda lm: lm.head.register_forward_hook(times_three).remove,
    "another forward of the model": lambda lm: replaced_forward(lm, lm.forward),
}


def replaced_forward(module, forward):
    module.forward = lambda input_ids: 3 * forward(input_ids)
    return lambda: delattr(module, "forward")


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_put_behind_a_proven_head_is_seen(change):
    """The loss is that of the logits as they are now, and of the head alone again when the change is undone."""
    flamingo = make_flamingo("plain", **NO_ROWS)
    before = flamingo(IDS, labels=IDS).loss
    assert proven_head(flamingo) is not None
    undo = CHANGES[change](flamingo.lm)
    assert_same_loss(flamingo, input_ids=IDS, labels=IDS)
    assert proven_head(flamingo) is None
    assert flamingo(IDS, labels=IDS).loss != before
    undo()
    assert torch.equal(flamingo(IDS, labels=IDS).loss, before)
    assert proven_head(flamingo) is not None


class Tripled(nn.Module):
    """What an adapter may do behind a head, in a module of its own that the model calls."""

    def forward(self, logits):
        return 3 * logits


class WithLastModule(PlainDecoder):
    def __init__(self):
        super().__init__()
        self.last = nn.Identity()

    def forward(self, input_ids):
        return self.last(super().forward(input_ids))


def test_a_module_that_is_put_behind_a_proven_head_is_seen():
    """Neither head nor model has a hook: the kinds of modules tell."""
    flamingo = make_flamingo("plain", lm=draw_weights(WithLastModule()), **NO_ROWS)
    flamingo(IDS, labels=IDS)
    assert proven_head(flamingo) is not None
    flamingo.lm.last = Tripled()
    assert_same_loss(flamingo, input_ids=IDS, labels=IDS)
    assert proven_head(flamingo) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_is_float32_beside_a_language_model_in_bfloat16(dtype):
    """And so under autocast; within the rounding of bfloat16 it is that of all logits."""
    lm = make_language_model("llama").to(dtype)
    flamingo = make_flamingo("llama", lm=lm).float()
    lm.to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.float32):
        alone, both = flamingo(IDS, labels=IDS), flamingo(IDS, labels=IDS, return_logits=True)
    assert proven_head(flamingo) is not None
    assert alone.loss.dtype == torch.float32
    torch.testing.assert_close(alone.loss, both.loss, atol=2e-2, rtol=2e-2)
    alone.loss.backward()
    assert all(weight.grad is not None for weight in flamingo.trained_parameters().values())


def test_nothing_stays_on_the_head():
    """Hooks come off after the call, after a failing one too."""
    flamingo = make_flamingo("plain")
    before = len(flamingo.lm.head._forward_pre_hooks)
    flamingo(IDS, labels=IDS)
    with pytest.raises(IndexError):
        flamingo(IDS + 99, labels=IDS)
    assert len(flamingo.lm.head._forward_pre_hooks) == before
    close(flamingo(IDS).logits, make_flamingo("plain")(IDS).logits)
    assert NEW_TAG not in IDS
