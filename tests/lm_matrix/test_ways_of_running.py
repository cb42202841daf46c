"""Streaming, assistants, and the checkpointing of transformers, around a Flamingo."""

import threading

import pytest
import torch
from torch import nn

from flamingo_blocks.lm import checkpoint_layers
from tests.flamingos import EXAMPLE_ROWS, make_batch, make_flamingo
from tests.language_families import at_floor
from tests.language_models import make_language_model

ROW = make_batch((EXAMPLE_ROWS[0],), 0)
MORE = dict(max_new_tokens=5, eos_token_id=None, do_sample=False)


class Words:
    """A tokenizer: each id is a word of its own."""

    def decode(self, ids, **arguments) -> str:
        ids = [ids] if isinstance(ids, int) else list(ids)
        return "".join(f"w{int(token)} " for token in ids)


@pytest.mark.parametrize("name", ["llama", "mamba2", "plain"])
def test_a_text_streamer_prints_what_is_generated(name, capsys):
    """Word for word, the prompt left out."""
    import transformers

    flamingo = make_flamingo(name)
    streamer = transformers.TextStreamer(Words(), skip_prompt=True)
    out = flamingo.generate(**ROW.arguments(), **MORE, streamer=streamer)
    assert capsys.readouterr().out.split() == [f"w{token}" for token in out[0, -5:].tolist()]


@pytest.mark.parametrize("prompted", [False, True])
def test_an_iterator_streamer_gives_words_to_another_thread(prompted):
    """While the model runs in a thread of its own; behind a prompt as well."""
    import transformers

    flamingo = make_flamingo("llama")
    expected = flamingo.generate(**ROW.arguments(), **MORE)[0, -5:].tolist()
    given = ROW.arguments()
    if prompted:
        prompt = flamingo.prefill(**ROW.columns(0, 3).arguments())
        given = ROW.columns(3).arguments() | {"prompt": prompt}
    streamer = transformers.TextIteratorStreamer(Words(), skip_prompt=True, timeout=60)
    thread = threading.Thread(target=flamingo.generate, kwargs={**given, **MORE, "streamer": streamer})
    thread.start()
    heard = "".join(streamer).split()
    thread.join()
    assert heard == [f"w{token}" for token in expected]


def activate(lm: nn.Module) -> None:
    """Transformers' own checkpointing, under its new name or its old one."""
    getattr(lm, "activation_checkpointing_enable", lm.gradient_checkpointing_enable)()


@pytest.mark.parametrize("name", ["llama", "mamba2"])
def test_the_checkpointing_of_transformers_gives_the_same_gradients_or_is_refused(name):
    """Newer ones recompute behind our hooks; 5.0 recomputes the hooks too, where no media are."""
    flamingo = make_flamingo(name, freeze=False).train()
    weights = [weight for weight in flamingo.parameters() if weight.requires_grad]
    expected = torch.autograd.grad(flamingo(**ROW.arguments(), labels=ROW.input_ids).loss, weights, allow_unused=True)
    activate(flamingo.lm)
    if at_floor():
        with pytest.raises(ValueError, match="recomputes the hooks of a layer .*checkpoint_activations"):
            flamingo(**ROW.arguments(), labels=ROW.input_ids)
        flamingo.eval()  # in which it does nothing
        assert flamingo(**ROW.arguments()).logits.isfinite().all()
        return
    losses = [flamingo(**ROW.arguments(), labels=ROW.input_ids).loss for _ in range(2)]  # two, before any backward
    for loss in losses:
        again = torch.autograd.grad(loss, weights, allow_unused=True)
        for one, other in zip(again, expected, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                torch.testing.assert_close(one, other)


def test_ours_and_theirs_together_are_refused():
    """Each layer is recomputed once."""
    lm = make_language_model("llama").train()
    activate(lm)
    with pytest.raises(ValueError, match="'model.layers.0' is told to checkpoint itself"):
        checkpoint_layers(lm)


@pytest.mark.parametrize("name", ["gptj", "mpt", "falcon", "qwen3_moe"])
def test_an_assistant_takes_steps_back_in_every_kind_of_attention(name):
    """A bare model guesses, the Flamingo decides; its images stay in their columns."""
    flamingo = make_flamingo(
        name, lm=make_language_model(name), num_new_tokens=0, media_token_id=49, end_token_id=None
    ).float()
    row = make_batch((EXAMPLE_ROWS[0],), 0, tag=49, dtype=torch.float32)
    arguments = MORE | dict(max_new_tokens=7, eos_token_id=10**6, pad_token_id=0)
    expected = flamingo.generate(**row.arguments(), **arguments)
    assistant = make_language_model(name)
    assistant.config.use_cache = flamingo.lm.config.use_cache = True
    out = flamingo.generate(**row.arguments(), **arguments, use_cache=True, assistant_model=assistant)
    assert torch.equal(out, expected)
