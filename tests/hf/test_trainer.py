"""A few steps by transformers' `Trainer`."""

import pytest
import torch
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

from tests.hf.tiny import make_model, make_processor

CHECKPOINTING = next(
    name
    for name in ("activation_checkpointing", "gradient_checkpointing")
    if name in TrainingArguments.__dataclass_fields__
)


class Pictures(Dataset):
    """Two images, each with its word."""

    def __init__(self) -> None:
        red, blue = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
        red[0], blue[2] = 255, 255
        self.rows = [{"text": "<image>this is red", "image": red}, {"text": "<image>this is blue", "image": blue}] * 8

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict:
        return self.rows[index]


def make_trainer(model, folder, **options) -> Trainer:
    processor = make_processor(model)

    def collate(rows):
        return processor(
            text=[row["text"] for row in rows], images=[row["image"] for row in rows], for_training=True
        )  # fmt: skip

    arguments = TrainingArguments(
        output_dir=str(folder), learning_rate=1e-2, remove_unused_columns=False,
        report_to=[], use_cpu=True, disable_tqdm=True, dataloader_pin_memory=False, logging_strategy="no",
        **{"max_steps": 12, "save_strategy": "no", "per_device_train_batch_size": 4, **options},
    )  # fmt: skip
    data = Pictures()
    return Trainer(model=model, args=arguments, train_dataset=data, eval_dataset=data, data_collator=collate)


def test_a_few_steps_lower_the_loss_and_move_new_layers_only(tmp_path):
    """Loss falls, frozen weights stay bit for bit, everything that trains moves, and evaluation gives logits."""
    model = make_model(seed=3)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    trainer = make_trainer(model, tmp_path)
    first = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < 0.7 * first
    for name, weight in model.named_parameters():
        frozen = name.startswith(("flamingo.lm.", "flamingo.vision."))
        unused = name == "flamingo.resampler.frame_embeddings"  # an image has one frame: the second row never moves
        assert torch.equal(weight, before[name]) == frozen or unused, name
    assert trainer.predict(Pictures()).predictions.shape[-1] == model.config.vocab_size


@pytest.mark.parametrize("checkpointing", (False, True))
def test_steps_accumulate_and_activations_are_recomputed(tmp_path, checkpointing):
    """Two steps of two give the weights of one step of four, with recomputed activations or without."""
    weights = []
    for batch, steps in ((4, 1), (2, 2)):
        model = make_model()
        make_trainer(
            model, tmp_path, max_steps=2, per_device_train_batch_size=batch, gradient_accumulation_steps=steps,
            **({CHECKPOINTING: True} if checkpointing and steps == 2 else {}),
        ).train()  # fmt: skip
        weights.append([weight.detach() for weight in model.parameters() if weight.requires_grad])
    torch.testing.assert_close(*weights, atol=1e-5, rtol=1e-4)


def test_training_goes_on_from_a_checkpoint(tmp_path):
    """Six steps, and three with a checkpoint and three from it, end with the same weights."""
    whole, halves = make_model(), make_model()
    make_trainer(whole, tmp_path / "whole", max_steps=6).train()
    make_trainer(halves, tmp_path / "halves", max_steps=6, save_strategy="steps", save_steps=3).train()
    again = make_model(seed=1)
    again.flamingo.lm.load_state_dict(whole.flamingo.lm.state_dict())
    trainer = make_trainer(again, tmp_path / "halves", max_steps=6)
    trainer.train(resume_from_checkpoint=str(tmp_path / "halves" / "checkpoint-3"))
    for name, weight in again.named_parameters():
        torch.testing.assert_close(weight, dict(whole.named_parameters())[name], msg=name)
