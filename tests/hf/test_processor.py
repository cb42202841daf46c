"""The processor in transformers' form: names, nestings, chats."""

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers.processors import TemplateProcessing
from transformers import AutoProcessor

from flamingo_blocks.hf import FlamingoProcessor
from flamingo_blocks.vision import NaFlexPreprocess
from tests.hf.tiny import END, SIDE, TAG, make_images, make_model, make_processor, make_tokenizer


@pytest.fixture(scope="module")
def processor() -> FlamingoProcessor:
    return make_processor(make_model())


def test_a_batch_is_that_of_the_processor_inside(processor):
    """Text with tags and images in order become what rows of text and images become."""
    first, second, third = make_images(3)
    batch = processor(
        text=["<image>a cat", "the dog", "red<image>two<image>"], images=[first, second, third], return_tensors="pt"
    )
    expected = processor.rows([[first, "a cat"], ["the dog"], ["red", second, "two", third]])
    assert torch.equal(batch["input_ids"], expected.input_ids)
    assert torch.equal(batch["attention_mask"], expected.attention_mask.long())
    assert torch.equal(batch["pixel_values"], expected.pixels)
    assert batch["pixel_values"].shape == (3, 1, 3, SIDE, SIDE)
    assert sorted(batch) == ["attention_mask", "input_ids", "pixel_values"]
    assert processor(text="the dog").keys() == {"input_ids", "attention_mask"}


def test_images_may_be_nested_by_row(processor):
    """One image, a flat list, and a list for each row give the same batch."""
    first, second = make_images(2)
    text = ["<image>a", "the", "<image>cat"]
    flat, nested = (processor(text=text, images=images) for images in ([first, second], [[first], [], [second]]))
    assert torch.equal(flat["pixel_values"], nested["pixel_values"])
    single = [processor(text="<image>a", images=images)["pixel_values"] for images in (first, [first], [[first]])]
    assert all(torch.equal(pixels, single[0]) for pixels in single)


def test_every_kind_of_image_is_read(processor, tmp_path):
    """Tensor, array, PIL image, bytes, path and the path as text are one image."""
    (tensor,) = make_images(1)
    array = tensor.permute(1, 2, 0).numpy()
    path = tmp_path / "image.png"
    Image.fromarray(array).save(path)
    kinds = [tensor, np.ascontiguousarray(array), Image.fromarray(array), path.read_bytes(), path, str(path)]
    pixels = [processor(text="<image>", images=[kind])["pixel_values"] for kind in kinds]
    assert all(torch.equal(one, pixels[0]) for one in pixels)


def test_clips_stand_among_images_or_by_themselves(processor):
    """A clip is a list inside a row's list, or comes as `videos=` at its `<video>`; frames are padded and flagged."""
    first, second, third = make_images(3)
    among = processor(text=["<image>a<image>cat"], images=[[[first, second], third]])
    assert torch.equal(among["frame_valid"], torch.tensor([[True, True], [True, False]]))
    named = processor(text=["<video>a<image>cat"], images=[third], videos=[[first, second]])
    tensor = processor(text="<video>a<image>cat", images=third, videos=[[torch.stack([first, second])]])
    for other in (named, tensor):
        assert all(torch.equal(other[name], among[name]) for name in among)


def test_rows_for_training_have_labels(processor):
    """Rows are closed and padded on the right, labels leave out tags and pads."""
    batch = processor(text=["<image>a cat", "the"], images=make_images(1), for_training=True)
    assert batch["input_ids"].tolist() == [[TAG, 4, 6, END, 2], [5, END, 2, 0, 0]]
    assert batch["labels"].tolist() == [[-100, 4, 6, END, 2], [5, END, 2, -100, -100]]


@pytest.mark.parametrize(
    ("given", "said"),
    (
        ({"text": None}, "text is None"),
        ({"images": "<image>a"}, "text is None and images hold strings: the first argument is images; pass text="),
        ({"images": "<image>a", "text": make_images(1)}, "text holds a Tensor, wanted .* images= comes before text="),
        ({"text": "a", "return_tensors": "np"}, "'np'"),
        ({"text": "a", "truncation": True}, "truncation"),
        ({"text": "<image>a"}, "1 marks '<image>', but 0 items"),
        ({"text": "<video>a"}, "1 marks '<video>', but 0 items"),
        ({"text": ["<image>a", "<image>"], "images": make_images(1)}, "2 marks"),
        ({"text": ["<image>a", "the"], "images": [[], make_images(1)]}, "row 0 has 1 marks '<image>' and 0 items"),
        ({"text": ["<image>a"], "images": [make_images(1), []]}, "2 rows"),
    ),
)
@pytest.mark.usefixtures("without_shape_checks")
def test_what_does_not_fit_is_refused(processor, given, said):
    """Numbers of tags and items are compared, and nothing asked for is passed over in silence."""
    with pytest.raises(ValueError, match=said):
        processor(**given)


def test_a_conversation_becomes_a_dialogue(processor):
    """Content may be text, or text and images in reading order; the answer's beginning is asked for."""
    first, second = make_images(2)
    chat = [
        {"role": "system", "content": [{"type": "text", "text": "a photo"}]},
        {"role": "user", "content": [
            {"type": "text", "text": "one"}, {"type": "image", "image": first}, {"type": "text", "text": "two"},
            {"type": "image", "image": second}, {"type": "text", "text": "what is this ?"},
        ]},
        {"role": "assistant", "content": [{"type": "text", "text": "a cat ."}]},
        {"role": "user", "content": [{"type": "text", "text": "what ?"}]},
    ]  # fmt: skip
    text = processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text == (
        "a photo\nUser: one<image>two<image>what is this ?\nFlamingo: a cat .\nUser: what ?\nFlamingo:"
    )  # fmt: skip
    batch = processor.apply_chat_template(
        chat, tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    expected = processor(text=text, images=[first, second])
    assert all(torch.equal(batch[name], expected[name]) for name in expected)
    open_end = processor.apply_chat_template(chat[:3], tokenize=False, continue_final_message=True)
    assert open_end.endswith("Flamingo: a cat .")


def test_a_tag_of_another_name_stands_in_the_dialogue():
    """The default template writes the tag that the processor knows."""
    processor = FlamingoProcessor(make_tokenizer(), lambda image: image, media_token="<picture>", media_token_id=TAG)
    chat = [{"role": "user", "content": [{"type": "image", "image": torch.zeros(3, 2, 2)}]}]
    assert processor.apply_chat_template(chat, tokenize=False) == "User: <picture>\n"


def test_a_row_begins_once():
    """A template that writes the beginning itself, as those of many models do, doubles nothing."""
    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="[BOS] $A", special_tokens=[("[BOS]", 1)])
    template = "{{ bos_token }}{{ messages[0].content[0].text }}"
    processor = FlamingoProcessor(tokenizer, media_token_id=TAG, chat_template=template)
    chat = [{"role": "user", "content": [{"type": "text", "text": "a cat"}]}]
    options = {"tokenize": True, "return_dict": True, "return_tensors": "pt"}
    assert processor.apply_chat_template(chat, **options)["input_ids"].tolist() == [[1, 4, 6]]
    assert processor(text="a cat")["input_ids"].tolist() == [[1, 4, 6]]


def test_a_clip_has_its_place_in_a_conversation(processor):
    """A clip of frames in the content stands at its place, between images."""
    first, second, third = make_images(3)
    chat = [{"role": "user", "content": [
        {"type": "image", "image": third}, {"type": "video", "video": [first, second]}, {"type": "text", "text": "a"},
    ]}]  # fmt: skip
    batch = processor.apply_chat_template(chat, tokenize=True, return_dict=True, return_tensors="pt")
    assert batch["frame_valid"].tolist() == [[True, False], [True, True]]


def test_ids_become_text(processor):
    """Ids of new tokens, rows of ids and lists are read; tags are left out or shown."""
    ids = torch.tensor([[0, TAG, 4, 6, END]])
    assert processor.decode(ids[0]) == "a cat"
    assert processor.batch_decode(ids) == processor.decode(ids) == processor.decode(ids.tolist()) == ["a cat"]
    assert processor.decode(ids[0], skip_special_tokens=False) == "[PAD]<image>a cat<EOC>"


def test_a_tokenizer_that_knows_the_tags_is_asked():
    """Without ids the tokenizer's own are taken; its tags are no text."""
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>", "<EOC>"]})
    processor = FlamingoProcessor(tokenizer, lambda image: torch.zeros(3, 2, 2))
    assert processor.media_token_id == tokenizer.convert_tokens_to_ids("<image>")
    assert processor.end_token_id == tokenizer.convert_tokens_to_ids("<EOC>")
    assert processor.model_input_names == ["input_ids", "attention_mask", "pixel_values", "frame_valid"]


def test_a_preprocess_of_ones_own_is_passed_when_loading(tmp_path):
    """A function cannot be saved: text works without it, images ask for it."""
    processor = FlamingoProcessor(make_tokenizer(), lambda image: image.float(), media_token_id=TAG)
    processor.save_pretrained(tmp_path)
    loaded = FlamingoProcessor.from_pretrained(tmp_path)
    assert loaded(text="a cat")["input_ids"].tolist() == [[4, 6]]
    with pytest.raises(ValueError, match="preprocess="):
        loaded(text="<image>", images=make_images(1))
    loaded = FlamingoProcessor.from_pretrained(tmp_path, preprocess=lambda image: image.float())
    assert loaded(text="<image>", images=make_images(1))["pixel_values"].shape == (1, 1, 3, 20, 24)
    make_model().config.save_pretrained(tmp_path)
    assert AutoProcessor.from_pretrained(tmp_path).media_token_id == TAG


def test_images_of_different_sizes_make_one_batch(tmp_path):
    """A tower of variable resolution gets each image at its own size, before saving and after."""
    processor = FlamingoProcessor(
        make_tokenizer(), NaFlexPreprocess(patch_size=4, max_num_patches=16), media_token_id=TAG
    )  # fmt: skip
    wide, tall = torch.zeros(3, 10, 40, dtype=torch.uint8), torch.zeros(3, 40, 10, dtype=torch.uint8)
    given = processor(text="<image><image>", images=[wide, tall])["pixel_values"]
    assert given.shape == (2, 1, 3, 32, 32)
    processor.save_pretrained(tmp_path)
    again = FlamingoProcessor.from_pretrained(tmp_path)(text="<image><image>", images=[wide, tall])["pixel_values"]
    torch.testing.assert_close(again, given, equal_nan=True)
