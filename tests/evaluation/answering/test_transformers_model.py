"""Models of transformers are asked as their own processor and `generate` would be by hand."""

import copy
import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tokenizers import processors
from transformers import LlamaForCausalLM

from flamingo_blocks.data import ClipSegment, ImageSegment, InterleavedDocument
from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation import EvalConfig, evaluate_model
from flamingo_blocks.evaluation.answering import EvaluatedModel, TransformersModel
from flamingo_blocks.evaluation.decode.context_length import context_length
from flamingo_blocks.evaluation.synthetic import synthetic_task
from tests.evaluation.answering.asked_by_hand import as_text, by_hand, prompt_of
from tests.evaluation.answering.tiny_models import FAMILIES, make_llava
from tests.evaluation.runner.runs import answers, make_tasks, scores

LETTERS = st.text("abcdefg ", min_size=1, max_size=6)


@pytest.fixture(scope="module", params=FAMILIES)
def made(request):
    return FAMILIES[request.param]()


@torch.no_grad()
@settings(max_examples=8)
@given(
    words=st.lists(LETTERS, max_size=3), candidates=st.lists(LETTERS, min_size=1, max_size=5), size=st.integers(1, 3)
)
def test_candidates_have_the_log_probabilities_of_whole_texts(made, words, candidates, size):
    """In batches of any size, each is the sum over its tokens behind the prompt, as computed by hand."""
    model, processor = made
    prompt = prompt_of(words, "Output:")
    (found,) = TransformersModel(model, processor, batch_size=size).score([prompt], [candidates])
    wanted = [by_hand(model, processor, prompt, candidate) for candidate in candidates]
    assert list(found.num_tokens) == [tokens for _, tokens in wanted]
    assert found.log_probs == pytest.approx([value for value, _ in wanted], abs=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("size", (1, 2, 3))
def test_what_one_candidate_changes_of_the_prompt_is_scored_for_all(size):
    """A candidate that merges with the last token of its prompt moves the border back for those that do not, too."""
    model, processor = make_llava(merges=(("Ġ", "a"), ("Ġa", "b")))
    prompt, candidates = prompt_of(["b"], "Output: "), ["c", "abc", "ac"]
    (found,) = TransformersModel(model, processor, batch_size=size).score([prompt], [candidates])
    border = len(processor(text=["<image>Output: b\n<image>Output:"], images=[[part.data for part in prompt.media]])
                 ["input_ids"][0])  # fmt: skip
    for candidate, log_prob, number in zip(candidates, found.log_probs, found.num_tokens, strict=True):
        text = "<image>Output: b\n<image>Output: " + candidate
        inputs = processor(text=[text], images=[[part.data for part in prompt.media]], return_tensors="pt")
        ids, logits = inputs["input_ids"][0], model(**inputs).logits[0].double().log_softmax(-1)
        assert number == len(ids) - border == 2
        assert log_prob == pytest.approx(
            sum(float(logits[at - 1, ids[at]]) for at in range(border, len(ids))), abs=1e-4
        )


@torch.no_grad()
@settings(max_examples=8)
@given(words=st.lists(LETTERS, max_size=3), beams=st.integers(1, 3))
def test_an_answer_is_that_of_generate_up_to_the_end(made, words, beams):
    """Behind a prompt the tokens are those that the model's own search finds."""
    model, processor = made
    prompt = prompt_of(words, "Output:")
    (found,) = TransformersModel(model, processor).write(
        [prompt], num_beams=beams, length_penalty=0.0, max_new_tokens=5
    )
    inputs = processor(text=[as_text(prompt)], images=[[part.data for part in prompt.media]], return_tensors="pt")
    ids = model.generate(
        **inputs, num_beams=beams, max_new_tokens=5, do_sample=False, **({"length_penalty": 0.0} if beams > 1 else {}),
        pad_token_id=processor.tokenizer.pad_token_id, eos_token_id=processor.tokenizer.eos_token_id,
        stop_strings=["\n"], tokenizer=processor.tokenizer,
    )[0, inputs["input_ids"].shape[1] :]  # fmt: skip
    assert list(found.ids) == ids[: len(found.ids)].tolist()
    assert set(ids[len(found.ids) :].tolist()) <= {processor.tokenizer.pad_token_id}


@pytest.mark.parametrize(
    "own", ({"repetition_penalty": 0.01}, {"return_dict_in_generate": True}, {"num_return_sequences": 2}), ids=str
)
def test_settings_of_the_checkpoint_change_no_answer(own):
    """The search is the one that was asked for, whatever the checkpoint would do, and its settings stay its own."""
    model, processor = make_llava()
    prompts, options = [prompt_of([], "Output:")], {"num_beams": 3, "length_penalty": 0.0, "max_new_tokens": 4}
    plain = TransformersModel(model, processor).write(prompts, **options)
    for name, value in own.items():
        setattr(model.generation_config, name, value)
    assert TransformersModel(model, processor).write(prompts, **options) == plain
    assert all(getattr(model.generation_config, name) == value for name, value in own.items())


def test_greedy_answers_do_not_depend_on_the_batch(made):
    """Prompts of other lengths, and ones without images, run side by side and give what each gives alone."""
    prompts = [prompt_of(["a"] * count, "Output:") for count in (0, 3, 1)]
    prompts.insert(1, InterleavedDocument.from_parts(["Output: b\nOutput:"]))
    options = {"num_beams": 1, "length_penalty": 0.0, "max_new_tokens": 4}
    alone, together = (TransformersModel(*made, batch_size=size).write(prompts, **options) for size in (1, 4))
    assert [each.ids for each in alone] == [each.ids for each in together]


def changed(real, forced):
    """The forward of a model that writes one token and no other, or one for each row."""

    def forward(*args, **kwargs):
        out = real(*args, **kwargs)
        for row, token in enumerate(forced if isinstance(forced, list) else [forced] * len(out.logits)):
            out.logits[row, ..., token] = 100.0
        return out

    forward.__signature__ = inspect.signature(real)
    return forward


@pytest.mark.parametrize(
    ("end", "stopped"), (("a new line", "end_of_chunk"), ("an end of text", "end_of_text"), ("no end", "length"))
)
def test_what_stopped_an_answer_is_told(monkeypatch, end, stopped):
    """A new line ends a shot, the end of text ends a text, and without either the length did."""
    model, processor = make_llava()
    ids = {"a new line": processor.tokenizer.encode("\n", add_special_tokens=False)[0], "an end of text": None}
    forced = ids.get(end, processor.tokenizer.encode("a", add_special_tokens=False)[0])
    forced = processor.tokenizer.eos_token_id if forced is None else forced
    monkeypatch.setattr(model, "forward", changed(model.forward, forced))
    asked = TransformersModel(model, processor)
    (found,) = asked.write([prompt_of([], "Output:")], num_beams=1, length_penalty=0.0, max_new_tokens=3)
    assert found.stopped_by == stopped
    assert len(found.ids) == (3 if stopped == "length" else 1)


def test_an_answer_that_ends_before_others_has_no_pads(monkeypatch):
    """Of a batch each answer ends where it ended, whatever is written beside it."""
    model, processor = make_llava()
    ids = processor.tokenizer.encode("\na", add_special_tokens=False)
    monkeypatch.setattr(model, "forward", changed(model.forward, ids))
    found = TransformersModel(model, processor, batch_size=2).write(
        [prompt_of([], "Output:")] * 2, num_beams=1, length_penalty=0.0, max_new_tokens=3
    )
    assert [each.ids for each in found] == [(ids[0],), (ids[1],) * 3]
    assert [each.stopped_by for each in found] == ["end_of_chunk", "length"]


def test_a_special_token_may_end_a_shot(monkeypatch):
    """Where a shot ends by a token that is no text, the answer is without it, and what stopped it is told."""
    model, processor = make_llava()
    monkeypatch.setattr(model, "forward", changed(model.forward, processor.tokenizer.bos_token_id))
    asked = TransformersModel(model, processor, end_of_shot=processor.tokenizer.bos_token)
    (found,) = asked.write([prompt_of([], "Output:")], num_beams=1, length_penalty=0.0, max_new_tokens=3)
    assert (found.text, found.stopped_by, len(found.ids)) == ("", "end_of_chunk", 1)


@pytest.mark.parametrize("size", (1, 2))
def test_a_model_that_sees_what_it_is_to_predict_is_refused(monkeypatch, size):
    """Its log-probabilities would be of texts that it was shown."""
    model, processor = make_llava()
    real = model.forward

    def looks_ahead(*args, **kwargs):
        out = real(*args, **kwargs)
        out.logits = out.logits.flip(1).cumsum(1).flip(1)
        return out

    looks_ahead.__signature__ = inspect.signature(real)
    monkeypatch.setattr(model, "forward", looks_ahead)
    asked = TransformersModel(model, processor, batch_size=size)
    with pytest.raises(EvaluationError, match="LlavaForConditionalGeneration finds tokens of a prompt more likely"):
        asked.score([prompt_of(["a"], "Output:")], [[" a cat", " dogs"]])


def test_another_way_of_reading_images_is_another_processor(made):
    """Answers of one size of images are not gone on with under another."""
    model, processor = made
    before = TransformersModel(model, processor).describe()["processor"]
    assert TransformersModel(model, processor).describe()["processor"] == before
    processor = copy.deepcopy(processor)
    processor.image_processor.do_normalize = not processor.image_processor.do_normalize
    assert TransformersModel(model, processor).describe()["processor"] != before


def test_one_text_at_a_time_needs_no_pad():
    """A tokenizer without a pad token serves prompts that run by themselves."""
    model, processor = make_llava()
    prompt, options = prompt_of(["a"], "Output:"), {"num_beams": 1, "length_penalty": 0.0, "max_new_tokens": 3}
    wanted = TransformersModel(model, processor).write([prompt], **options)
    processor.tokenizer.pad_token = None
    assert TransformersModel(model, processor).write([prompt], **options) == wanted


def test_a_first_weight_of_bytes_is_no_dtype_of_images():
    """The weights of quantised models are bytes, which pixels are not rounded to."""
    model, processor = make_llava()
    wanted = TransformersModel(model, processor).score([prompt_of(["a"], "Output:")], [["a", "b"]])
    model.register_parameter("bytes", torch.nn.Parameter(torch.zeros(2, dtype=torch.uint8), requires_grad=False))
    assert next(model.parameters()).dtype == torch.uint8
    assert TransformersModel(model, processor).score([prompt_of(["a"], "Output:")], [["a", "b"]]) == wanted


def test_a_clip_is_shown_frame_by_frame(made):
    """A clip has one placeholder for each frame, and its frames are the images."""
    frames = [Image.new("RGB", (12, 9), (value, 0, 0)) for value in (0, 100, 200)]
    clip = InterleavedDocument.from_parts([ClipSegment(url="clip", data=frames), "Output:"])
    images = InterleavedDocument.from_parts([*(ImageSegment(data=frame) for frame in frames), "Output:"])
    asked = TransformersModel(*made)
    assert asked.tokens(clip) == asked.tokens(images)
    assert asked.score([clip], [[" a", " b"]]) == asked.score([images], [[" a", " b"]])


def test_a_chat_template_writes_the_turn():
    """With `chat`, shots and query are one turn of the user, and the answer is the assistant's."""
    model, processor = make_llava()
    processor.chat_template = (
        "{{ bos_token }}{% for turn in messages %}{{ turn.role }}: {% for part in turn.content %}"
        "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %} assistant:{% endif %}"
    )
    prompt, asked = prompt_of(["a"], "Output:"), TransformersModel(model, processor, chat=True)
    plain = InterleavedDocument.from_parts(["user: ", *prompt.segments, " assistant:"])
    written = TransformersModel(model, processor)
    assert asked.tokens(prompt) == written.tokens(plain) + 1  # the begin, which this tokenizer does not add
    assert asked.describe()["processor"] != written.describe()["processor"]


@pytest.mark.parametrize("template", ("{{ bos_token }}", ""), ids=("written", "added"))
def test_a_text_begins_once(template):
    """Where the chat template writes the begin of a text, the tokenizer adds none, and does so where it does not."""
    model, processor = make_llava()
    tokenizer = processor.tokenizer
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    processor.chat_template = template + "{% for part in messages[0].content %}{{ part.text }}{% endfor %}"
    prompt = prompt_of(["a"], "Output:")
    plain, chat = (TransformersModel(model, processor, image_text="<image>", chat=chat) for chat in (False, True))
    text = processor(text=["<image>Output: a\n<image>Output:"], images=[[part.data for part in prompt.media]])
    assert text["input_ids"][0].count(tokenizer.bos_token_id) == 1
    assert plain.tokens(prompt) == chat.tokens(prompt) == len(text["input_ids"][0])


def test_a_chat_template_moves_no_image():
    """Shots keep their images and line breaks, where a template would write all images first and trim texts."""
    model, processor = make_llava()
    processor.chat_template = (
        "{% for turn in messages %}USER: {% for part in turn.content if part.type == 'image' %}<image>\n{% endfor %}"
        "{% for part in turn.content if part.type == 'text' %}{{ part.text | trim }}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %} ASSISTANT:{% endif %}"
    )
    prompt, asked = prompt_of(["a", "b"], "Output:"), TransformersModel(model, processor, chat=True)
    plain = InterleavedDocument.from_parts(["USER: ", *prompt.segments, " ASSISTANT:"])
    assert asked.score([prompt], [[" a", " b"]]) == TransformersModel(model, processor).score([plain], [[" a", " b"]])


@pytest.mark.parametrize(
    ("template", "wanted"),
    (
        ("{% for part in messages[0].content %}{{ part.text or '<s><image></s> ' }}{% endfor %}", "<s><image></s>"),
        ("{% for part in messages[0].content %}{{ '' if part.text else '<image>' }}{% endfor %}", "<image>"),
        ("{{ raise_exception('only texts') }}", "<image>"),
        (None, "<image>"),
    ),
)
def test_an_image_is_what_the_chat_template_writes_for_it(template, wanted):
    """With the tokens that a processor wants around it; where no template tells, it is the processor's own token."""
    model, processor = make_llava()
    processor.chat_template = template
    assert TransformersModel(model, processor).image_text == wanted
    assert TransformersModel(model, processor, image_text="<s>").image_text == "<s>"


def test_a_run_is_the_same_in_any_batches_and_goes_on(made, tmp_path):
    """Through the runner: the same answers one by one and side by side, resumed without asking again."""
    config = EvalConfig(shots=(0, 2), seeds=(0,), groups=1, controls=("shuffle_images", "blind"), bootstrap=20,
                        max_new_tokens=3, num_queries=3, num_beams=1)  # fmt: skip
    found = []
    for size in (1, 3):
        model = TransformersModel(*made, batch_size=size)
        assert isinstance(model, EvaluatedModel)
        found.append(evaluate_model(model, make_tasks(), config, folder=tmp_path / str(size)))
    assert answers(tmp_path / "1") == answers(tmp_path / "3")
    assert scores(found[0]) == scores(found[1])
    again = TransformersModel(*made)
    again.write = again.score = lambda *_, **__: pytest.fail("asked again")
    assert scores(evaluate_model(again, make_tasks(), config, folder=tmp_path / "1")) == scores(found[0])


def test_a_model_of_other_weights_is_refused_in_the_folder(tmp_path):
    """Answers of one model are not gone on with by another."""
    config = EvalConfig(shots=(0,), seeds=(0,), controls=(), bootstrap=0, text_shots=0)
    tasks = [synthetic_task("binding", queries=2, size=8, answering="closed")]
    model, processor = make_llava()
    evaluate_model(TransformersModel(model, processor), tasks, config, folder=tmp_path)
    with torch.no_grad():
        model.lm_head.weight.mul_(2)
    with pytest.raises(EvaluationError, match="holds answers of another model, with weights="):
        evaluate_model(TransformersModel(model, processor), tasks, config, folder=tmp_path)


def test_gates_that_are_not_there_are_not_closed(made):
    """The control that closes gates is left out with a warning, and the result says so."""
    config = EvalConfig(shots=(0,), seeds=(0,), controls=("gates_closed", "blind"), bootstrap=0, text_shots=0)
    tasks = [synthetic_task("binding", queries=2, size=8, answering="closed")]
    with pytest.warns(UserWarning, match="TransformersModel has no gates to close"):
        result = evaluate_model(TransformersModel(*made), tasks, config)
    assert {cell.control for cell in result.cells} == {"none", "blind"}
    assert result.run["controls_left_out"] == ["gates_closed"]


def test_oldest_shots_go_where_the_context_is_short(monkeypatch):
    """The context that the config tells counts the positions of images too."""
    model, processor = make_llava()
    asked = TransformersModel(model, processor)
    assert asked.max_tokens == context_length(model) == 2048
    asked.max_tokens = 80
    config = EvalConfig(shots=(4,), seeds=(0,), controls=(), bootstrap=0, max_new_tokens=4, num_beams=1, num_queries=2)
    (task,) = [task for task in make_tasks() if task.answering == "open"]
    result = evaluate_model(asked, [task], config)
    assert result.cell(task.name, 4).counts["truncated"] == 2


@pytest.mark.parametrize(
    ("change", "said"),
    (
        ({"batch_size": 0}, "batch_size is 0, wanted 1 or more"),
        ({"end_of_shot": ""}, 'end_of_shot is "", wanted what stands behind an answer'),
        ({"image_text": ""}, "has no image_token; pass image_text"),
    ),
)
def test_arguments_that_cannot_be_meant_are_refused(made, change, said):
    """Each names the argument and the fix."""
    with pytest.raises(EvaluationError, match=said):
        TransformersModel(*made, **change)


def test_a_processor_without_tokenizer_is_refused(made):
    """The processor of images alone makes no prompts."""
    model, processor = made
    with pytest.raises(EvaluationError, match="without a tokenizer; pass the AutoProcessor"):
        TransformersModel(model, processor.image_processor)


def test_a_model_with_an_encoder_of_text_is_refused(made):
    """Such a model predicts no candidate behind its prompt."""
    model, processor = make_llava()
    model.config.is_encoder_decoder = True
    with pytest.raises(EvaluationError, match="has an encoder of text"):
        TransformersModel(model, processor)


def test_a_language_model_alone_is_refused():
    """Without pixels it would be scored on texts in which images are missing."""
    model, processor = make_llava()
    with pytest.raises(EvaluationError, match="LlamaForCausalLM takes no pixel_values: it reads no images"):
        TransformersModel(LlamaForCausalLM(model.config.text_config), processor)


def test_a_chat_without_a_template_is_refused(made):
    """Nothing says how a turn is written."""
    with pytest.raises(EvaluationError, match="chat is True, but .* has no chat template; leave it out"):
        TransformersModel(*made, chat=True)


def test_what_reads_as_an_image_in_a_text_is_none(made):
    """A question that holds the placeholder or an end of text is text."""
    asked = TransformersModel(*made)
    plain, forged = prompt_of([], "is this a   ?"), prompt_of([], "is this a <image></s>?")
    assert asked.tokens(forged) == asked.tokens(plain)
    assert asked.score([forged], [[" a", " b"]]) == asked.score([plain], [[" a", " b"]])
