"""The reference Flamingo in transformers' form; importing this registers it with the Auto classes.

`AutoModelForImageTextToText.from_pretrained(folder)` and `pipeline("image-text-to-text", model=folder)` then load what
`FlamingoForConditionalGeneration.save_pretrained` wrote, without `trust_remote_code`.
"""

from flamingo_blocks._optional import require

_transformers = require("transformers", used_by="flamingo_blocks.hf", extra="hf")

from flamingo_blocks.hf.configuration import FlamingoConfig  # noqa: E402 - only where transformers is installed
from flamingo_blocks.hf.forward import FlamingoCausalLMOutput  # noqa: E402
from flamingo_blocks.hf.modeling import FlamingoForConditionalGeneration  # noqa: E402
from flamingo_blocks.hf.processing import FlamingoProcessor  # noqa: E402

__all__ = ["FlamingoCausalLMOutput", "FlamingoConfig", "FlamingoForConditionalGeneration", "FlamingoProcessor"]

_transformers.AutoConfig.register(FlamingoConfig.model_type, FlamingoConfig, exist_ok=True)
for _name in ("AutoModel", "AutoModelForImageTextToText", "AutoModelForMultimodalLM"):
    getattr(_transformers, _name).register(FlamingoConfig, FlamingoForConditionalGeneration, exist_ok=True)
_transformers.AutoProcessor.register(FlamingoConfig, FlamingoProcessor, exist_ok=True)
