"""A training step of a whole Flamingo on a GPU: it never waits for the device, and gives what the CPU gives."""

import pytest
import torch

from flamingo_blocks.models.check_arguments import refuse_where
from tests.flamingos import EXAMPLE_ROWS, make_batch, make_flamingo
from tests.gpu.waiting import waits_are_errors

pytestmark = pytest.mark.gpu


def example():
    flamingo, batch = make_flamingo("paper"), make_batch(EXAMPLE_ROWS, 0)
    given = batch.arguments()
    layout = flamingo.make_layout(batch.input_ids, attention_mask=given["attention_mask"]).prepare()
    features = flamingo.vision(given.pop("pixels").flatten(0, 1).nan_to_num()).tokens.unflatten(0, (3, -1))
    return flamingo, given | {"features": features, "layout": layout, "labels": batch.input_ids}


@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_step_never_waits_and_is_that_of_the_cpu(checkpointed):
    """Forward and backward on a prepared batch, after the call that shows the head."""
    flamingo, given = example()
    flamingo(**given).loss.backward()
    expected = {name: weight.grad for name, weight in flamingo.trained_parameters().items()}
    flamingo.zero_grad()
    flamingo.cuda().checkpoint_activations(enabled=checkpointed)
    given = {name: value.to("cuda") for name, value in given.items()}
    flamingo(**given)
    with waits_are_errors():
        flamingo(**given).loss.backward()
    for name, weight in flamingo.trained_parameters().items():
        torch.testing.assert_close(weight.grad.cpu(), expected[name], atol=1e-9, rtol=1e-9)


def test_refusing_waits_for_nobody():
    """What cannot be read without waiting is asserted on the device, where a right value costs nothing."""
    values = torch.zeros(3, device="cuda")
    with waits_are_errors():
        refuse_where((values > 1).any(), lambda: "never made")
