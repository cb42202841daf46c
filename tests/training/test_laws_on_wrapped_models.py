"""Laws 1 to 5, 7, 10 to 12 and 14 on models that recompute, have adapters, or are spread over processes."""

import pytest

from tests.processes import run_together
from tests.training import wrapped_laws
from tests.training.wrapped_laws import LAWS, OWN

# Processes, how the model is wrapped.
VARIANTS = {
    "checkpointed": (1, {"checkpointed": True}),
    "adapted": (1, {"adapted": True, "checkpointed": True}),
    "sharded": (2, {"sharded": True, "checkpointed": True}),
    "sharded and adapted": (2, {"sharded": True, "checkpointed": True, "adapted": True}),
}
# 11 names the parts that train, and 12 wants all of the language model in eval mode, where adapters are not; that all
# of what trains has a gradient is asked with the gradients, and that the rest stays in `tests/lm_matrix/test_lora.py`.
NOT_ADAPTED = {"11", "12"}
# It asks for gradients by `autograd.grad`, which torch's shards do not give.
NOT_SHARDED = {"2"}


def laws_of(variant):
    _, how = VARIANTS[variant]
    left_out = (NOT_ADAPTED if how.get("adapted") else set()) | (NOT_SHARDED if how.get("sharded") else set())
    return [law for law in LAWS if law not in left_out]


def wrong_laws(variant, laws, folder):
    """In processes of their own, where shapes are not checked: that costs more than the laws."""
    number, how = VARIANTS[variant]
    if how.get("adapted"):
        pytest.importorskip("peft")
    ranks = run_together(wrapped_laws.run_together, number, how, laws, folder=folder)
    for found in ranks:
        assert len(found) == len(laws) + len(OWN)
    return [f"{law}\n{wrong}" for found in ranks for law, wrong in found.items() if wrong]


def test_gradients_and_influence_of_a_sharded_model_are_those_of_the_bare_one(tmp_path):
    """Laws 3, 10, 11 and 14, frozen weights sharded as well, all recomputed, with adapters."""
    assert wrong_laws("sharded and adapted", [], tmp_path) == []


@pytest.mark.full
@pytest.mark.parametrize("variant", VARIANTS)
def test_laws_hold(variant, tmp_path):
    """All of them, with layers, blocks and resampler recomputed, adapters besides, and over two processes."""
    assert wrong_laws(variant, laws_of(variant), tmp_path) == []
