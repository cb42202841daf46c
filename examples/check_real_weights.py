"""Run released weights through their own implementation and through ours, and compare the logits.

    python examples/check_real_weights.py idefics --checkpoint DIR
    python examples/check_real_weights.py mllama --checkpoint DIR
    python examples/check_real_weights.py open_flamingo --checkpoint FILE --language-model DIR --tower DIR --every 4

Texts and pixels are drawn, with several images a row and rows of several lengths. One model is in memory at a time.
The exit status is 0 where both compute the same, and 1 where they do not.
"""

import argparse
import gc
import importlib
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from flamingo_blocks import Flamingo, MediaLayout
from flamingo_blocks.interop import idefics_inputs, idefics_parts, load_foreign, mllama_inputs, mllama_parts
from flamingo_blocks.lm.find_layers import find_decoder_layers
from flamingo_blocks.vision import TransformersTower

PLAN = ((7, 5), (4,))  # for each row, how many words stand behind each of its images
BOUNDS = {"float32": 1e-3, "bfloat16": 5e-2}  # of the largest logit; bfloat16 has 8 bits, and the order of sums differs
CONSTANTS = re.compile(r"\.(inv_freq|masked_bias|att(ention|n)\.bias)$")  # which models of 2023 saved, and none needs
Logits = Callable[[dict[str, Any]], Tensor]


@dataclass(frozen=True)
class Check:
    """Both sides of a comparison; each builds its model only when it is called.

    Args:
        inputs: What the other implementation takes.
        theirs: Logits of that implementation.
        ours: Logits of our model.
        compared: How many words of the vocabulary are compared; the others have rows that no checkpoint holds.
    """

    inputs: dict[str, Any]
    theirs: Logits
    ours: Logits
    compared: int | None = None


def draw_text(*, tag: int, pad: int, words: int) -> dict[str, Tensor]:
    """Rows of text with images between, padded on the left."""
    noise = torch.Generator().manual_seed(0)
    low = min(10, words // 2)  # the first ids are special tokens
    rows = [
        [token for count in counts for token in [tag, *torch.randint(low, words, (count,), generator=noise).tolist()]]
        for counts in PLAN
    ]
    width = max(map(len, rows))
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows])
    real = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return {"input_ids": ids, "attention_mask": real}


def draw_pixels(*shape: int, device: str, dtype: torch.dtype) -> Tensor:
    """Pixels of each row, with black images where a row has fewer than the others."""
    pixels = torch.randn(len(PLAN), max(map(len, PLAN)), *shape, generator=torch.Generator().manual_seed(1))
    for row, counts in enumerate(PLAN):
        pixels[row, len(counts) :] = 0
    return pixels.to(device, dtype)


def check_idefics(args: argparse.Namespace, dtype: torch.dtype) -> Check:
    """IDEFICS, the first generation."""
    config = transformers.IdeficsConfig.from_pretrained(args.checkpoint)
    side = config.vision_config.image_size
    text = draw_text(tag=config.vocab_size + 1, pad=config.pad_token_id or 0, words=config.vocab_size)
    media = MediaLayout.from_tokens(text["input_ids"] == config.vocab_size + 1).mask()
    inputs = {
        **text, "image_attention_mask": media.long(),
        "pixel_values": draw_pixels(3, side, side, device=args.device, dtype=dtype),
    }  # fmt: skip

    def theirs(inputs: dict[str, Any]) -> Tensor:
        model = transformers.IdeficsForVisionText2Text.from_pretrained(args.checkpoint, dtype=dtype).to(args.device)
        return model(**inputs).logits

    def ours(inputs: dict[str, Any]) -> Tensor:
        parts = idefics_parts(args.checkpoint, dtype=dtype)
        return run_ours(load_foreign(args.checkpoint, **parts), idefics_inputs, inputs, args, dtype)

    return Check(inputs, theirs, ours)


def check_mllama(args: argparse.Namespace, dtype: torch.dtype) -> Check:
    """Llama 3.2 Vision. Every row begins with an image, for the other implementation is wrong before the first one."""
    config = transformers.MllamaConfig.from_pretrained(args.checkpoint)
    vision, tag = config.vision_config, config.image_token_index
    text = draw_text(tag=tag, pad=config.text_config.pad_token_id or 0, words=min(tag, config.text_config.vocab_size))
    shape = (vision.max_num_tiles, 3, vision.image_size, vision.image_size)
    pixels = draw_pixels(*shape, device=args.device, dtype=dtype)
    ratio = vision.supported_aspect_ratios.index([1, 1]) + 1
    media = MediaLayout.from_tokens(text["input_ids"] == tag).mask()
    exists = torch.tensor([[slot < len(counts) for slot in range(pixels.shape[1])] for counts in PLAN])
    tiles = torch.zeros(*pixels.shape[:3], dtype=torch.long)
    tiles[:, :, 0] = 1  # of an image of one tile; of an image that is none, too
    pixels = pixels * tiles[..., None, None, None].to(pixels)
    inputs = {
        **text, "pixel_values": pixels, "aspect_ratio_ids": ratio * exists.long(), "aspect_ratio_mask": tiles,
        "cross_attention_mask": media.long()[..., None] * tiles[:, None],
    }  # fmt: skip

    def theirs(inputs: dict[str, Any]) -> Tensor:
        model = transformers.MllamaForConditionalGeneration.from_pretrained(args.checkpoint, dtype=dtype)
        return model.to(args.device)(**inputs).logits

    def ours(inputs: dict[str, Any]) -> Tensor:
        parts = mllama_parts(args.checkpoint, dtype=dtype)
        return run_ours(load_foreign(args.checkpoint, **parts), mllama_inputs, inputs, args, dtype)

    return Check(inputs, theirs, ours)


def check_open_flamingo(args: argparse.Namespace, dtype: torch.dtype) -> Check:
    """open_flamingo; its language model and CLIP come as folders of transformers, the tokenizer with the former."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.language_model)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|endofchunk|>", "<image>"]})
    if tokenizer.pad_token is None:
        tokenizer.add_special_tokens({"pad_token": "<PAD>"})
    end, tag = tokenizer.convert_tokens_to_ids(["<|endofchunk|>", "<image>"])
    clip = transformers.CLIPVisionModel.from_pretrained(args.tower, dtype=dtype)
    side = clip.config.image_size
    inputs = {
        **draw_text(tag=tag, pad=tokenizer.pad_token_id, words=end),
        "pixels": draw_pixels(1, 3, side, side, device=args.device, dtype=dtype),
    }

    def language_model() -> Any:
        return transformers.AutoModelForCausalLM.from_pretrained(args.language_model, dtype=dtype)

    def theirs(inputs: dict[str, Any]) -> Tensor:
        model = build_open_flamingo(language_model(), clip, every=args.every, end=end, tag=tag, rows=len(tokenizer))
        fill_open_flamingo(model, args.checkpoint)
        for weight in model.parameters():
            weight.data = weight.data.to(dtype)
        model = model.eval().to(args.device)
        return model(inputs["pixels"], inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits

    def ours(inputs: dict[str, Any]) -> Tensor:
        lm = language_model()
        if len(tokenizer) <= lm.get_input_embeddings().num_embeddings:  # it cut the unused rows of the table off
            lm.resize_token_embeddings(len(tokenizer))
        model = load_foreign(
            args.checkpoint, family="open_flamingo", lm=lm, vision=TransformersTower(clip), media_token_id=tag,
            end_token_id=end, every=args.every, resampler_depth=6,  # its factory makes no other
        )  # fmt: skip
        return run_ours(model, open_flamingo_inputs, inputs, args, dtype)

    return Check(inputs, theirs, ours, compared=end)


def open_flamingo_inputs(flamingo: Flamingo, *, pixels: Tensor, **text: Tensor) -> dict[str, Any]:
    """Images taken out of their padding."""
    counts = (text["input_ids"] == flamingo.media_token_id).sum(1)
    exists = torch.arange(pixels.shape[1], device=pixels.device) < counts[:, None]
    return {**text, "pixels": pixels[exists]}


def build_open_flamingo(lm: Any, clip: nn.Module, *, every: int, end: int, tag: int, rows: int) -> Any:
    """open_flamingo's model, as its factory builds it."""
    source = load_open_flamingo()
    layers = find_decoder_layers(lm).name
    source["utils"].extend_instance(lm, source["flamingo_lm"].FlamingoLMMixin)
    lm.set_decoder_layers_attr_name(layers)
    lm.resize_token_embeddings(rows)
    width = clip.config.hidden_size
    tower = SimpleNamespace(visual=PatchesOnly(clip))
    return source["flamingo"].Flamingo(tower, lm, end, tag, vis_dim=width, cross_attn_every_n_layers=every)


def fill_open_flamingo(model: Any, checkpoint: str) -> None:
    """Load its checkpoint into it; left to itself it takes what fits and says nothing of the rest."""
    state = torch.load(checkpoint, weights_only=True, map_location="cpu")
    state = state.get("model_state_dict", state)
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    head = "lang_encoder.embed_out.weight"  # GPT-NeoX called it so before transformers 5
    if head in state and head not in model.state_dict():
        state["lang_encoder.lm_head.weight"] = state.pop(head)
    missing, unexpected = model.load_state_dict(state, strict=False)
    lost = [name for name in missing if name.startswith("perceiver.") or ".gated_cross_attn_layer." in name]
    more = [name for name in unexpected if not CONSTANTS.search(name)]
    if lost or more:
        raise SystemExit(f"the checkpoint does not fit: it lacks {lost[:3]}, and has {more[:3]} more")


class PatchesOnly(nn.Module):
    """What open_flamingo wants of a tower: a pair of the pooled and the patch features, these without a final norm."""

    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, pixels: Tensor) -> tuple[None, Tensor]:
        """Patches without the class token."""
        return None, self.clip(pixel_values=pixels).last_hidden_state[:, 1:]


def load_open_flamingo() -> dict[str, ModuleType]:
    """Its files by their path: the package itself wants vision libraries that the model does not need."""
    found = find_spec("open_flamingo")
    if found is None or found.origin is None:
        raise SystemExit(
            "open_flamingo is not installed: pip install --no-deps open-flamingo==2.0.1 einops-exts==0.0.4"
        )
    package = sys.modules.setdefault("open_flamingo_files", ModuleType("open_flamingo_files"))
    package.__path__ = [str(Path(found.origin).parent / "src")]
    return {
        name: importlib.import_module(f"{package.__name__}.{name}") for name in ("utils", "flamingo_lm", "flamingo")
    }


def run_ours(
    flamingo: Flamingo, inputs_for: Callable[..., dict[str, Any]], inputs: dict[str, Any], args: argparse.Namespace,
    dtype: torch.dtype,
) -> Tensor:  # fmt: skip
    """Logits of our model."""
    for weight in flamingo.parameters():  # not `.to(dtype)`, which would round rotary frequencies too
        weight.data = weight.data.to(dtype)
    flamingo = flamingo.to(args.device)
    return flamingo(**inputs_for(flamingo, **inputs)).logits


def compare(check: Check, *, device: str, bound: float) -> bool:
    """Run both, one after the other, and print how far they are apart."""
    inputs = {name: value.to(device) for name, value in check.inputs.items()}
    real = check.inputs["attention_mask"].bool()
    results = []
    with torch.no_grad():
        for name, run in (("their model", check.theirs), ("our model", check.ours)):
            print(f"{name} ...", flush=True)
            results.append(run(inputs).float().cpu()[real][:, : check.compared])
            gc.collect()
    theirs, ours = results
    words = min(theirs.shape[1], ours.shape[1])
    difference, largest = (theirs[:, :words] - ours[:, :words]).abs().max(), theirs.abs().max()
    same = int((theirs[:, :words].argmax(1) == ours[:, :words].argmax(1)).sum())
    print(f"largest logit       {largest:.3g}")
    print(f"largest difference  {difference:.3g}, wanted {bound * largest:.3g} at most")
    print(f"same first choice   at {same} of {len(theirs)} tokens")
    agrees = bool(difference <= bound * largest)  # NaN is no agreement
    print("THE SAME" if agrees else "NOT THE SAME")
    return agrees


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, compare, and give the exit status."""
    checks = {"idefics": check_idefics, "mllama": check_mllama, "open_flamingo": check_open_flamingo}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=checks)
    parser.add_argument("--checkpoint", required=True, help="the folder; for open_flamingo the file checkpoint.pt")
    parser.add_argument("--language-model", help="open_flamingo: folder of its language model and tokenizer")
    parser.add_argument("--tower", help="open_flamingo: folder of its CLIP")
    parser.add_argument("--every", type=int, default=1, help="open_flamingo: a block for so many layers")
    parser.add_argument("--dtype", choices=BOUNDS, default="float32")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(arguments)
    if args.family == "open_flamingo" and not (args.language_model and args.tower):
        parser.error("open_flamingo needs --language-model and --tower")
    check = checks[args.family](args, getattr(torch, args.dtype))
    return 0 if compare(check, device=args.device, bound=BOUNDS[args.dtype]) else 1


if __name__ == "__main__":
    sys.exit(main())
