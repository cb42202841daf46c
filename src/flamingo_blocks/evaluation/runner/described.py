"""What was run, in plain values: what `results.json` says, and what tells one run from another."""

import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor, nn

from flamingo_blocks.evaluation.runner.config import EvalConfig
from flamingo_blocks.evaluation.runner.prepare import PreparedTask, hash_of_items
from flamingo_blocks.evaluation.tasks import TASKS
from flamingo_blocks.models import Flamingo, FlamingoProcessor

_SAMPLED = 4096  # values of each weight: all of a large model would be read for minutes
# What may differ between two calls for one folder: it says how much is asked, and how fast, not what is answered.
_MAY_DIFFER = (
    "shots", "seeds", "controls", "control_shots", "num_queries", "memory_bytes", "media_bytes", "max_rows",
    "bootstrap", "max_missing",
)  # fmt: skip


def describe_run(
    flamingo: Flamingo,
    processor: FlamingoProcessor,
    prepared: Sequence[PreparedTask],
    config: EvalConfig,
    *,
    name: str | None,
) -> dict[str, Any]:
    """The model, the settings and the machine.

    Args:
        flamingo: The model.
        processor: What belongs to it.
        prepared: The tasks.
        config: What decides the run.
        name: What the report calls the model.
    """
    device = next(flamingo.parameters()).device
    return {
        "model": {
            "name": name or type(flamingo.lm).__name__,
            "language_model": type(flamingo.lm).__name__,
            "vision": None if flamingo.vision is None else type(flamingo.vision).__name__,
            "tokenizer": type(processor.tokenizer).__name__,
            "processor": _hash_of_processor(processor),
            "parameters": sum(weight.numel() for weight in flamingo.parameters()),
            "weights": hash_of_weights(flamingo),
        },
        "settings": {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(config).items()},
        "tasks": {
            each.task.name: {"version": each.task.version, "support": hash_of_items(each.support)} for each in prepared
        },
        "versions": {
            "flamingo_blocks": _version("flamingo-blocks"), "torch": str(torch.__version__),
            "transformers": _version("transformers"), "python": platform.python_version(),
        },
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
    }  # fmt: skip


def describe_task(prepared: PreparedTask) -> dict[str, Any]:
    """A task as `results.json` says it.

    Args:
        prepared: The task.
    """
    task = prepared.task
    return {
        "title": TASKS[task.name].title if task.name in TASKS else task.name,
        "kind": task.kind,
        "answering": task.answering,
        "metric": task.metrics[0].variant,
        "version": task.version,
        "queries": len(prepared.queries),
        "support": len(prepared.support),
        "support_hash": hash_of_items(prepared.support),
        "missing": dict(sorted(prepared.missing.items())),
        "replaced": dict(sorted(prepared.replaced.items())),
    }


def what_answers_depend_on(described: Mapping[str, Any]) -> dict[str, Any]:
    """What has to be equal for two runs to give one answer to one query.

    Args:
        described: What `describe_run` gave.
    """
    settings = {key: value for key, value in described["settings"].items() if key not in _MAY_DIFFER}
    model = {name: described["model"][name] for name in ("weights", "processor")}
    return {**model, **settings, "tasks": dict(described["tasks"])}


def in_key_order(value: Any) -> Any:
    """A value whose mappings have the order that they have when they were read from a file.

    Args:
        value: Plain values.
    """
    return {key: in_key_order(value[key]) for key in sorted(value)} if isinstance(value, Mapping) else value


@torch.no_grad()
def hash_of_weights(model: nn.Module) -> str:
    """A short hash of names, shapes, dtypes and some thousand values of every weight.

    Args:
        model: The model.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(_sample(tensor).numpy().tobytes())
    return digest.hexdigest()[:16]


def _hash_of_processor(processor: FlamingoProcessor) -> str:
    """A short hash of the special ids, and of the ids of a text where the tokenizer takes any."""
    try:
        ids = list(processor.tokenizer.encode("Question: What is 1 + 2? Answer: a (red) cat."))
    except ValueError:  # a vocabulary of whole words
        ids = []
    told = f"{processor.special} {processor.pad_token_id} {processor.scope} {ids}"
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _sample(tensor: Tensor) -> Tensor:
    flat = tensor.detach().flatten()
    step = max(1, flat.numel() // _SAMPLED)
    return flat[::step].to("cpu", torch.float64)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
