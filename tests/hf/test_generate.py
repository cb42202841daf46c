"""`generate` of the front: all that transformers' own offers, with each item encoded once."""

import pytest
import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, TextIteratorStreamer

from flamingo_blocks.hf import FlamingoForConditionalGeneration
from flamingo_blocks.models.wider_vocabulary import wider_vocabulary
from tests.hf.tiny import END, TAG, make_images, make_lm, make_model, make_processor, make_tokenizer

TEXTS = ["<image>a photo of", "the dog", "<image>a cat <image>what is<image>"]


@pytest.fixture(scope="module")
def model() -> FlamingoForConditionalGeneration:
    model = make_model()
    model.generation_config.eos_token_id = None  # drawn weights end a text anywhere
    return model


@pytest.fixture(scope="module")
def inputs(model):
    return make_processor(model)(text=TEXTS, images=make_images(4), return_tensors="pt")


def alone(model, row: int, **options) -> Tensor:
    """What is generated for one row by itself."""
    count = [text.count("<image>") for text in TEXTS]
    images = make_images(4)[sum(count[:row]) : sum(count[: row + 1])]
    given = make_processor(model)(text=TEXTS[row], images=images or None)
    return model.generate(**given, **options)[0, given["input_ids"].shape[1] :]


OPTIONS = {
    "greedy": {},
    "beams": {"num_beams": 3},
    "several beams": {"num_beams": 3, "num_return_sequences": 2},
    "no cache": {"use_cache": False},
    "static cache": {"cache_implementation": "static", "disable_compile": True},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_row_in_a_left_padded_batch_is_continued_as_alone(model, inputs, name):
    """Rows with no image, one and several, in one batch: each gets the tokens that it gets by itself."""
    options = {"max_new_tokens": 5, "eos_token_id": None, **OPTIONS[name]}
    several = options.get("num_return_sequences", 1)
    together = model.generate(**inputs, **options)[:, inputs["input_ids"].shape[1] :]
    for row in range(len(TEXTS)):
        assert torch.equal(together[row * several], alone(model, row, **options))


def test_it_is_the_generate_of_the_model_inside(model, inputs):
    """The front gives what `Flamingo.generate` gives, for images [items 3 height width] as well."""
    expected = model.flamingo.generate(
        inputs["input_ids"],
        pixels=inputs["pixel_values"],
        attention_mask=inputs["attention_mask"],
        max_new_tokens=4,
        eos_token_id=None,
    )
    flat = {**inputs, "pixel_values": inputs["pixel_values"][:, 0]}
    assert torch.equal(model.generate(**flat, max_new_tokens=4, eos_token_id=None), expected)
    by_position = model.generate(
        flat.pop("input_ids"), GenerationConfig(max_new_tokens=4, pad_token_id=0), eos_token_id=None, **flat
    )
    assert torch.equal(by_position, expected)


def test_media_change_what_is_generated(model, inputs):
    """Other images give another text to the row that has them, and to no other row."""
    other = {**inputs, "pixel_values": inputs["pixel_values"].flip(0) * 3}
    options = {"max_new_tokens": 8, "eos_token_id": None}
    first, second = model.generate(**inputs, **options), model.generate(**other, **options)
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first, second)


@pytest.mark.parametrize("options", ({}, {"num_beams": 3}, {"do_sample": True, "num_return_sequences": 4}))
def test_each_item_is_encoded_and_projected_once(model, inputs, options):
    """The tower sees every frame once and every block projects the pool once: not for each step, beam or sample."""
    flamingo = model.flamingo
    frames, projected = [], []
    handle = flamingo.vision.register_forward_pre_hook(lambda _, args: frames.append(args[0].shape[0]))
    block = flamingo.blocks["0"].attention
    projections = block.k_proj.register_forward_pre_hook(lambda _, args: projected.append(args[0].shape[0]))
    try:
        model.generate(**inputs, max_new_tokens=4, **options)
    finally:
        handle.remove()
        projections.remove()
    assert sum(frames) == 4
    assert projected == [4]


def test_samples_are_those_of_the_seed(model, inputs):
    """Sampling follows torch's generator, and several samples of a row differ."""
    options = {"do_sample": True, "num_return_sequences": 3, "max_new_tokens": 6, "eos_token_id": None}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first = model.generate(**inputs, **options)
        torch.manual_seed(0)
        assert torch.equal(model.generate(**inputs, **options), first)
    assert first.shape[0] == 9
    assert len({tuple(row.tolist()) for row in first}) > 3


class Only(LogitsProcessor):
    """Leaves one token."""

    def __init__(self, token: int) -> None:
        self.token = token

    def __call__(self, input_ids, scores):
        return torch.full_like(scores, float("-inf")).index_fill(1, torch.tensor([self.token]), 0.0)


def test_logits_processors_and_constraints_hold(model, inputs):
    """A processor's choice and allowed tokens are what comes out, new tokens among them."""
    width = inputs["input_ids"].shape[1]
    forced = model.generate(
        **inputs, max_new_tokens=3, eos_token_id=None, logits_processor=LogitsProcessorList([Only(TAG)])
    )
    assert (forced[:, width:] == TAG).all()
    allowed = model.generate(
        **inputs, max_new_tokens=3, num_beams=2, eos_token_id=None, prefix_allowed_tokens_fn=lambda *_: [5, END]
    )
    assert set(allowed[:, width:].flatten().tolist()) <= {5, END}


def test_a_text_ends_at_the_end_of_a_chunk(model, inputs):
    """`<EOC>` ends a text with no word from the caller or beside his config, unless he says otherwise."""
    stop = LogitsProcessorList([Only(END)])
    width = inputs["input_ids"].shape[1]
    config = GenerationConfig(max_new_tokens=4, pad_token_id=0)
    assert model.generate(**inputs, max_new_tokens=4, logits_processor=stop).shape[1] == width + 1
    assert model.generate(**inputs, generation_config=config, logits_processor=stop).shape[1] == width + 1
    own = LogitsProcessorList([Only(2)])
    model.generation_config.eos_token_id = 2
    try:
        assert model.generate(**inputs, generation_config=config, logits_processor=own).shape[1] == width + 1
    finally:
        model.generation_config.eos_token_id = None
    longer = model.generate(**inputs, max_new_tokens=4, eos_token_id=None, logits_processor=stop)
    assert longer.shape[1] == width + 4


def test_the_models_own_settings_count(model, inputs):
    """What `model.generation_config` says holds, and it is what gets saved."""
    before = model.generation_config.max_new_tokens
    model.generation_config.max_new_tokens = 3
    try:
        assert model.generate(**inputs, eos_token_id=None).shape[1] == inputs["input_ids"].shape[1] + 3
        assert model.generation_config is model.flamingo.lm.generation_config
    finally:
        model.generation_config.max_new_tokens = before


def test_tokens_stream_as_they_come(model):
    """A streamer of transformers gets the text."""
    given = make_processor(model)(text="<image>a photo of", images=make_images(1))
    streamer = TextIteratorStreamer(make_tokenizer(), skip_prompt=True)
    out = model.generate(**given, max_new_tokens=4, eos_token_id=None, bad_words_ids=[[TAG], [END]], streamer=streamer)
    assert "".join(streamer).split() == make_tokenizer().decode(out[0, given["input_ids"].shape[1] :]).split()


@pytest.mark.parametrize("kind", ("front", "language model", "prompt lookup"))
def test_assisted_decoding_gives_the_same_text(model, kind):
    """Another front that sees the images, a text model or the prompt itself may guess ahead: nothing changes."""
    given = make_processor(model)(text="<image>a photo of", images=make_images(1))
    options = {"max_new_tokens": 6, "eos_token_id": 3}
    expected = model.generate(**given, **options)
    assert expected.shape[1] == given["input_ids"].shape[1] + 6
    if kind == "front":
        assistant = {"assistant_model": make_model(seed=1)}
    elif kind == "language model":
        lm = make_lm()
        lm.resize_token_embeddings(END + 1)
        assistant = {"assistant_model": lm.eval()}
    else:
        assistant = {"prompt_lookup_num_tokens": 2}
    assert torch.equal(model.generate(**given, **options, **assistant), expected)


def test_an_assistant_that_shares_the_config_is_not_counted_twice(model):
    """Nor are two calls at once: new tokens widen the vocabulary once, and it is as before at the end."""
    given = make_processor(model)(text="<image>a photo of", images=make_images(1))
    config = model.flamingo.lm.config
    assistant, seen = make_model(seed=1), []
    assistant.flamingo.lm.config = config

    class Look(LogitsProcessor):
        def __call__(self, input_ids, scores):
            seen.append(config.vocab_size)
            if len(seen) == 1:  # another call, as a second thread makes it
                with wider_vocabulary(model.flamingo.lm, 2):
                    seen.append(config.vocab_size)
            return scores

    options = {"max_new_tokens": 3, "eos_token_id": 3, "logits_processor": LogitsProcessorList([Look()])}
    model.generate(**given, **options, assistant_model=assistant)
    assert len(seen) > 1
    assert set(seen) == {TAG + 2}
    assert config.vocab_size == TAG


def test_calls_that_overlap_leave_the_vocabulary_as_it_was(model):
    """Whichever ends first, as calls in threads do."""
    lm = model.flamingo.lm
    first, second = wider_vocabulary(lm, 2), wider_vocabulary(lm, 1)
    first.__enter__()
    second.__enter__()
    assert lm.config.vocab_size == TAG + 2
    first.__exit__(None, None, None)
    assert lm.config.vocab_size == TAG + 1
    second.__exit__(None, None, None)
    assert lm.config.vocab_size == TAG


def test_an_assistant_that_has_not_seen_the_prompt_is_refused(model):
    """A front that guesses ahead places media by the text that it is given."""
    given = make_processor(model)(text="<image>a photo of", images=make_images(1))
    _, prompt = model.generate(**given, max_new_tokens=2, eos_token_id=None, return_prompt=True)
    with pytest.raises(ValueError, match="has not seen the prompt's media"):
        model.generate(torch.tensor([[5]]), prompt=prompt, assistant_model=make_model(seed=1))


def test_what_else_is_asked_for_is_given(model, inputs):
    """Scores and the like come as from every model of transformers."""
    out = model.generate(
        **inputs, max_new_tokens=2, eos_token_id=None, return_dict_in_generate=True, output_scores=True
    )
    assert out.sequences.shape == (3, inputs["input_ids"].shape[1] + 2)
    assert [score.shape for score in out.scores] == [(3, model.config.vocab_size)] * 2


def test_a_prompt_is_run_once_for_many(model):
    """`prompt=` and `return_prompt=` of `Flamingo.generate` pass through: a chat goes on where it was."""
    processor = make_processor(model)
    first = processor(text="<image>what is this ?", images=make_images(1))
    options = {"max_new_tokens": 3, "eos_token_id": None}
    out, prompt = model.generate(**first, **options, return_prompt=True)
    more = torch.tensor([[5, 6]])
    expected = model.generate(torch.cat([out, more], 1), pixel_values=first["pixel_values"], **options)
    assert torch.equal(model.generate(more, prompt=prompt, **options), expected)


def test_a_prompt_is_needed_once(model, inputs):
    """No prompt, or one by two names, is an error."""
    with pytest.raises(ValueError, match="two names"):
        model.generate()
    with pytest.raises(ValueError, match="two names"):
        model.generate(inputs["input_ids"], **inputs)
