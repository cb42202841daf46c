"""Vision-language models of transformers, asked by the same prompts as a Flamingo."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from flamingo_blocks._optional import require
from flamingo_blocks.data import InterleavedDocument, TextSegment
from flamingo_blocks.data.documents import MediaSegment
from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.answering.hash_of_weights import hash_of_weights
from flamingo_blocks.evaluation.answering.image_text import image_text_of
from flamingo_blocks.evaluation.answering.pictures import pictures_of
from flamingo_blocks.evaluation.answering.vision_language_model import VisionLanguageModel
from flamingo_blocks.evaluation.decode import CandidateScores, Written
from flamingo_blocks.evaluation.decode.context_length import context_length
from flamingo_blocks.evaluation.decode.num_alike import num_alike
from flamingo_blocks.models.call_language_model import accepts
from flamingo_blocks.models.eval_mode import eval_mode
from flamingo_blocks.vision import VisionTower
from flamingo_blocks.vision.tower import floating_state

_BORDER = 32  # tokens at the end of a prompt that may be others once more text follows: far more than any tokenizer
_SENTENCE = "Question: What is 1 + 2? Answer: a (red) cat."


class TransformersModel(VisionLanguageModel):
    """A model of `AutoModelForImageTextToText` that reads images where their placeholders stand in its text.

    LLaVA, Idefics2 and 3, SmolVLM, Qwen2-VL and their like. A prompt is one text, in which each image, and each frame
    of a clip, has a placeholder. Every query is run with all of its shots, and each candidate behind a copy of that: it
    takes far longer than a Flamingo of the same size, and nothing is assumed of the model.

    Args:
        model: The model, in a dtype and on a device of your choice.
        processor: The processor of its checkpoint.
        end_of_shot: What stands behind the answer of a shot, and ends an answer.
        image_text: What stands in the text for an image; by default what the chat template has there, or the
            `image_token` of the processor.
        chat: Whether the prompt is the one turn of a user in the processor's chat template, as instruction-tuned models
            want it; images stay where they are between the texts, even if the template would put them first. Otherwise
            it is plain text, as pretrained ones do.
        batch_size: Texts at once. Open answers of several have pads before them, which in half precision can make
            another answer of one; candidates have none.
        tower: Tells how alike images are, for shots chosen by RICES.

    Raises:
        EvaluationError: If the model has an encoder of text, the processor has no placeholder, or an argument cannot be
            meant; as it scores, if it sees what follows the token that it is to predict.

    Example:
        ```python
        from transformers import AutoModelForImageTextToText, AutoProcessor

        name = "HuggingFaceTB/SmolVLM-Base"
        model = TransformersModel(
            AutoModelForImageTextToText.from_pretrained(name, dtype="bfloat16", device_map="auto"),
            AutoProcessor.from_pretrained(name),
        )
        evaluate_model(model, [task], EvalConfig(shots=(0, 4)))
        ```
    """

    def __init__(
        self,
        model: nn.Module,
        processor: Any,
        *,
        end_of_shot: str = "\n",
        image_text: str | None = None,
        chat: bool = False,
        batch_size: int = 1,
        tower: VisionTower | None = None,
    ) -> None:
        self.model, self.processor = model, processor
        self.end_of_shot, self.chat, self.batch_size, self.tower = end_of_shot, chat, batch_size, tower
        self.image_text = image_text_of(processor) if image_text is None else image_text
        self.max_tokens = context_length(model)
        self._check()
        self._identity: str | None = None

    @property
    def identity(self) -> str:
        """A hash of the weights."""
        if self._identity is None:
            self._identity = hash_of_weights(self.model)
        return self._identity

    def describe(self) -> dict[str, Any]:
        """Its class, the number and hash of its weights, and a hash of what makes its prompts, images included."""
        name, ids = type(self.model).__name__, self._tokenizer(_SENTENCE)["input_ids"]
        template = getattr(self.processor, "chat_template", None) if self.chat else None
        images = getattr(getattr(self.processor, "image_processor", None), "to_json_string", str)()
        told = f"{self.end_of_shot!r} {self.image_text!r} {self.chat} {template!r} {images} {list(ids)}"
        return {
            "name": name,
            "language_model": name,
            "tokenizer": type(self._tokenizer).__name__,
            "processor": hashlib.sha256(told.encode()).hexdigest()[:16],
            "parameters": sum(weight.numel() for weight in self.model.parameters()),
            "weights": self.identity,
            "device": str(self._device),
        }

    def at_rest(self) -> AbstractContextManager[None]:
        """In eval mode; each part is put back into its own mode."""
        return eval_mode(self.model)

    def tokens(self, prompt: InterleavedDocument) -> int:
        """Tokens of a prompt, those of its images included.

        Args:
            prompt: Shots and query, with pictures of pillow.
        """
        return int(self._inputs([prompt], [""], side="right")["input_ids"].shape[1])

    @torch.no_grad()
    def write(
        self, prompts: Sequence[InterleavedDocument], *, num_beams: int, length_penalty: float, max_new_tokens: int
    ) -> list[Written]:
        """Answer prompts by the model's own `generate`, and by nothing of the search that its checkpoint is set to.

        Args:
            prompts: Shots and query each, with pictures of pillow.
            num_beams: Beams.
            length_penalty: Of beams.
            max_new_tokens: Most tokens.
        """
        config = self._generation(num_beams=num_beams, length_penalty=length_penalty, max_new_tokens=max_new_tokens)
        found: dict[int, Written] = {}
        for numbers in self._batches(prompts):
            inputs = self._inputs([prompts[number] for number in numbers], [""] * len(numbers), side="left")
            with _no_settings_of_its_own(self.model):
                ids = self.model.generate(**inputs, generation_config=config, tokenizer=self._tokenizer)  # type: ignore[operator]
            width = inputs["input_ids"].shape[1]
            if ids.shape[1] >= width and torch.equal(ids[:, :width], inputs["input_ids"]):
                ids = ids[:, width:]  # some give the prompt back, some do not
            for number, row in zip(numbers, ids.tolist(), strict=True):
                found[number] = self._written(row, config)
        return [found[number] for number in range(len(prompts))]

    @torch.no_grad()
    def score(
        self, prompts: Sequence[InterleavedDocument], candidates: Sequence[Sequence[str]]
    ) -> list[CandidateScores]:
        """Run each candidate behind its prompt; its tokens are those of both together, less those before it.

        Args:
            prompts: Shots and query each, with pictures of pillow.
            candidates: Texts that follow.

        Raises:
            EvaluationError: If the tokens of a prompt are others once a candidate follows, or the model sees what it
                is to predict.
        """
        return [self._scored(prompt, texts) for prompt, texts in zip(prompts, candidates, strict=True)]

    def _scored(self, prompt: InterleavedDocument, texts: Sequence[str]) -> CandidateScores:
        alone = self._inputs([prompt], [""], side="right")["input_ids"][0].tolist()
        first = max(len(alone) - _BORDER, 1)  # no candidate changes the tokens of its prompt before this one
        rows: list[list[float]] = []
        kept = len(alone)
        for start in range(0, len(texts), self.batch_size):
            some = texts[start : start + self.batch_size]
            inputs = self._inputs([prompt] * len(some), some, side="right")
            kept = min(kept, *(num_alike(alone, ids) for ids in inputs["input_ids"].tolist()))
            rows += self._log_probs(inputs, first)
        lengths = [len(row) + first - kept for row in rows]
        if kept < first or min(lengths) < 1:
            raise EvaluationError(
                f"{type(self.processor).__name__} writes {len(alone)} tokens of a prompt, of which {kept} stay once "
                f"candidates follow, that have {min(lengths)} tokens then; wanted tokens of the prompt, then some of "
                "each candidate"
            )
        self._check_causal([row[: kept - first] for row in rows])
        # Sums of different beginnings could not be compared, so what one candidate changes is scored for all of them.
        sums = tuple(sum(row[kept - first :]) for row in rows)
        return CandidateScores(log_probs=sums, num_tokens=tuple(lengths))

    def _check_causal(self, prompts: Sequence[Sequence[float]]) -> None:
        """Refuse a model to which the tokens of a prompt are more or less likely by what follows them.

        A mask that looks ahead (PaliGemma) and images that are read with the text in mind (InstructBLIP) show each
        candidate to the model before it is asked how likely that is.
        """
        bound = 1e-2 if self._dtype in (torch.float32, torch.float64) else 0.5
        far = max((max(values) - min(values) for values in zip(*prompts, strict=True)), default=0.0)
        if far > bound:
            raise EvaluationError(
                f"{type(self.model).__name__} finds tokens of a prompt more likely before one candidate than before "
                f"another, by {far:.2g}: it sees what it is to predict; write a VisionLanguageModel for it"
            )

    def _log_probs(self, inputs: dict[str, Tensor], first: int) -> list[list[float]]:
        """Log-probabilities of the tokens of each row, pads left out, from one column on."""
        ids: Int[Tensor, "batch text"] = inputs["input_ids"]
        keep = ids.shape[1] - first + 1
        options = {"logits_to_keep": keep} if accepts(self.model, "logits_to_keep") else {}
        logits: Float[Tensor, "batch kept vocab"] = self.model(**inputs, **options, use_cache=False).logits[:, -keep:]
        chosen = logits[:, :-1].float().log_softmax(-1).gather(-1, ids[:, first:, None])[..., 0].cpu().double()
        lengths = (inputs["attention_mask"].sum(1) - first).tolist()
        return [row[:length] for row, length in zip(chosen.tolist(), lengths, strict=True)]

    def _inputs(self, prompts: Sequence[InterleavedDocument], behind: Sequence[str], *, side: str) -> dict[str, Tensor]:
        texts = [self._text(prompt) + text for prompt, text in zip(prompts, behind, strict=True)]
        images = [[picture for medium in prompt.media for picture in pictures_of(medium)] for prompt in prompts]
        begin = self._tokenizer.bos_token
        begun = begin is not None and texts[0].startswith(begin)  # by a chat template
        made = self.processor(
            text=texts, images=images if any(images) else None, padding=len(texts) > 1, padding_side=side,
            add_special_tokens=not begun, return_tensors="pt",
        )  # fmt: skip
        return {
            key: value.to(self._device, self._dtype if value.is_floating_point() else None)
            for key, value in made.items()
        }

    def _text(self, prompt: InterleavedDocument) -> str:
        text = "".join(
            self._without_tags(part.text) if isinstance(part, TextSegment) else self._tags(part)
            for part in prompt.segments
        )
        if not self.chat:
            return text
        # One text, for templates put the images of a turn before its texts (LLaVA), or trim each text (Gemma 3).
        turns = [{"role": "user", "content": [{"type": "text", "text": text}]}]
        return str(self.processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False))

    def _tags(self, medium: MediaSegment) -> str:
        return str(self.image_text) * len(pictures_of(medium))

    def _without_tags(self, text: str) -> str:
        """A text in which nothing reads as an image or another special token, but the end of a shot."""
        for tag in {str(self.image_text), *self._tokenizer.all_special_tokens} - {self.end_of_shot}:
            text = text.replace(tag, " ")
        return text

    def _batches(self, prompts: Sequence[InterleavedDocument]) -> list[list[int]]:
        """Numbers of prompts that run together: those with images, and those without."""
        found = []
        for some in (True, False):
            numbers = [number for number, prompt in enumerate(prompts) if bool(prompt.media) == some]
            found += [numbers[start : start + self.batch_size] for start in range(0, len(numbers), self.batch_size)]
        return found

    def _generation(self, **options: Any) -> Any:
        made = require("transformers", used_by="TransformersModel", extra="hf").GenerationConfig
        own = getattr(self.model, "generation_config", None)
        ids = {name: getattr(own, name, None) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        if ids["pad_token_id"] is None:
            ids["pad_token_id"] = self._tokenizer.pad_token_id
        if ids["eos_token_id"] is None:
            ids["eos_token_id"] = self._tokenizer.eos_token_id
        if options["num_beams"] == 1:
            del options["length_penalty"]  # of which it would warn
        return made(do_sample=False, stop_strings=[self.end_of_shot], **ids, **options)

    def _written(self, row: list[int], config: Any) -> Written:
        ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
        place = next((place for place, token in enumerate(row) if token in ends), None)
        ids = row if place is None else row[: place + 1]
        while place is None and ids and ids[-1] == config.pad_token_id:  # behind an answer that its end stopped
            ids = ids[:-1]
        said = ids if place is None else ids[:-1]
        text = self._tokenizer.decode(said, skip_special_tokens=True)
        if self.end_of_shot in self._tokenizer.decode(said):  # which may be a special token
            return Written(text=text, ids=tuple(ids), stopped_by="end_of_chunk")
        return Written(text=text, ids=tuple(ids), stopped_by="length" if place is None else "end_of_text")

    @property
    def _tokenizer(self) -> Any:
        return self.processor.tokenizer

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def _dtype(self) -> torch.dtype:
        weight = floating_state(self.model)  # the first weight of a quantised model may be one of bytes
        return torch.float32 if weight is None else weight.dtype

    def _check(self) -> None:
        name = type(self.model).__name__
        if getattr(getattr(self.model, "config", None), "is_encoder_decoder", False):
            raise EvaluationError(f"{name} has an encoder of text; write a VisionLanguageModel for it")
        if not accepts(self.model, "pixel_values"):
            raise EvaluationError(f"{name} takes no pixel_values: it reads no images; pass a vision-language model")
        if not hasattr(self.processor, "tokenizer"):
            raise EvaluationError(
                f"processor is a {type(self.processor).__name__} without a tokenizer; pass the AutoProcessor of {name}"
            )
        if not self.image_text:
            raise EvaluationError(
                f"{type(self.processor).__name__} has no image_token; pass image_text, what stands for an image"
            )
        if self.chat and not getattr(self.processor, "chat_template", None):
            raise EvaluationError(
                f"chat is True, but {type(self.processor).__name__} has no chat template; leave it out, or give the "
                "processor one"
            )
        if self.batch_size < 1:
            raise EvaluationError(f"batch_size is {self.batch_size}, wanted 1 or more")
        if not self.end_of_shot:
            raise EvaluationError('end_of_shot is "", wanted what stands behind an answer, such as a new line')


@contextmanager
def _no_settings_of_its_own(model: Any) -> Iterator[None]:
    """Without the checkpoint's settings, which `generate` puts wherever its caller's say nothing."""
    own = getattr(model, "generation_config", None)
    if own is None:
        yield
        return
    model.generation_config = type(own)()
    try:
        yield
    finally:
        model.generation_config = own
