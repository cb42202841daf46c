"""A model that is asked query by query, prompt whole, is measured as a Flamingo is."""

import pytest
import torch
from PIL import Image

from flamingo_blocks.data import ClipSegment, ImageSegment, InterleavedDocument
from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation import EvalConfig, evaluate, evaluate_model
from flamingo_blocks.evaluation.answering import (
    Answerer,
    AnswerSettings,
    EvaluatedModel,
    FlamingoModel,
    VisionLanguageModel,
)
from flamingo_blocks.evaluation.answering.pictures import grey, pictures_of, with_pictures
from flamingo_blocks.evaluation.decode import Decoder, UnreadableMediaError
from flamingo_blocks.evaluation.synthetic import synthetic_task
from tests.evaluation.answering.says import Says
from tests.evaluation.runner.runs import CONFIG, answers, make_tasks, scores
from tests.evaluation.subjects import make_subject
from tests.language_models import make_language_model


class WholeFlamingo(VisionLanguageModel):
    """A Flamingo without anything that saves time: one query at a time, the whole text of each candidate."""

    end_of_shot = "<EOC>"

    def __init__(self):
        self.flamingo, self.processor = make_subject(lm=make_language_model("llama", max_position_embeddings=512))

    @property
    def identity(self):
        return "whole"

    def write(self, prompts, *, num_beams, length_penalty, max_new_tokens):
        options = {
            "num_beams": num_beams,
            "length_penalty": length_penalty,
            "max_new_tokens": max_new_tokens,
            "terminator": False,
        }
        decoder = Decoder(self.flamingo, self.processor, share=False, max_rows=1, **options)
        return [decoder.write([prompt])[0] for prompt in prompts]

    def score(self, prompts, candidates):
        decoder = Decoder(self.flamingo, self.processor, share=False, scorer="rows")
        ended = [[text.removesuffix("<EOC>") for text in texts] for texts in candidates]
        return [decoder.score([prompt], [texts])[0] for prompt, texts in zip(prompts, ended, strict=True)]


def test_a_flamingo_asked_plainly_gives_what_evaluate_gives(tmp_path):
    """The same prompts, answers and scores: shots, order, controls and pictures are those of the fast way."""
    config = EvalConfig(**{**vars(CONFIG), "controls": ("shuffle_images", "blind", "no_shot_images"), "num_queries": 4,
                           "num_beams": 1})  # fmt: skip
    asked = WholeFlamingo()
    plain = evaluate_model(asked, make_tasks(), config, folder=tmp_path / "plain")
    fast = evaluate(asked.flamingo, asked.processor, make_tasks(), config, folder=tmp_path / "fast")
    same = {key: value for key, value in answers(tmp_path / "fast").items() if "no_shot_images" not in key}
    assert {key: value for key, value in answers(tmp_path / "plain").items() if "no_shot_images" not in key} == same
    assert set(scores(plain)) == set(scores(fast))  # grey is not the mean colour
    ours = {key: value for key, value in scores(fast).items() if key[3] != "no_shot_images"}
    assert {key: value for key, value in scores(plain).items() if key[3] != "no_shot_images"} == ours


def test_both_kinds_of_model_are_what_a_run_asks():
    """The protocols name all that is asked, and both have it."""
    asked = WholeFlamingo()
    model = FlamingoModel(asked.flamingo, asked.processor)
    assert isinstance(asked, EvaluatedModel) and isinstance(model, EvaluatedModel)


OPEN, CLOSED = synthetic_task("counting", queries=2, size=8), synthetic_task(
    "matching", queries=2, size=8, answering="closed"
)  # fmt: skip
SMALL = EvalConfig(shots=(1,), seeds=(0,), controls=(), bootstrap=0, num_queries=1)


def test_what_stands_behind_the_end_of_a_shot_is_cut_off(tmp_path):
    """The answer ends where the shot does, and the end is told."""
    evaluate_model(Says([" two\n<image>Question"]), [OPEN], SMALL, folder=tmp_path)
    ((raw, answer, stopped, *_),) = answers(tmp_path).values()
    assert (raw, answer, stopped) == (" two", "two", "end_of_chunk")


def test_prompts_have_its_own_end_of_shot_and_pictures():
    """A shot is closed by the text of the model, and images are pictures of pillow."""
    asked = Says()
    asked.end_of_shot = " || "
    evaluate_model(asked, [OPEN], SMALL)
    (prompt,) = asked.seen
    assert " || " in prompt.segments[1].text and "<EOC>" not in prompt.segments[1].text
    assert all(isinstance(part.data, Image.Image) and part.data.mode == "RGB" for part in prompt.media)


def test_the_end_is_scored_where_the_profile_says_so():
    """With the paper's profile candidates end as a shot does."""
    asked = Says()
    evaluate_model(asked, [CLOSED], SMALL)
    assert all(text.endswith("\n") for text in asked.seen[0])


@pytest.mark.parametrize(
    ("asked", "task", "said"),
    (
        (Says([" a", " b"]), OPEN, "Says.write gave 2 results to 1 prompts"),
        (Says(log_probs=(-1.0,)), CLOSED, "Says.score gave 1 results to 2 candidates"),
        (Says(tokens=(1,)), CLOSED, "Says.score gave 1 results to 2 candidates"),
        (Says(log_probs=(-1.0, float("nan"))), CLOSED, "query '.*': the log-probability of candidate .* is nan"),
    ),
)
def test_results_that_do_not_fit_are_refused(asked, task, said):
    """Another number of results, or one that is no number, is told with the method and the query."""
    with pytest.raises(EvaluationError, match=said):
        evaluate_model(asked, [task], SMALL)


def test_answers_that_are_plain_texts_are_refused():
    """What is written comes with what stopped it."""
    asked = Says()
    asked.write = lambda prompts, **_: [" a"] * len(prompts)
    with pytest.raises(EvaluationError, match="Says.write gave a str for one of its prompts, wanted a Written"):
        evaluate_model(asked, [OPEN], SMALL)


def test_a_model_without_identity_is_refused():
    """Answers are kept under what tells a model from others."""
    asked = Says()
    asked.describe = lambda: {"name": "Says", "weights": None, "processor": ""}
    with pytest.raises(EvaluationError, match=r"Says.describe\(\) gives weights=None, wanted a text"):
        evaluate_model(asked, [OPEN], SMALL)


def test_by_default_a_model_without_gates_is_blinded():
    """The query loses its image in place of closed gates, without a warning, for nobody has asked for those."""
    config = EvalConfig(shots=(2,), seeds=(0,), bootstrap=0, num_queries=2)
    result = evaluate_model(Says(), [CLOSED], config)
    asked = {cell.control for cell in result.cells if not cell.control.startswith("baseline")}
    assert asked == {"none", "blind", *config.controls} - {"gates_closed"}


def test_a_context_without_a_count_is_told():
    """Whoever gives a longest text has to count tokens as well."""
    asked = Says()
    asked.max_tokens = 100
    with pytest.raises(NotImplementedError, match="has max_tokens=100; write `tokens` as well"):
        evaluate_model(asked, [OPEN], SMALL)


def test_shots_by_likeness_need_a_tower():
    """RICES asks for a tower, and takes any that the model names."""
    config = EvalConfig(**{**vars(SMALL), "selection": "rices"})
    asked = Says()
    with pytest.raises(EvaluationError, match="the model has no vision tower"):
        evaluate_model(asked, [OPEN], config)
    asked.tower = make_subject()[0].vision
    assert evaluate_model(asked, [OPEN], config).cell(OPEN.name, 1).counts["asked"] == 1


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    """Each such image is told with the decoder's words, those of clips too."""
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    told = Says().unreadable([ImageSegment(url="broken.png", data=broken), ImageSegment(url="gone.png")])
    assert set(told) == {"the image broken.png", "the image gone.png"}
    assert "cannot identify" in told["the image broken.png"]
    with pytest.raises(UnreadableMediaError, match="the clip without a url cannot be read"):
        with_pictures(ClipSegment(data=[broken]))


@pytest.mark.parametrize("kind", ("tensor", "float", "path", "bytes", "pillow"))
def test_every_kind_of_image_becomes_the_same_picture(tmp_path, kind):
    """Files, bytes, tensors and pictures of the same pixels are one picture."""
    pixels = torch.arange(3 * 4 * 5, dtype=torch.uint8).view(3, 4, 5)
    picture = Image.frombytes("RGB", (5, 4), bytes(pixels.permute(1, 2, 0).flatten().tolist()))
    picture.save(file := tmp_path / "a.png")
    data = {
        "tensor": pixels, "float": pixels / 255, "path": file, "bytes": file.read_bytes(), "pillow": picture,
    }[kind]  # fmt: skip
    shown = with_pictures(ImageSegment(data=data)).data
    assert shown.size == (5, 4) and shown.tobytes() == picture.tobytes()


def test_grey_has_the_size_of_what_it_stands_for():
    """An image stays an image of its size, a clip a clip of as many frames; their keys tell sizes apart."""
    one, other = (ImageSegment(url="a", data=torch.zeros(3, *size)) for size in ((4, 5), (6, 5)))
    clip = ClipSegment(url="b", data=[torch.zeros(3, 4, 5)] * 3)
    assert grey(one).data.size == (5, 4) and grey(one).url != grey(other).url
    assert [frame.getcolors() for frame in pictures_of(grey(clip))] == [[(20, (128, 128, 128))]] * 3
    assert isinstance(grey(clip), ClipSegment)


def test_answerers_are_what_the_runner_asks():
    """A decoder and whole prompts have all that is asked of either."""
    flamingo, processor = make_subject()
    assert isinstance(Decoder(flamingo, processor), Answerer)
    shown = InterleavedDocument.from_parts(["Output:"])
    asked = Says().answerer(AnswerSettings())
    assert isinstance(asked, Answerer) and asked.write([shown])[0].text == " a"
