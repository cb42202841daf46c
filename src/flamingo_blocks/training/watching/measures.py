"""What is measured now and then while a model trains: gates, few-shot scores, samples of text."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from flamingo_blocks.nn import TanhGate
from flamingo_blocks.training.step_report import StepReport
from flamingo_blocks.training.watching.undisturbed import undisturbed

Measure = Callable[[StepReport], Mapping[str, float | str]]
"""Takes the report of a step, gives numbers and texts by name; nothing at steps at which it has nothing to say."""


def gate_values(model: nn.Module) -> dict[str, float]:
    """How far each gate of a model is open.

    Args:
        model: Any module that holds `TanhGate`s. Every rank calls this where the model is sharded.

    Returns:
        `tanh(gate)` by the gate's name in the model; of a gate with a value for each channel the mean size of these.

    Example:
        >>> from flamingo_blocks.models import build_tiny_flamingo
        >>> gate_values(build_tiny_flamingo(depth=1))
        {'blocks.0.attention_gate': 0.0, 'blocks.0.feed_forward_gate': 0.0}
    """
    gates = {name: module for name, module in model.named_modules() if isinstance(module, TanhGate)}
    if not gates:
        return {}
    with torch.no_grad():
        values = torch.stack([_opening(gate) for gate in gates.values()])
    return dict(zip(gates, values.tolist(), strict=True))


def _opening(gate: TanhGate) -> Tensor:
    value: Any = gate.gate
    value = value.full_tensor() if hasattr(value, "full_tensor") else value  # sharded: each rank holds a part
    opened: Tensor = value.float().tanh()
    return opened[0] if opened.numel() == 1 else opened.abs().mean()


class GateValues:
    """`gate_values` at intervals: each reading waits for the device.

    Args:
        model: The model in training.
        every: Steps from one reading to the next.

    Raises:
        ValueError: If `every` is less than 1.

    Example:
        >>> measure = GateValues(TanhGate(), every=2)
        >>> measure(StepReport(0, {}, 1.0)), measure(StepReport(1, {}, 1.0))
        ({}, {'gates': 0.0})
    """

    def __init__(self, model: nn.Module, *, every: int) -> None:
        self.model, self.every = model, _checked(every)

    def __call__(self, report: StepReport) -> Mapping[str, float | str]:
        """The values, at a step at which they are due."""
        if not _due(report, self.every):
            return {}
        return {f"gates/{name}" if name else "gates": value for name, value in gate_values(self.model).items()}


class FewShotScore:
    """Any scores of the model at intervals; training goes on as if they had not been asked for.

    The paper chose its training by few-shot scores on a few tasks; the loss alone says little of them. The model is in
    eval mode, without gradients, and random generators, modes and gradients are afterwards what they were.

    Args:
        evaluate: Takes the model, gives numbers by name. Every rank calls it, for a sharded model runs on all.
        model: The model in training.
        every: Steps from one evaluation to the next.
        name: Stands before the names of the numbers.

    Raises:
        ValueError: If `every` is less than 1.

    Example:
        >>> measure = FewShotScore(lambda model: {"weight": model.weight.item()}, model=nn.Linear(1, 1), every=100)
        >>> list(measure(StepReport(99, {}, 1.0)))
        ['few_shot/weight']
    """

    def __init__(
        self, evaluate: Callable[[Any], Mapping[str, float]], *, model: nn.Module, every: int, name: str = "few_shot"
    ) -> None:
        self.evaluate, self.model, self.every, self.name = evaluate, model, _checked(every), name

    def __call__(self, report: StepReport) -> Mapping[str, float | str]:
        """The scores, at a step at which they are due."""
        if not _due(report, self.every):
            return {}
        with undisturbed(self.model):
            scores = self.evaluate(self.model)
        return {f"{self.name}/{name}": float(score) for name, score in scores.items()}


class SampleGenerations:
    """What the model writes after some prompts, at intervals; training goes on as if it had not been asked.

    Args:
        model: The model in training, with `generate`.
        prompts: Arguments of `generate` by the name of the prompt: `processor([row]).model_inputs()`.
        decode: Makes text of a row of ids, such as `processor.decode`.
        every: Steps from one sample to the next.
        generation: Further arguments of `generate`.

    Raises:
        ValueError: If `every` is less than 1.

    Example:
        >>> from flamingo_blocks.models import build_tiny_flamingo
        >>> flamingo = build_tiny_flamingo()
        >>> prompt = {"input_ids": torch.tensor([[1, flamingo.media_token_id]]), "pixels": torch.zeros(1, 1, 3, 8, 8)}
        >>> sample = SampleGenerations(
        ...     flamingo, {"black": prompt}, decode=lambda ids: f"{len(ids)} ids", every=1, max_new_tokens=3
        ... )
        >>> list(sample(StepReport(0, {}, 1.0)))
        ['samples/black']
    """

    def __init__(
        self,
        model: nn.Module,
        prompts: Mapping[str, Mapping[str, Any]],
        *,
        decode: Callable[[Tensor], str],
        every: int,
        **generation: Any,
    ) -> None:
        self.model, self.prompts, self.decode, self.every = model, prompts, decode, _checked(every)
        self.generation = generation

    def __call__(self, report: StepReport) -> Mapping[str, float | str]:
        """The texts, at a step at which they are due."""
        if not _due(report, self.every):
            return {}
        model: Any = self.model
        with undisturbed(model):
            return {
                f"samples/{name}": self.decode(model.generate(**prompt, **self.generation)[0])
                for name, prompt in self.prompts.items()
            }


def _checked(every: int) -> int:
    if every < 1:
        raise ValueError(f"every is {every}, wanted 1 or more: the steps from one measurement to the next")
    return every


def _due(report: StepReport, every: int) -> bool:
    """At the end of every so many steps, so never before the first update."""
    return (report.step + 1) % every == 0
