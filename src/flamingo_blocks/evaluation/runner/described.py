"""What was run, in plain values: what `results.json` says, and what tells one run from another."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.answering import EvaluatedModel
from flamingo_blocks.evaluation.runner.config import EvalConfig
from flamingo_blocks.evaluation.runner.prepare import PreparedTask, hash_of_items
from flamingo_blocks.evaluation.tasks import TASKS

# What may differ between two calls for one folder: it says how much is asked, and how fast, not what is answered.
_MAY_DIFFER = (
    "shots", "seeds", "controls", "control_shots", "num_queries", "memory_bytes", "media_bytes", "max_rows",
    "bootstrap", "max_missing",
)  # fmt: skip


def describe_run(
    model: EvaluatedModel,
    prepared: Sequence[PreparedTask],
    config: EvalConfig,
    *,
    name: str | None,
) -> dict[str, Any]:
    """The model, the settings and the machine.

    Args:
        model: The model.
        prepared: The tasks.
        config: What decides the run.
        name: What the report calls the model.

    Raises:
        EvaluationError: If the model does not say what tells it from others.
    """
    told = dict(model.describe())
    if lacking := [key for key in ("name", "weights", "processor") if not isinstance(told.get(key), str)]:
        raise EvaluationError(
            f"{type(model).__name__}.describe() gives {lacking[0]}={told.get(lacking[0])!r}, wanted a text, which "
            "answers are kept under"
        )
    device = told.pop("device", None)
    return {
        "model": told | {"name": name or told["name"]},
        "settings": {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(config).items()},
        "tasks": {
            each.task.name: {"version": each.task.version, "support": hash_of_items(each.support)} for each in prepared
        },
        "versions": {
            "flamingo_blocks": _version("flamingo-blocks"), "torch": str(torch.__version__),
            "transformers": _version("transformers"), "python": platform.python_version(),
        },
        "device": device,
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


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
