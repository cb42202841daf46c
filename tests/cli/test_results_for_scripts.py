"""`--json`: one object on standard output, and nothing else there."""

import json

import pytest

from flamingo_blocks.cli import main
from flamingo_blocks.cli._results import print_json
from flamingo_blocks.interop import write_checkpoint
from flamingo_blocks.interop.example import tiny_open_flamingo
from tests.cli.test_data_commands import DOCUMENTS, write
from tests.cli.test_eval_command import MODEL, SETTINGS
from tests.cli.test_train_command import RECIPE
from tests.language_models import make_language_model


@pytest.fixture
def found(tmp_path, monkeypatch, capsys):
    """Runs a command in an empty folder and reads what it prints."""
    monkeypatch.chdir(tmp_path)

    def run(*words, status=0):
        assert main([*map(str, words), "--json"]) == status, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    return run


def test_checkpoints(found, tmp_path):
    """What is in one, how it differs from a language model (status 1), and what became of it."""
    lm = make_language_model("opt")
    lm.save_pretrained("opt")
    write_checkpoint(tiny_open_flamingo(lm=lm, every=1, vision_dim=16), tmp_path / "checkpoint.pt")
    seen = found("inspect", "checkpoint.pt")
    assert (seen["family"], seen["missing"], seen["error"]) == ("open_flamingo", [], None)
    assert seen["num_tensors"] > 0
    assert set(seen["blocks"]) == set(seen["gates"])
    other = make_language_model("opt", hidden_size=64, word_embed_proj_dim=64)
    other.save_pretrained("wide")
    assert found("inspect", "checkpoint.pt", "--lm", "wide", status=1)["family"] == "open_flamingo"
    made = found("convert", "checkpoint.pt", "--lm", "opt", "--out", "ours")
    assert made["out"] == "ours"
    assert (made["family"], made["tensors"], made["frozen"]) == ("open_flamingo", seen["num_tensors"], "reference")
    assert any("pass lm=" in note for note in made["notes"])
    back = found("convert", "ours", "--to", "open_flamingo", "--lm", "opt", "--out", "back.pt")
    assert back == {"out": "back.pt", "family": "open_flamingo", "tensors": seen["num_tensors"], "notes": []}


def test_documents(found, tmp_path):
    """How many were written, what was left out, and what they are like."""
    path = write(tmp_path / "a.jsonl", DOCUMENTS, broken=1)
    assert found("data", "show", path, "--out", "a.html") == {"out": "a.html", "documents": 6}
    assert found("data", "convert", path, "--to", "shards", "--out", "b", "--skip-broken") == {
        "out": "b", "documents": 5, "left_out": {"field": 1},
    }  # fmt: skip
    assert found("data", "stats", "b")["documents"] == 5
    assert found("data", "check", path, status=1)["record"] == 1


def test_a_run(found, tmp_path):
    """What it will need, and what it did, the second time too."""
    (tmp_path / "mine.py").write_text(RECIPE)
    plan = found("train", "mine.py", "steps=1000", "--dry-run", "--ranks", "2")
    assert (plan["steps"], plan["world_size"], plan["fits"], plan["device"]["name"]) == (1000, 2, True, "H200")
    assert plan["memory_bytes"] == sum(plan["memory"].values())
    done = found("train", "mine.py", "steps=3")
    assert (done["done"], done["first_step"], done["stopped_by"]) == (3, 0, None)
    assert done["losses"].keys() == {"numbers"}
    assert done["written"] == ["run/model", "run/checkpoints", "run/metrics.jsonl"]
    again = found("train", "mine.py", "steps=3")
    assert (again["done"], again["first_step"], again["losses"]) == (3, 3, None)


def test_an_evaluation(found, tmp_path):
    """Its summary is that of results.json, when it is scored again too."""
    (tmp_path / "some_model.py").write_text(MODEL)
    told = found("eval", "--tasks", "counting", "--model", "some_model.py:model", *SETTINGS)
    assert told == {
        "out": "runs/eval",
        "summary": json.loads((tmp_path / "runs/eval/results.json").read_text())["summary"],
    }
    assert found("eval", "--tasks", "counting", "--queries", "4", "--rescore", "runs/eval") == told


def test_an_error_is_a_line_on_standard_error(tmp_path, capsys):
    """With status 1, and standard output stays empty."""
    for words in (
        ["inspect", "gone.pt"],
        ["data", "stats", "gone.jsonl"],
        ["train", "gone.py"],
        ["generate", "gone", "--prompt", "a"],
    ):
        assert main([*words, "--json"]) == 1
        printed = capsys.readouterr()
        assert not printed.out
        assert printed.err.startswith("flamingo-blocks: error: ")
        assert printed.err.count("\n") == 1


def test_numbers_that_json_has_no_word_for_are_null(capsys):
    """A loss that is none any more, wherever it stands: strict readers take the line."""
    print_json({"losses": {"pages": float("nan")}, "all": [1.5, (float("inf"), float("-inf"))]})

    def refuse(word):
        raise AssertionError(word)

    read = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert read == {"losses": {"pages": None}, "all": [1.5, [None, None]]}
