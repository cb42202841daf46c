"""A training step of a whole Flamingo on a GPU: it never waits for the device, and gives what the CPU gives."""

import pytest
import torch
from torch import nn

from flamingo_blocks.models.check_arguments import refuse_where
from flamingo_blocks.testing import check_language_model, check_tower
from flamingo_blocks.vision import CallableTower
from tests.flamingos import EXAMPLE_ROWS, make_batch, make_flamingo
from tests.gpu.waiting import waits_are_errors
from tests.language_models import make_language_model

pytestmark = pytest.mark.gpu


def test_checks_leave_the_random_numbers_of_the_gpu_alone():
    """What models and towers on it draw while they are checked is not missing afterwards."""
    tower = CallableTower(nn.Sequential(nn.Conv2d(3, 16, 8, stride=8), nn.Dropout()), image_size=32, frozen=False)
    lm = make_language_model("llama")
    torch.manual_seed(3)
    expected = torch.rand(2, device="cuda")
    torch.manual_seed(3)
    check_tower(tower.cuda())
    check_language_model(lm.cuda().train())
    assert torch.equal(torch.rand(2, device="cuda"), expected)


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
