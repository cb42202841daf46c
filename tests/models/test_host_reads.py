"""A training step on a prepared batch never waits for the device: no value is read on the way, forward or backward."""

import pytest
import torch

from tests.flamingos import EXAMPLE_ROWS, KNOWN_TAG, NEW_TAG, make_batch, make_flamingo
from tests.host_reads import NoHostReads
from tests.language_models import NAMES, make_language_model


def example(name, **options):
    flamingo, batch = make_flamingo(name, **options), make_batch(EXAMPLE_ROWS, 0, tag=options.get("media_token_id", 50))
    given = batch.arguments()
    if name == "plain":
        del given["attention_mask"]
    layout = flamingo.make_layout(batch.input_ids, attention_mask=given.get("attention_mask")).prepare()
    features = flamingo.vision(given.pop("pixels").flatten(0, 1).nan_to_num()).tokens.unflatten(0, (3, -1))
    return flamingo, given | {"features": features, "layout": layout, "labels": batch.input_ids}


@pytest.mark.parametrize("name", (*NAMES, "paper"))
@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_step_reads_no_value(name, checkpointed):
    """Around each language model, with and without recomputation, after the call that shows the head."""
    flamingo, given = example(name)
    flamingo.train().checkpoint_activations(enabled=checkpointed)
    flamingo(**given)
    with NoHostReads():
        flamingo(**given).loss.backward()
    assert all(weight.grad is not None for weight in flamingo.trained_parameters().values())


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_packed_documents_read_no_value(name):
    """Nor do masks and positions of packed rows, after the call that shows that the model keeps them apart."""
    flamingo = make_flamingo(name, media_token_id=KNOWN_TAG)
    ids, document = torch.tensor([[3, KNOWN_TAG, 5, 6, 7]]), torch.tensor([[0, 0, 0, 1, 1]])
    given = {
        "input_ids": ids, "document": document, "labels": ids, "features": torch.ones(1, 1, 4, 16).double(),
        "layout": flamingo.make_layout(ids, document=document).prepare(),
    }  # fmt: skip
    flamingo(**given)
    with NoHostReads():
        flamingo(**given).loss.backward()


def test_a_long_packed_row_reads_no_value_beside_a_short_window():
    """Whether a document is longer than the window is asked without waiting."""
    lm = make_language_model("gemma3", sliding_window=4)
    flamingo = make_flamingo("gemma3", lm=lm)
    ids, document = torch.tensor([[3, 4, 5, 6, 7, 8]]), torch.tensor([[0, 0, 0, 1, 1, 1]])
    layout = flamingo.make_layout(ids, document=document).prepare()
    given = {"input_ids": ids, "document": document, "labels": ids, "layout": layout}
    flamingo(**given)
    with NoHostReads():
        flamingo(**given).loss.backward()


@pytest.mark.parametrize("name", (*NAMES, "paper"))
def test_a_prompt_with_pads_reads_no_value(name):
    """Which column of each row is the last real one is known to the device alone."""
    flamingo = make_flamingo(name)
    ids = torch.tensor([[3, NEW_TAG, 5, 6], [3, 4, 5, 6]])
    mask = None if name == "plain" else torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    features = torch.ones(1, 1, 4, 16).double()
    layout = flamingo.make_layout(ids, attention_mask=mask).prepare()
    given = {"attention_mask": mask, "features": features, "layout": layout}
    expected = flamingo.prefill(ids, **given).logits
    with NoHostReads():
        assert flamingo.prefill(ids, **given).logits.shape == expected.shape
