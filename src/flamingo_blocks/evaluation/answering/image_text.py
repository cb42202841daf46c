"""What stands for an image in the texts of a model of transformers."""

from typing import Any

_FIRST, _SECOND = "what stands before", "what stands behind"


def image_text_of(processor: Any) -> str | None:
    """What a processor wants where an image is: what its chat template writes there, or its `image_token`.

    The template comes first, for some processors want something else than their token: Qwen2-VL wants it between two
    others, Gemma 3 wants the begin of an image and writes the token itself.

    Args:
        processor: The processor of a checkpoint.

    Returns:
        The text, or None where neither tells it.

    Example:
        >>> class Processor:
        ...     image_token = "<|image_pad|>"
        ...     chat_template = "{% for part in messages[0].content %}..."
        ...
        ...     def apply_chat_template(self, turns, tokenize):
        ...         return "".join(part.get("text", "<|vision_start|><|image_pad|>") for part in turns[0]["content"])
        >>> image_text_of(Processor())
        '<|vision_start|><|image_pad|>'
    """
    return _of_template(processor) or getattr(processor, "image_token", None)


def _of_template(processor: Any) -> str:
    """What stands between two texts with an image between them; nothing where a template puts images elsewhere."""
    if not getattr(processor, "chat_template", None):
        return ""
    content = [{"type": "text", "text": _FIRST}, {"type": "image"}, {"type": "text", "text": _SECOND}]
    try:
        written = str(processor.apply_chat_template([{"role": "user", "content": content}], tokenize=False))
    except Exception:  # noqa: BLE001 - templates raise what they like, as at a turn of several parts
        return ""
    between, found, _ = written.partition(_FIRST)[2].partition(_SECOND)
    return between.strip() if found else ""
