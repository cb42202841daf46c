"""The README.md that a saved model gets."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from flamingo_blocks._version import __version__

if TYPE_CHECKING:
    from flamingo_blocks.hf.modeling import FlamingoForConditionalGeneration

# A card without this line is somebody's own, and is kept.
MARK = "<!-- Written by flamingo_blocks and written anew with each save; remove this line to keep your own text. -->"

_USAGE = [
    "## Use it",
    "",
    f'Written with flamingo_blocks {__version__}; from a clone: `pip install ".[hf,vision]"`.',
    "",
    "```python",
    "import flamingo_blocks.hf  # registers the model with the Auto classes",
    "from transformers import AutoModelForImageTextToText, AutoProcessor",
    "",
    'folder = "."  # where this file is',
    "model = AutoModelForImageTextToText.from_pretrained(folder)",
    "processor = AutoProcessor.from_pretrained(folder)  # where one was saved too",
    'inputs = processor(text="<image>A picture of", images=["picture.png"])',
    "print(processor.batch_decode(model.generate(**inputs, max_new_tokens=20)))",
    "```",
]


def write_model_card(model: "FlamingoForConditionalGeneration", directory: str | os.PathLike[str]) -> None:
    """Write what a reader of a saved model wants to know, unless the folder has a card of somebody's own.

    Args:
        model: The model.
        directory: The folder.
    """
    path = Path(directory) / "README.md"
    if not path.exists() or MARK in path.read_text(encoding="utf-8"):
        path.write_text(model_card(model), encoding="utf-8")


def model_card(model: "FlamingoForConditionalGeneration") -> str:
    """The text of the card: parts and sizes, gates, and how to load the model.

    Args:
        model: The model.

    Returns:
        Markdown with the front matter that model hubs read.
    """
    config = model.config
    bases = [name for name in config.base_models.values() if not Path(name).is_absolute()]
    front = [
        "---",
        "library_name: transformers",
        "pipeline_tag: image-text-to-text",
        "tags: [flamingo, flamingo-blocks]",
        *(["base_model:", *(f"- {name}" for name in bases)] if bases else []),
        "license: other # say under which licence you share it, and keep to those of the base models",
        "---",
    ]
    return "\n".join([*front, MARK, "", "# A Flamingo", "", *_parts(model), "", *_gates(model), "", *_USAGE, ""])


def _parts(model: "FlamingoForConditionalGeneration") -> list[str]:
    flamingo, config = model.flamingo, model.config
    parts = {"vision": "vision tower", "resampler": "resampler", "projection": "projection", "blocks": "gated blocks",
             "token_rows": "rows of new tokens", "lm": "language model"}  # fmt: skip
    lines = ["| Part | Class | Parameters | Trained | From |", "|---|---|---|---|---|"]
    for name, title in parts.items():
        part = getattr(flamingo, name)
        if isinstance(part, nn.Module):
            weights = list(part.parameters())
            trained = sum(weight.numel() for weight in weights if weight.requires_grad)
            total = sum(weight.numel() for weight in weights)
            source = config.base_models.get(name, "")
            lines.append(f"| {title} | `{_kind(part)}` | {total:,} | {trained:,} | {source} |")
    layers = ", ".join(flamingo.blocks)
    return [
        *lines,
        "",
        f"Gated blocks stand before the layers {layers} of the language model.",
        f"The media tag is token {config.media_token_id}, the end of a chunk token {config.end_token_id}.",
        f"{config.num_new_tokens} tokens are new; their rows stand beside the table of the language model.",
    ]


def _kind(part: nn.Module) -> str:
    inner: Any = getattr(part, "model", None)
    if isinstance(part, nn.ModuleDict):
        return type(next(iter(part.values()))).__name__ if len(part) else "none"
    name = type(part).__name__
    return f"{name}({type(inner).__name__})" if isinstance(inner, nn.Module) else name


def _gates(model: "FlamingoForConditionalGeneration") -> list[str]:
    """How far each gate is open: the mean size of its tanh."""
    lines = ["| Layer | Attention gate | Feed-forward gate |", "|---|---|---|"]
    for layer, block in model.flamingo.blocks.items():
        gates = [getattr(getattr(block, name, None), "gate", None) for name in ("attention_gate", "feed_forward_gate")]
        values = ["" if gate is None else f"{float(gate.detach().float().tanh().abs().mean()):.4f}" for gate in gates]
        lines.append(f"| {layer} | {' | '.join(values)} |")
    return ["Gates are shut at 0, where the model is its language model, and open at 1.", "", *lines]
