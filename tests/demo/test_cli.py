"""The commands, called as the shell calls them."""

import json
from dataclasses import replace

import pytest

from flamingo_blocks.cli import demo as command
from flamingo_blocks.cli import main
from flamingo_blocks.cli.demo import print_result


def test_generate_prints_the_continuation(small_run, capsys):
    """`flamingo-blocks generate` prints words, and nothing else, on standard output."""
    out = small_run[1]
    image = str(min((out / "images").iterdir()))
    status = main(["generate", str(out / "model"), "--image", image, "--prompt", "<image> an", "--max-new-tokens", "2"])
    printed = capsys.readouterr()
    assert status == 0
    assert 1 <= len(printed.out.split()) <= 2
    assert not printed.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--prompt", "<image> this is a"], "1 <image> tags, but 0 images"),
        (["--prompt", "this is a kuml"], "'kuml'"),
        (["--prompt", "<image>", "--image", "gone.png"], "there is no file gone.png"),
    ],
)
def test_a_slip_of_the_user_is_one_line_on_standard_error(small_run, capsys, words, message):
    """Wrong numbers of images, unknown words and missing files end with status 1 and one line, without a trace."""
    assert main(["generate", str(small_run[1] / "model"), *words]) == 1
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert not printed.out


def test_a_missing_model_is_said(tmp_path, capsys):
    """A folder without a model is an error of status 1."""
    assert main(["generate", str(tmp_path / "nowhere"), "--prompt", "a"]) == 1
    assert "holds no vocabulary.json" in capsys.readouterr().err


def test_a_command_is_needed(capsys):
    """Without a command the help is printed, on standard error and with status 2: nothing was done."""
    for words in ([], ["data"]):
        assert main(words) == 2
        printed = capsys.readouterr()
        assert "COMMAND" in printed.err
        assert not printed.out


@pytest.mark.parametrize("number", ["0", "-1", "many"])
def test_numbers_must_be_above_zero(number, capsys):
    """Threads and words to write are counted from one; anything else is said, with status 2."""
    for words in (["demo", "--threads", number], ["generate", "x", "--prompt", "a", "--max-new-tokens", number]):
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert stopped.value.code == 2
        assert f"'{number}' is no whole number above 0" in capsys.readouterr().err


def test_help_names_the_options(capsys):
    """`demo --help` lists every option; quick and ablations exclude each other."""
    with pytest.raises(SystemExit):
        main(["demo", "--help"])
    text = capsys.readouterr().out
    assert all(option in text for option in ("--seed", "--out", "--threads", "--tower", "--quick", "--ablations"))
    with pytest.raises(SystemExit):
        main(["demo", "--quick", "--ablations"])


def test_the_report_shows_table_controls_gates_samples_and_a_command(small_run, capsys):
    """What the demo prints at its end names every part, and the command it shows runs on files that exist."""
    result, out, _ = small_run
    print_result(result, out, quick=False)
    text = capsys.readouterr().out
    for part in ("5 names, unseen pairs", "gates closed", "images permuted", "layer 1:", "-->", "all_previous_images"):
        assert part in text
    command = text[text.index("flamingo-blocks generate") :].replace("\\\n", " ").split("--prompt")
    words = [*command[0].split()[1:], "--prompt", command[1].strip().strip('"')]
    assert main(words) == 0
    print_result(replace(result, ablations={}), out, quick=True)
    assert "captions only" in capsys.readouterr().out


def test_scripts_get_what_is_in_the_results(small_run, tmp_path, monkeypatch, capsys):
    """`demo --json` prints what stands in results.json, and `generate --json` what was asked and written."""
    result, out, _ = small_run
    monkeypatch.setattr(command, "run_demo", lambda *_, **__: result)
    assert main(["demo", "--json", "--out", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((out / "results.json").read_text())
    image = str(min((out / "images").iterdir()))
    assert main(["generate", str(out / "model"), "--image", image, "--prompt", "<image> an", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["prompt"], found["images"]) == ("<image> an", [image])
    assert found["continuation"]
