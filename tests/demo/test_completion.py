"""Prompts and image files of a user's, and what is said when they do not fit."""

import pytest
import torch

from flamingo_blocks.demo import DemoError, complete, load_demo_model
from flamingo_blocks.demo.completion import encode_prompt
from flamingo_blocks.demo.words import demo_vocabulary

VOCABULARY = demo_vocabulary()


@pytest.fixture(scope="module")
def model(small_run):
    """A saved model, loaded."""
    return load_demo_model(small_run[1] / "model")


def test_a_prompt_starts_with_the_start_token_and_tags_need_no_spaces():
    """`<image>this` reads as `<image> this`; a start token of one's own is not doubled."""
    ids = encode_prompt(VOCABULARY, "<image>this is a kulm<EOC>", num_images=1)
    assert VOCABULARY.decode(ids) == "<bos> <image> this is a kulm <EOC>"
    assert encode_prompt(VOCABULARY, "<bos> this", num_images=0) == encode_prompt(VOCABULARY, "this", num_images=0)


@pytest.mark.parametrize(("prompt", "images"), [("<image> this is a", 2), ("this is a", 1), ("<image> <image>", 1)])
def test_tags_and_images_must_be_equally_many(prompt, images):
    """The error says how many of each there are."""
    with pytest.raises(DemoError, match=rf"has {prompt.count('<image>')} <image> tags, but {images} images"):
        encode_prompt(VOCABULARY, prompt, num_images=images)


def test_an_unknown_word_is_named():
    """The error names the word and known ones like it."""
    with pytest.raises(DemoError, match=r"'sevn'.*seven"):
        encode_prompt(VOCABULARY, "an image of a sevn", num_images=0)


def test_text_is_continued_from_image_files(model, small_run):
    """Image files and a prompt give words of the vocabulary, no more than asked for."""
    flamingo, vocabulary = model
    files = sorted((small_run[1] / "images").iterdir())[:2]
    text = complete(
        flamingo, vocabulary, prompt="<image> this is a kulm <EOC> <image> this is a", images=files, max_new_tokens=3
    )
    assert 1 <= len(text.split()) <= 3
    assert vocabulary.encode(text)
    assert complete(flamingo, vocabulary, prompt="fox this is a", images=[], max_new_tokens=2)


def test_a_file_and_its_pixels_give_the_same_text(model, small_run):
    """What is read from a file of magnified pixels is what the tower would get from the pixels."""
    flamingo, vocabulary = model
    file = min((small_run[1] / "images").iterdir())
    pixels = flamingo.vision.preprocess(file)
    prompt = "<image> an image of a"
    assert complete(flamingo, vocabulary, prompt=prompt, images=[file]) == complete(
        flamingo, vocabulary, prompt=prompt, images=[torch.round(pixels * 255).byte()]
    )


def test_files_that_are_missing_or_no_images_are_named(model, tmp_path):
    """The error says which file, and that it is not there or cannot be read."""
    flamingo, vocabulary = model
    with pytest.raises(DemoError, match=r"there is no file .*gone\.png"):
        complete(flamingo, vocabulary, prompt="<image>", images=[tmp_path / "gone.png"])
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DemoError, match=r"text\.png cannot be read as an image"):
        complete(flamingo, vocabulary, prompt="<image>", images=[tmp_path / "text.png"])


def test_a_folder_without_a_model_is_refused(tmp_path):
    """The error says what is missing and how to make it."""
    with pytest.raises(DemoError, match=r"holds no vocabulary\.json.*flamingo-blocks demo"):
        load_demo_model(tmp_path)
