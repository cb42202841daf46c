"""Qwen2-VL, whose processor needs torchvision and whose positions have three axes, is asked as LLaVA is."""

import pytest
import torch

from flamingo_blocks.data import InterleavedDocument
from flamingo_blocks.evaluation import EvalConfig, evaluate_model
from flamingo_blocks.evaluation.answering import TransformersModel
from tests.evaluation.answering.asked_by_hand import by_hand, prompt_of
from tests.evaluation.answering.tiny_models import TEXT, make_tokenizer
from tests.evaluation.runner.runs import make_tasks

pytestmark = pytest.mark.adapters
IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"


@pytest.fixture(scope="module")
def made():
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torchvision", reason="run by `nox -s adapters`")
    tokenizer = make_tokenizer("<|image_pad|>", "<|vision_start|>", "<|vision_end|>", "<|video_pad|>")
    ids = tokenizer.convert_tokens_to_ids
    torch.manual_seed(0)
    config = transformers.Qwen2VLConfig(
        text_config={
            **TEXT, "vocab_size": len(tokenizer), "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [1, 1, 2]},
        },
        vision_config={
            "depth": 2, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "patch_size": 4, "spatial_merge_size": 2,
            "temporal_patch_size": 2, "mlp_ratio": 2,
        },
        image_token_id=ids("<|image_pad|>"), video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"), vision_end_token_id=ids("<|vision_end|>"),
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    sizes = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2, "min_pixels": 64, "max_pixels": 256}
    processor = transformers.Qwen2VLProcessor(
        transformers.Qwen2VLImageProcessor(**sizes), tokenizer, transformers.Qwen2VLVideoProcessor(**sizes)
    )
    return transformers.Qwen2VLForConditionalGeneration(config).eval(), processor


@torch.no_grad()
@pytest.mark.parametrize("size", (1, 3))
def test_candidates_have_the_log_probabilities_of_whole_texts(made, size):
    """In batches of any size, each is the sum over its tokens behind the prompt, as computed by hand."""
    prompt, candidates = prompt_of(["a", "bc"], "Output:"), [" a", " long one", " b"]
    (found,) = TransformersModel(*made, image_text=IMAGE, batch_size=size).score([prompt], [candidates])
    wanted = [by_hand(*made, prompt, candidate, image=IMAGE) for candidate in candidates]
    assert list(found.num_tokens) == [tokens for _, tokens in wanted]
    assert found.log_probs == pytest.approx([value for value, _ in wanted], abs=1e-4)


def test_greedy_answers_do_not_depend_on_the_batch(made):
    """Prompts of other lengths, and ones without images, run side by side and give what each gives alone."""
    prompts = [prompt_of(["a"] * count, "Output:") for count in (0, 3, 1)]
    prompts.insert(1, InterleavedDocument.from_parts(["Output: b\nOutput:"]))
    options = {"num_beams": 1, "length_penalty": 0.0, "max_new_tokens": 4}
    alone, together = (
        TransformersModel(*made, image_text=IMAGE, batch_size=size).write(prompts, **options) for size in (1, 4)
    )
    assert [each.ids for each in alone] == [each.ids for each in together]


def test_it_runs_through_the_runner(made):
    """Open and closed tasks, with a control, give a score for each cell."""
    config = EvalConfig(shots=(1,), seeds=(0,), controls=("blind",), bootstrap=0, max_new_tokens=3, num_queries=2)
    result = evaluate_model(TransformersModel(*made, image_text=IMAGE), make_tasks(), config)
    assert {cell.counts["asked"] for cell in result.cells if cell.control in ("none", "blind")} == {2}
