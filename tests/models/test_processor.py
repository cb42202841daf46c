"""Rows of text and images become batches, and ids become text again."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data import ClipSegment, ImageSegment, InterleavedDocument
from flamingo_blocks.models import FlamingoProcessor, build_tiny_flamingo
from flamingo_blocks.vision import ImagePreprocess

TAG, EOC, PAD, BOS, EOS = 300, 301, 0, 302, 303
NAMES = {TAG: "<image>", EOC: "<EOC>", PAD: ".", BOS: "<s>", EOS: "</s>", -100: "_"}


class Letters:
    """One id a letter: its code point, up to 255."""

    def encode(self, text):
        return [ord(letter) for letter in text]

    def decode(self, ids):
        return "".join(NAMES.get(token) or chr(token) for token in ids)


def make(**options):
    ids = {"media_token_id": TAG, "end_token_id": EOC, "pad_token_id": PAD}
    return FlamingoProcessor(**{"tokenizer": Letters(), "preprocess": ImagePreprocess((8, 8)), **ids, **options})


def shown(ids):
    """A row of ids as one string, pads and labels that do not count included."""
    return "".join(NAMES.get(token) or chr(token) for token in ids.tolist())


def picture(level):
    return torch.full((3, 8, 8), level)


def test_rows_in_reading_order():
    """Strings, images and clips stand where they are in the row; items of all rows share one pool, in order."""
    batch = make()([["hi", picture(0.1), "cat", [picture(0.2), picture(0.3)]], ["text"], [picture(0.4), "dog"]])
    assert [shown(row) for row in batch.input_ids] == ["hi<EOC><image>cat<EOC><image>", ".....text", ".....<image>dog"]
    assert batch.attention_mask.sum(1).tolist() == [9, 4, 4]
    assert batch.pixels.shape == (3, 2, 3, 8, 8)
    assert batch.frame_valid.tolist() == [[True, False], [True, True], [True, False]]
    levels = torch.tensor([[0.1, 0.0], [0.2, 0.3], [0.4, 0.0]])
    torch.testing.assert_close(batch.pixels.mean((2, 3, 4)), levels)
    assert batch.layout.last.tolist() == [[-1, -1, -1, 0, 0, 0, 0, 0, 1], [-1] * 9, [-1] * 5 + [0] * 4]
    assert batch.layout.item_ids.tolist() == [[0, 1], [-1, -1], [2, -1]]
    assert batch.labels is None


def test_three_ways_to_say_a_row_are_one():
    """A list, a tagged string with its items, and a document give the same batch."""
    items = [picture(0.1), [picture(0.2), picture(0.3)]]
    processor = make(bos_token_id=BOS)
    batches = [
        processor([["a ", items[0], " b ", items[1]], ["c"]]),
        processor(["a <image> b <image>", "c"], [items, []]),
        processor([["a ", ImageSegment(data=items[0]), " b ", ClipSegment(data=torch.stack(items[1]))], ["c"]]),
        processor(
            [InterleavedDocument.from_tagged("a <image> b <image>", items), InterleavedDocument.from_parts(["c"])]
        ),
    ]
    for batch in batches:
        assert shown(batch.input_ids[0]) == "<s>a <EOC><image> b <EOC><image>"
        for name in ("input_ids", "attention_mask", "pixels", "frame_valid"):
            assert torch.equal(getattr(batch, name), getattr(batches[0], name)), name
        assert torch.equal(batch.layout.mask(), batches[0].layout.mask())


def test_training_rows_are_closed_labelled_and_padded_right():
    """Prompts end open and are padded left; training rows have an end, labels and their pads on the right."""
    processor = make(bos_token_id=BOS, eos_token_id=EOS)
    rows = [["a", picture(0.1), "bc"], ["d"]]
    prompts, training = processor(rows), processor(rows, for_training=True)
    assert [shown(row) for row in prompts.input_ids] == ["<s>a<EOC><image>bc", "....<s>d"]
    assert [shown(row) for row in training.input_ids] == ["<s>a<EOC><image>bc<EOC></s>", "<s>d<EOC></s>...."]
    assert [shown(row) for row in training.labels] == ["_a<EOC>_bc<EOC></s>", "_d<EOC></s>____"]
    assert shown(processor(rows, padding_side="right").input_ids[1]) == "<s>d...."


def test_prompts_may_say_the_end_of_chunk():
    """A string with `<EOC>` in it gets no second one."""
    batch = make()(["<image>a<EOC><image>b"], [[picture(0.1)] * 2])
    assert shown(batch.input_ids[0]) == "<image>a<EOC><image>b"


def test_layout_options_pass_through():
    """Scope, groups and where ends of chunks stand are the processor's to choose."""
    row = [["x", picture(0.1), picture(0.2), "y"]]
    everything = make(scope="all")(row).layout
    assert everything.mask()[0, -1].tolist() == [True, True]
    grouped = make(group_consecutive=True, end_before_media=False)(row)
    assert shown(grouped.input_ids[0]) == "x<image><image>y"
    assert grouped.layout.mask()[0, -1].tolist() == [True, True]
    assert shown(make(end_before_first_media=False)(row).input_ids[0]) == "x<image><EOC><image>y"


def test_a_tag_of_several_tokens():
    """The paper's tag is plain text: its first token is the one that is marked."""
    processor = make(media_token_id=[60, 105, 62], end_before_media=False)
    batch = processor([["a", picture(0.1), "b"]])
    assert shown(batch.input_ids[0]) == "a<i>b"
    assert batch.layout.last.tolist() == [[-1, 0, 0, 0, 0]]


words = st.text(st.characters(min_codepoint=97, max_codepoint=122))


@given(st.lists(st.lists(words | st.none()), min_size=1))
def test_decoding_gives_the_text_back(rows):
    """Without special tokens the text of a row comes back; with them every tag is where its image was."""
    processor = make(bos_token_id=BOS)
    batch = processor([[picture(0.1) if part is None else part for part in row] for row in rows])
    for row, ids, mask in zip(rows, batch.input_ids, batch.attention_mask, strict=True):
        assert processor.decode(ids) == "".join(part or "" for part in row)
        tagged = "".join("<image>" if part is None else part for part in row)
        whole = processor.decode(ids[mask], skip_special_tokens=False)
        assert whole.removeprefix("<s>").replace("<EOC>", "") == tagged


def test_a_batch_of_ids_is_decoded_row_by_row():
    """Tensors and lists are read alike, and -100 is left out."""
    processor = make()
    ids = [[97, TAG, 98, EOC], [PAD, 97, -100, 98]]
    assert processor.batch_decode(ids) == ["ab", "ab"]
    assert processor.batch_decode(torch.tensor(ids)) == ["ab", "ab"]
    assert processor.batch_decode(ids, skip_special_tokens=False) == ["a<image>b<EOC>", ".ab"]


def test_the_model_runs_on_what_the_processor_makes():
    """Loss and generation of a tiny model, from images and strings to strings, with rows that have no image."""
    flamingo = build_tiny_flamingo(vocab_size=128)
    processor = make(
        preprocess=flamingo.vision.preprocess,
        media_token_id=flamingo.media_token_id,
        end_token_id=flamingo.end_token_id,
    )
    rows = [["a", picture(0.1), "cat"], ["text alone"], [picture(0.3), "b", [picture(0.4)] * 3]]
    for some in (rows, rows[1:2]):
        assert flamingo(**processor(some, for_training=True).model_inputs()).loss.isfinite()
        ids = flamingo.generate(**processor(some).model_inputs(), max_new_tokens=3)
        assert len(processor.batch_decode(ids)) == len(some)


@pytest.mark.parametrize(
    ("rows", "media", "message"),
    [
        ("a <image>", None, "rows is the string 'a <image>', wanted a list of rows"),
        (["a", "a <image> <image>"], [[], [picture(0.1)]], "row 1: text has 2 tags '<image>' for 1 images"),
        (["a <image>"], None, "row 0: text has 1 tags '<image>' for 0 images"),
        (["a"], [[], []], "media has 2 rows, rows has 1"),
        ([["a"]], [[picture(0.1)]], "row 0: media has 1 items, but the row is no string"),
        ([["b"], ["<image>", picture(0.1)]], None, "row 1: the text of the row has 1 tags '<image>' beside 1 images"),
        ([["a", ImageSegment(url="ex.com/1.jpg")]], None, "row 0: the item 'ex.com/1.jpg' is not fetched"),
        ([["a", []]], None, "row 0: a clip has no frames"),
        ([["a", object()]], None, "row 0: image is a object; pass a PIL image"),
        ([], None, "examples is empty"),
    ],
)
def test_wrong_rows_are_refused(rows, media, message):
    """The error names the row and both numbers."""
    with pytest.raises(ValueError, match=message):
        make()(rows, media)


def test_images_need_a_preprocess():
    """A processor of text alone says so when an image comes."""
    assert make(preprocess=None)([["text"]]).pixels is None
    with pytest.raises(ValueError, match=r"row 0: .* preprocess is None"):
        make(preprocess=None)([["text", picture(0.1)]])


def test_unknown_ids_must_be_given():
    """A tokenizer that knows no tag or no pad cannot be asked for them; a missing end of chunk is left out."""
    with pytest.raises(ValueError, match="media_token_id is None and the tokenizer has no token '<image>'"):
        make(media_token_id=None)
    with pytest.raises(ValueError, match="pad_token_id is None and the tokenizer has neither"):
        make(pad_token_id=None)
    assert make(end_token_id=None).special.end_of_chunk is None


@pytest.fixture(scope="module")
def hugging_face():
    """Builder of a small word-level tokenizer of the transformers library with its own begin, end and pad."""
    transformers, tokenizers = pytest.importorskip("transformers"), pytest.importorskip("tokenizers")
    vocabulary = ["<unk>", "<s>", "</s>", "<pad>", "a", "red", "cat", "dog"]

    def build(*, pad=None):
        model = tokenizers.models.WordLevel({word: index for index, word in enumerate(vocabulary)}, "<unk>")
        backend = tokenizers.Tokenizer(model)
        backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
        begin = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
        backend.post_processor = begin
        names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": pad}
        return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **names)

    return build


def test_a_transformers_tokenizer_tells_its_special_ids(hugging_face):
    """Begin, end and pad are the tokenizer's own; tags beyond its vocabulary leave it as it is."""
    tokenizer = hugging_face(pad="<pad>")
    size = len(tokenizer)
    processor = make(tokenizer=tokenizer, media_token_id=size, end_token_id=size + 1, pad_token_id=None)
    batch = processor([["a red", picture(0.1), "cat"], ["dog"]], for_training=True)
    assert batch.input_ids.tolist() == [[1, 4, 5, size + 1, size, 6, size + 1, 2], [1, 7, size + 1, 2, 3, 3, 3, 3]]
    assert len(tokenizer) == size
    assert processor.batch_decode(batch.input_ids) == ["a redcat", "dog"]
    assert processor.decode(batch.input_ids[0], skip_special_tokens=False) == "<s>a red<EOC><image>cat<EOC></s>"
    assert make(tokenizer=hugging_face(), pad_token_id=None).pad_token_id == 2


def test_begin_and_end_can_be_left_out(hugging_face):
    """None writes no begin and no end, whatever the tokenizer does itself."""
    processor = make(tokenizer=hugging_face(), bos_token_id=None, eos_token_id=None, end_token_id=None)
    assert processor([["dog"]], for_training=True).input_ids.tolist() == [[7]]


def test_a_begin_that_the_tokenizer_does_not_write_is_not_written(hugging_face):
    """GPT-2 has a begin token that its tokenizer never puts before a text; neither does the processor."""
    tokenizer = hugging_face()
    tokenizer.backend_tokenizer.post_processor = None
    processor = make(tokenizer=tokenizer)
    assert processor([["dog"]]).input_ids.tolist() == [[7]]


def test_tags_that_the_tokenizer_knows_need_no_id(hugging_face):
    """Ids of tags in the vocabulary are looked up."""
    tokenizer = hugging_face(pad="<pad>")
    tokenizer.add_tokens(["<image>", "<EOC>"], special_tokens=True)
    processor = make(tokenizer=tokenizer, media_token_id=None, end_token_id=None)
    assert processor.special.media == tokenizer.convert_tokens_to_ids("<image>") == 8
    assert processor.special.end_of_chunk == tokenizer.convert_tokens_to_ids("<EOC>") == 9


def test_text_cannot_pass_for_a_special_token(hugging_face):
    """A text in which the tokenizer reads its own end of text is refused, with the row."""
    processor = make(tokenizer=hugging_face(), media_token_id=99)
    with pytest.raises(ValueError, match="row 1: text 'a </s> cat' encodes to the id 2, which is special.eos"):
        processor([["a"], ["a </s> cat"]])
