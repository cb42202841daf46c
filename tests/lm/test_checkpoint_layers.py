"""Layers of a language model that recompute themselves: what is kept, what is left behind, what is refused."""

import copy
import inspect

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from flamingo_blocks.lm import checkpoint_layers
from tests.flamingos import EXAMPLE_ROWS, KNOWN_TAG, LATENTS, VISION_DIM, make_batch, make_block, make_flamingo
from tests.language_models import LAYER_LISTS, NAMES, OF_TRANSFORMERS, make_language_model
from tests.memory import saved_bytes

LANGUAGE_MODELS = (*NAMES, "paper")
language_models = pytest.mark.parametrize("name", LANGUAGE_MODELS)


def example(name, seed=0, **options):
    flamingo, batch = make_flamingo(name, **options), make_batch(EXAMPLE_ROWS, seed)
    given = batch.arguments() | {"labels": batch.input_ids}
    if name == "plain":
        del given["attention_mask"]
    return flamingo, given


def gradients(flamingo, loss):
    return torch.autograd.grad(loss, list(flamingo.trained_parameters().values()))


@language_models
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("freeze", [True, False])
def test_loss_and_gradients_are_the_same_bit_for_bit(name, training, freeze):
    """With two forward passes before one backward pass; dropout of a language model that trains included."""
    flamingo, first = example(name, freeze=freeze)
    _, second = example(name, seed=1)
    flamingo.train(training)

    def run():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            losses = [flamingo(**given).loss for given in (first, second)]
            return losses, gradients(flamingo, losses[0] + 2 * losses[1])

    expected = run()
    flamingo.checkpoint_activations()
    actual = run()
    assert actual[0] == expected[0]
    assert all(map(torch.equal, actual[1], expected[1]))


@language_models
def test_a_frozen_language_model_in_eval_mode_keeps_little(name):
    """With everything checkpointed at most a fifth of the bytes is kept for the backward pass."""
    flamingo = make_flamingo(name, media_token_id=KNOWN_TAG)
    ids = torch.full((4, 48), 3)
    ids[:, ::12] = KNOWN_TAG
    media = torch.randn(16, LATENTS, VISION_DIM, dtype=torch.float64, requires_grad=True)
    layout = flamingo.make_layout(ids).prepare()

    def kept():
        weights = [*flamingo.parameters(), *flamingo.buffers(), media]
        return saved_bytes(lambda: flamingo(ids, media=media, layout=layout, labels=ids).loss, besides=weights)

    kept()  # shows the head
    before = kept()
    flamingo.checkpoint_activations()
    assert not any(module.training for module in flamingo.lm.modules())
    assert kept() <= 0.2 * before


def trace_of(lm):
    """Everything that checkpointing could leave behind."""
    return [(name, sorted(vars(module)), vars(module).get("forward")) for name, module in lm.named_modules()]


@language_models
def test_nothing_is_left_behind(name):
    """Undone, by `remove`, by the switch or by `detach`, no attribute of any module tells of it."""
    lm = make_language_model(name)
    before = trace_of(lm)
    checkpointed = checkpoint_layers(lm)
    assert trace_of(lm) != before
    checkpointed.remove()
    assert trace_of(lm) == before
    checkpointed.remove()
    flamingo = make_flamingo(name, lm=lm)
    inside = trace_of(lm)
    flamingo.checkpoint_activations()
    flamingo.checkpoint_activations(enabled=False)
    assert trace_of(lm) == inside
    flamingo.checkpoint_activations()
    assert [key for key, *_ in trace_of(flamingo.detach())] == [key for key, *_ in before]
    assert trace_of(lm) == before


def test_a_forward_of_ones_own_comes_back():
    """What a tool had put on the layer before is called, and is there again afterwards."""
    lm = make_language_model("plain")
    calls = []
    own = lm.layers[0].forward

    def counted(x):
        calls.append(1)
        return own(x)

    lm.layers[0].forward = counted
    checkpointed = checkpoint_layers(lm)
    lm(torch.tensor([[3, 4]])).sum().backward()
    assert calls == [1, 1]
    checkpointed.remove()
    assert lm.layers[0].forward is counted
    again = checkpoint_layers(lm)
    lm.layers[0].forward = own
    with pytest.raises(RuntimeError, match=r"the forward of 'layers.0' was replaced after checkpoint_layers"):
        again.remove()


def test_hooks_run_once_and_outside():
    """A block in front of a checkpointed layer is called once a forward pass, with its media."""
    lm = make_language_model("plain")
    calls = []
    lm.layers[1].register_forward_pre_hook(lambda *_: calls.append("hook"))
    lm.layers[1].norm1.register_forward_pre_hook(lambda *_: calls.append("inside"))
    checkpoint_layers(lm)
    lm(torch.tensor([[3, 4]])).sum().backward()
    assert calls == ["hook", "inside", "inside"]


@pytest.mark.parametrize("name", OF_TRANSFORMERS)
def test_a_call_with_a_cache_runs_as_it_is(name):
    """The recomputation would fill the cache again; such a call keeps its activations, and its gradients are right."""
    lm, ids = make_language_model(name), torch.tensor([[3, 4, 5]])
    expected = torch.autograd.grad(lm(ids, use_cache=True).logits.sum(), list(lm.parameters()), allow_unused=True)
    checkpoint_layers(lm)
    out = lm(ids, use_cache=True)
    actual = torch.autograd.grad(out.logits.sum(), list(lm.parameters()), allow_unused=True)
    assert out.past_key_values.get_seq_length() == 3
    assert all(a is b is None or torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


def test_a_copy_runs_its_own_layers():
    """A deep copy does not call the layers of the model that it was copied from."""
    flamingo, given = example("plain")
    flamingo.checkpoint_activations()
    twin = copy.deepcopy(flamingo)
    with torch.no_grad():
        for weight in flamingo.lm.layers.parameters():
            weight.zero_()
    assert torch.equal(twin(**given).loss, example("plain")[0](**given).loss)
    twin.checkpoint_activations(enabled=False)
    assert "forward" not in vars(twin.lm.layers[0])
    assert "forward" in vars(flamingo.lm.layers[0])


def test_signatures_stay():
    """Tools that ask what a layer takes get the answer of the layer."""
    lm = make_language_model("llama")
    before = inspect.signature(lm.model.layers[0].forward)
    checkpoint_layers(lm)
    assert inspect.signature(lm.model.layers[0].forward) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (checkpoint_layers, "'model.layers.0' is checkpointed already; call remove"),
        (
            lambda lm: setattr(lm.model.layers[0], "gradient_checkpointing", True),
            "call activation_checkpointing_disable",
        ),
        (
            lambda lm: lm.model.layers.__setitem__(1, checkpoint_wrapper(lm.model.layers[1])),
            "'model.layers.1' is wrapped by torch's checkpoint_wrapper",
        ),
    ],
)
def test_what_is_checkpointed_already_is_refused(change, message):
    """Nothing is changed then, and the message says what to undo."""
    lm = make_language_model("llama")
    change(lm)
    before = trace_of(lm)
    with pytest.raises(ValueError, match=message):
        checkpoint_layers(lm)
    assert trace_of(lm) == before


def test_layers_are_found_as_attach_finds_them():
    """By itself, or by name."""
    lm = make_language_model("gpt2")
    checkpointed = checkpoint_layers(lm, layers=LAYER_LISTS["gpt2"])
    assert checkpointed.name == LAYER_LISTS["gpt2"]
    with pytest.raises(ValueError, match="names no list of modules"):
        checkpoint_layers(lm, layers="nowhere")


def test_blocks_and_resampler_are_switched_as_well():
    """On and off; parts without the switch are left alone, and what is saved does not know of it."""
    flamingo = make_flamingo("plain", blocks={0: make_block()}, resampler=nn.Linear(16, 16))
    flamingo.checkpoint_activations()
    assert flamingo.blocks["0"].activation_checkpointing
    assert not flamingo.blocks["0"].config["activation_checkpointing"]
    assert flamingo.state_dict().keys() == make_flamingo("plain", resampler=nn.Linear(16, 16)).state_dict().keys()
    flamingo.checkpoint_activations(enabled=False)
    assert not flamingo.blocks["0"].activation_checkpointing
