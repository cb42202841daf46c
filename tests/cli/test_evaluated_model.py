"""Models that `flamingo-blocks eval` asks: folders of every kind, functions, and what is said of others."""

from pathlib import Path

import pytest

from flamingo_blocks.cli import main
from flamingo_blocks.evaluation.reports import read_predictions
from tests.evaluation.answering.tiny_models import make_llava

SETTINGS = ("--shots", "0,2", "--seeds", "0", "--queries", "4", "--beams", "1", "--controls", "gates_closed")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A tiny model with its tokenizer, saved by this library and in transformers' form."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from flamingo_blocks import Flamingo, GatedCrossAttentionBlock, PerceiverResampler, hf
    from flamingo_blocks.models import every_layer
    from flamingo_blocks.vision import TransformersTower

    folder = tmp_path_factory.mktemp("saved")
    words = Tokenizer(models.WordLevel({"<pad>": 0, "<unk>": 1, "<eos>": 2, "This": 3, "is": 4, "a": 5}, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>", eos_token="<eos>")
    sizes = dict(intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    lm = LlamaForCausalLM(LlamaConfig(vocab_size=6, hidden_size=16, eos_token_id=2, pad_token_id=0, **sizes))
    tower = TransformersTower(CLIPVisionModel(CLIPVisionConfig(hidden_size=16, image_size=16, patch_size=8, **sizes)))
    flamingo = Flamingo(
        lm=lm, vision=tower, media_token_id=6, end_token_id=7, num_new_tokens=2,
        resampler=PerceiverResampler(vision_dim=16, dim=16, num_latents=2, depth=1, num_heads=2, head_dim=8),
        blocks=every_layer(lm, lambda: GatedCrossAttentionBlock(16, vision_dim=16, num_heads=2)),
    ).eval()  # fmt: skip
    flamingo.save_pretrained(folder / "native" / "model", frozen="include")
    tokenizer.save_pretrained(folder / "native" / "tokenizer")
    hf.FlamingoForConditionalGeneration.from_flamingo(flamingo).save_pretrained(folder / "transformers")
    processor = hf.FlamingoProcessor(tokenizer, tower.preprocess, media_token_id=6, end_token_id=7)
    processor.save_pretrained(folder / "transformers")
    return folder


def test_a_saved_model_is_asked_in_either_form(saved, tmp_path, capsys):
    """The folder of `save_pretrained` with a tokenizer beside it, and that of transformers, give the same answers."""
    for name in ("native/model", "transformers"):
        command = ["eval", "--tasks", "matching", "--model", str(saved / name), "--out", str(tmp_path / name)]
        assert main([*command, *SETTINGS]) == 0, capsys.readouterr().err
    one, two = (read_predictions(tmp_path / name / "predictions.jsonl") for name in ("native/model", "transformers"))
    assert one == two
    lines = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert lines.index("matching") < lines.index("gates_closed")


@pytest.mark.filterwarnings("default:TransformersModel has no gates to close")
def test_a_folder_of_another_model_of_transformers_is_asked(tmp_path, capsys):
    """What transformers saved, with its processor, runs by the same command, and the controls that fit are asked."""
    model, processor = make_llava()
    for part in (model, processor):
        part.save_pretrained(tmp_path / "llava")
    out, controls = tmp_path / "out", "gates_closed,shuffle_images"
    command = ["eval", "--tasks", "binding,counting", "--model", str(tmp_path / "llava"), "--out", str(out)]
    assert main([*command, *SETTINGS, "--controls", controls]) == 0
    printed = capsys.readouterr()
    assert printed.err.count("note: TransformersModel has no gates to close") == 1
    assert "shuffle_images" in printed.out and "gates_closed" not in printed.out
    assert len(read_predictions(out / "predictions.jsonl")) == 4 * (2 + 1) * 2


def test_a_model_of_ones_own_class_is_asked(tmp_path, capsys):
    """A function may return whatever a run can ask."""
    (tmp_path / "says.py").write_text(
        "from tests.evaluation.answering.says import Says\n\n\ndef model():\n    return Says()\n"
    )
    model, out = f"{tmp_path / 'says.py'}:model", str(tmp_path / "out")
    command = ["eval", "--tasks", "counting", "--model", model, "--out", out]
    assert main([*command, *SETTINGS, "--controls", "blind"]) == 0, capsys.readouterr().err
    assert "counting" in capsys.readouterr().out


def refused(folder, capsys, *more):
    """What is said of the model of a folder."""
    capsys.readouterr()
    out = str(Path(folder) / "out")
    assert main(["eval", "--tasks", "counting", "--model", str(folder), "--out", out, *more]) == 1
    return capsys.readouterr().err.removeprefix("flamingo-blocks: error: ")


def test_a_folder_without_a_processor_is_told(tmp_path, capsys):
    """A model of transformers needs its processor beside it."""
    model, _ = make_llava()
    model.save_pretrained(tmp_path / "llava")
    assert refused(tmp_path / "llava", capsys) == (
        f"{tmp_path / 'llava'} holds a model of type 'llava' without its processor: neither processor_config.json "
        "nor preprocessor_config.json is there; save its processor into the folder too\n"
    )


def test_a_model_that_reads_no_images_is_told(tmp_path, capsys):
    """A language model alone, or a tower alone, is named as what it is."""
    from transformers import CLIPVisionConfig, LlamaConfig

    LlamaConfig().save_pretrained(tmp_path / "lm")
    said = "holds a model of type 'llama', which reads no images: a language model alone; name a vision-language model"
    assert refused(tmp_path / "lm", capsys) == f"{tmp_path / 'lm'} {said}\n"
    CLIPVisionConfig().save_pretrained(tmp_path / "tower")
    assert "'clip_vision_model', which is no model that writes of images and text" in refused(
        tmp_path / "tower", capsys
    )


@pytest.mark.parametrize(
    ("files", "said"),
    (
        ({}, "holds no model: neither config.json nor flamingo_config.json is there, and the folder has nothing"),
        ({"a.safetensors": ""}, "flamingo_config.json is there, and the folder has a.safetensors; wanted a folder"),
        ({"config.json": "{"}, "config.json is no JSON: Expecting property name"),
        ({"config.json": "{}"}, "config.json has no model_type, so it is of no model of transformers"),
        ({"config.json": '{"model_type": "newest"}'}, "is not read as a vision-language model: The checkpoint you are"),
    ),
)
def test_a_folder_without_a_model_is_told(tmp_path, capsys, files, said):
    """With what is there and what is wanted, in one line."""
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    found = refused(tmp_path, capsys)
    assert said in found
    assert found.count("\n") == 1 and found.endswith("\n")


def test_a_flamingo_has_no_chat_template(saved, capsys):
    """Asked for, it is refused in either form, and not left out silently."""
    for name in ("native/model", "transformers"):
        said = refused(saved / name, capsys, "--chat")
        assert f"{saved / name} holds a Flamingo, leave --chat out" in said


def test_a_tokenizer_without_use_is_refused(saved, tmp_path, capsys):
    """A folder of transformers, or a function, brings its own, which would be taken in silence."""
    for name in (str(saved / "transformers"), "mine.py:model"):
        said = refused(name, capsys, "--tokenizer", str(tmp_path))
        assert f"--tokenizer is for folders of Flamingo.save_pretrained; {name} comes with its own" in said
