"""The laws of whole models, asked of models that are wrapped; `test_laws_on_wrapped_models.py` says which hold.

The checks are those of `tests/properties`, which make their models by `make_flamingo`: here it gives a wrapped one.
"""

import importlib
import traceback
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from hypothesis import Phase, settings
from torch import nn

from flamingo_blocks import Flamingo
from flamingo_blocks.training import shard
from tests.flamingos import EXAMPLE_ROWS, close, make_batch, make_flamingo
from tests.language_models import make_language_model

NAME = "llama"
LAWS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "1": ("test_flamingo", "test_at_zero_gates_the_logits_are_the_language_models_own", {"dtype": torch.float32}),
    "2": ("test_flamingo", "test_an_item_that_nobody_sees_reaches_no_gradient", {}),
    "4": ("test_flamingo", "test_text_and_media_never_move_earlier_logits", {}),
    "5, rows": ("test_flamingo", "test_pads_and_other_rows_change_nothing", {}),
    "5, documents": ("test_flamingo", "test_documents_of_a_packed_row_are_as_if_alone", {}),
    "5, patches": ("test_flamingo", "test_patches_and_frames_that_do_not_count_change_nothing", {}),
    "7": ("test_decoding", "test_chunks_and_single_tokens_have_the_logits_of_the_whole", {}),
    "11": ("test_flamingo", "test_text_without_media_reaches_every_trained_parameter", {}),
    "12": ("test_flamingo", "test_frozen_weights_never_move", {}),
}


def with_adapters(lm: nn.Module, *, closed: bool = False) -> nn.Module:
    """Adapters of PEFT with drawn weights; closed ones change nothing, so that the bare model is the law."""
    import peft

    adapted = peft.get_peft_model(lm, peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    noise = torch.Generator().manual_seed(5)
    for name, weight in adapted.named_parameters():
        if "lora_" in name and not (closed and "lora_B" in name):
            weight.data.normal_(generator=noise, std=0.3)
    return adapted.eval()


def make_wrapped(
    name: str = NAME, *, adapted: bool = False, checkpointed: bool = False, sharded: bool = False, **options: Any
) -> Flamingo:
    """What `make_flamingo` gives, wrapped."""
    if adapted:
        lm = options.pop("lm", None)
        lm = make_language_model(name) if lm is None else lm
        options |= {"lm": with_adapters(lm, closed=options.get("closed", False)), "freeze": False}
    model = make_flamingo(name, **options)
    if adapted:
        model.vision.requires_grad_(False)
    if checkpointed:
        model.checkpoint_activations()
    return shard(model, mixed_precision=False, frozen="shard") if sharded else model


@contextmanager
def making(**how: bool):
    """The checks of the properties make such models."""

    def make(name: str, **options: Any) -> Flamingo:
        return make_wrapped(name, **how, **options)

    with patch("tests.properties.test_flamingo.make_flamingo", make), patch(
        "tests.properties.test_decoding.make_flamingo", make
    ):  # fmt: skip
        yield


def ask(law: str, **how: bool) -> None:
    """Fails where the law does not hold."""
    module, function, arguments = LAWS[law]
    with making(**how):
        getattr(importlib.import_module(f"tests.properties.{module}"), function)(name=NAME, **arguments)


def gradients_of(model: Flamingo, seeds: tuple[int, ...], rows: Any = EXAMPLE_ROWS) -> dict[str, torch.Tensor]:
    """Loss and gradients of several forward passes before one backward pass."""
    losses = []
    for seed in seeds:
        batch = make_batch(rows, seed)
        losses.append(model(**batch.arguments(), labels=batch.input_ids).loss)
    total = torch.stack(losses).sum()
    total.backward()
    found = {"loss": total.detach()}
    for name, weight in model.trained_parameters().items():
        assert weight.grad is not None, name
        found[name] = weight.grad.full_tensor() if hasattr(weight.grad, "full_tensor") else weight.grad
    return found


def ask_for_gradients(**how: bool) -> None:
    """Laws 10, 11 and 14: those of the model that is not wrapped, on every backend, and all of them without media."""
    adapted = how.get("adapted", False)
    text = tuple(row for row in EXAMPLE_ROWS if not any(token.items for token in row))
    for seeds, rows in (((0, 1), EXAMPLE_ROWS), ((2,), text)):
        expected = gradients_of(make_wrapped(adapted=adapted), seeds, rows)
        for backend in ("reference", "auto"):
            model = make_wrapped(**how)
            for block in model.blocks.values():
                block.attention.backend = backend
            for name, value in gradients_of(model.train(), seeds, rows).items():
                close(value, expected[name], NAME)


def ask_for_influence(**how: bool) -> None:
    """Law 3 through the whole model: an image moves the text from its tag on, and none before."""
    model, batch = make_wrapped(**how), make_batch(EXAMPLE_ROWS[:1], 0)
    given = batch.arguments()
    with torch.no_grad():
        logits = model(**given).logits
        for item, column in enumerate(batch.is_media[0].nonzero()[:, 0].tolist()):
            pixels = given["pixels"].clone()
            pixels[item] += 1
            changed = (model(**given | {"pixels": pixels}).logits != logits).any(-1)[0].tolist()
            assert changed == [False] * column + [True] * (len(changed) - column), (item, changed)


OWN = {"3": ask_for_influence, "10, 11 and 14": ask_for_gradients}


def run_together(how: dict[str, bool], laws: list[str]) -> dict[str, str | None]:
    """What is wrong, by law, in each process of a group: the same examples are drawn in all of them."""
    settings.register_profile(
        "alike", deadline=None, max_examples=5, derandomize=True, database=None, phases=[Phase.generate]
    )
    settings.load_profile("alike")  # before the checks are imported
    found: dict[str, str | None] = dict.fromkeys((*laws, *OWN))
    for law in found:
        try:
            OWN[law](**how) if law in OWN else ask(law, **how)
        except Exception:  # noqa: BLE001 - told by the test
            found[law] = traceback.format_exc()
    return found
