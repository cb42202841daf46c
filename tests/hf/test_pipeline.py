"""`pipeline("image-text-to-text")` on a saved model."""

import pytest
from PIL import Image
from transformers import pipeline

from flamingo_blocks.hf import FlamingoProcessor
from tests.hf.tiny import END, TAG, make_images, make_model, make_processor

GENERATE = {"max_new_tokens": 4, "eos_token_id": None, "bad_words_ids": [[TAG], [END]]}


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def pipe(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    make_processor(model).save_pretrained(folder)
    return pipeline("image-text-to-text", model=str(folder))


@pytest.fixture(scope="module")
def images():
    return [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in make_images(2)]


def expected(model, text, images) -> str:
    processor = make_processor(model)
    given = processor(text=text, images=images or None)
    return processor.decode(model.generate(**given, **GENERATE)[0, given["input_ids"].shape[1] :])


def test_a_chat_is_answered(pipe, model, images):
    """Messages with images in their content give the conversation with the answer behind it."""
    chat = [{"role": "user", "content": [{"type": "image", "image": images[0]}, {"type": "text", "text": "what ?"}]}]
    (answer,) = pipe(text=chat, generate_kwargs=GENERATE)
    said = answer["generated_text"][-1]
    assert said["role"] == "assistant"
    assert said["content"].split() == expected(model, "User: <image>what ?\nFlamingo:", images[:1]).split()


def test_text_and_images_are_continued(pipe, model, images):
    """A text with a tag for each image goes on; without images too."""
    for text, own in (("<image>a photo of", images[:1]), ("<image>the<image>a", images), ("the red", [])):
        given = {"text": text, "images": own} if own else {"text": text}
        (answer,) = pipe(**given, return_full_text=False, generate_kwargs=GENERATE)
        assert answer["generated_text"].split() == expected(model, text, own).split()


def test_several_at_once_are_answered_as_one_by_one(pipe, images):
    """Chats of different lengths in one batch are padded on the left."""
    chats = [
        [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": text}]}]
        for image, text in zip(images, ("what is this ?", "a"), strict=True)
    ]
    alone = [pipe(text=chat, generate_kwargs=GENERATE)[0]["generated_text"][-1] for chat in chats]
    together = pipe(text=chats, batch_size=2, generate_kwargs=GENERATE)
    assert [answer[0]["generated_text"][-1] for answer in together] == alone


def test_a_pipeline_saves_the_whole_processor(pipe, tmp_path):
    """What a pipeline takes for its image processor saves everything: there is no half of it."""
    pipe.image_processor.save_pretrained(tmp_path)
    loaded = FlamingoProcessor.from_pretrained(tmp_path)
    assert loaded.to_dict() == pipe.processor.to_dict()
    assert loaded(text="the red")["input_ids"].tolist() == pipe.processor(text="the red")["input_ids"].tolist()
