"""`flamingo-blocks data`, called as the shell calls it."""

import json
import subprocess
import sys

import pytest

from flamingo_blocks.cli import main as run_main
from flamingo_blocks.data import ImageSegment, InterleavedDocument, records
from tests.data.filters.test_image_gate import file_of, noise


def main(words):
    """The command line, whose words may be paths."""
    return run_main([str(word) for word in words])


DOCUMENTS = [
    InterleavedDocument.from_parts([f"Cat {number}: ", ImageSegment(url=f"https://ex.com/{number}.jpg"), "She sleeps."])
    for number in range(5)
]


def write(path, documents, *, broken=0):
    lines = [records.to_members(document)["json"].decode() for document in documents]
    lines[1:1] = ['{"texts": ["a"]}'] * broken
    path.write_text("\n".join(lines) + "\n")
    return path


def refused(capsys, *arguments):
    """The one line of a command that fails."""
    assert main(["data", *arguments]) == 1
    printed = capsys.readouterr()
    assert not printed.out
    assert printed.err.count("\n") == 1
    return printed.err.removeprefix("flamingo-blocks: error: ")


def test_show_writes_a_page(tmp_path, capsys):
    """Of the documents that were asked for."""
    path, out = write(tmp_path / "a.jsonl", DOCUMENTS), tmp_path / "page.html"
    words = ["data", "show", path, "--out", out, "--limit", "2", "--skip", "1", "--scope", "all"]
    assert main(words) == 0
    assert capsys.readouterr().out == f"Wrote {out}: 2 documents\n"
    page = out.read_text()
    assert "Documents of a.jsonl" in page
    assert "Text sees all images before it." in page
    assert [f"Cat {number}:" in page for number in range(5)] == [False, True, True, False, False]


def test_broken_records_are_shown_at_their_place(tmp_path, capsys):
    """With their reason, and counted by stats."""
    path, out = write(tmp_path / "a.jsonl", DOCUMENTS, broken=2), tmp_path / "page.html"
    assert main(["data", "show", path, "--out", out]) == 0
    assert out.read_text().count("Dropped") == 2
    capsys.readouterr()
    assert main(["data", "stats", path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dropped"] == {"field": 2}


def test_show_takes_a_tokenizer_of_transformers(tmp_path, capsys):
    """Its tags, or ids beyond its table where it has none."""
    from tests.interop.transformers_peers import tokenizer

    tokenizer().save_pretrained(tmp_path / "tokenizer")
    path, out = write(tmp_path / "a.jsonl", DOCUMENTS), tmp_path / "page.html"
    words = ["data", "show", path, "--out", out, "--tokenizer", tmp_path / "tokenizer", "--media-token", "<fake>"]
    assert main(words) == 0
    assert "Words stand for tokens" not in out.read_text()
    assert "5 documents" in capsys.readouterr().out


def test_stats_prints_a_table_or_json(tmp_path, capsys):
    """Over files and folders."""
    (tmp_path / "folder").mkdir()
    one, other = write(tmp_path / "a.jsonl", DOCUMENTS), write(tmp_path / "folder" / "b.jsonl", DOCUMENTS[:1])
    assert main(["data", "stats", one, other.parent]) == 0
    assert capsys.readouterr().out.startswith("documents   6, 1 of them repeats\n")
    assert main(["data", "stats", one, other, "--limit", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["documents"] == 3


def test_stats_finds_languages(tmp_path, capsys):
    """Where it is asked."""
    path = write(tmp_path / "a.jsonl", [InterleavedDocument.from_parts(["This is the house that we have built."])])
    assert main(["data", "stats", path, "--languages", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["languages"] == {"en": 1}


def test_check_names_what_is_wrong(tmp_path, capsys):
    """With status 1; and nothing wrong is status 0."""
    path = write(tmp_path / "a.jsonl", DOCUMENTS, broken=1)
    assert main(["data", "check", path]) == 1
    assert capsys.readouterr().out == "a.jsonl, record 1, field images: is missing, wanted a list (field)\n1 error\n"
    assert main(["data", "check", path, "--json"]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {
        "file": "a.jsonl", "record": 1, "field": "images", "reason": "field", "problem": "is missing, wanted a list",
    }  # fmt: skip
    assert main(["data", "check", write(path, DOCUMENTS)]) == 0
    assert capsys.readouterr().out == "nothing is wrong\n"


@pytest.mark.parametrize("kind", ["shards", "obelics-parquet", "jsonl"])
def test_documents_are_the_same_in_every_kind_of_file(kind, tmp_path, capsys):
    """And are read again from it; shards are as many as asked for."""
    out = tmp_path / {"shards": "shards", "obelics-parquet": "b.parquet", "jsonl": "b.jsonl"}[kind]
    words = ["data", "convert", write(tmp_path / "a.jsonl", DOCUMENTS), "--to", kind, "--out", out, "--per-shard", "2"]
    assert main(words) == 0
    assert capsys.readouterr().out == f"Wrote {out}: 5 documents\n"
    assert [document.segments for document in records.open_documents(out)] == [one.segments for one in DOCUMENTS]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["a.jsonl", out.name])
    if kind == "shards":
        assert sorted(path.name for path in out.iterdir()) == ["00000.tar", "00001.tar", "00002.tar"]


def test_broken_records_end_a_conversion_or_are_left_out(tmp_path, capsys):
    """And counted."""
    path, out = write(tmp_path / "a.jsonl", DOCUMENTS, broken=2), tmp_path / "shards"
    words = ["convert", path, "--to", "shards", "--out", out]
    assert "record 1, field images: is missing" in refused(capsys, *words)
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]
    assert main(["data", *words, "--skip-broken"]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"Wrote {out}: 5 documents\n"
    assert printed.err == "flamingo-blocks: 2 broken records left out: field 2\n"


def test_files_of_images_need_shards(tmp_path, capsys):
    """The other kinds have no place for them, and say so; nothing is left behind."""
    from flamingo_blocks.data import shards

    document = InterleavedDocument.from_parts([ImageSegment(data=file_of(noise(80, 80))), "noise"])
    path = tmp_path / "00000.tar"
    shards.write_shard(path, [shards.Sample("a", records.to_members(document))])
    told = refused(capsys, "convert", path, "--to", "jsonl", "--out", tmp_path / "b.jsonl")
    assert "document 0 holds the bytes of an image or clip" in told
    refused(capsys, "convert", path, "--to", "obelics-parquet", "--out", tmp_path / "b.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["00000.tar"]
    assert main(["data", "convert", path, "--to", "shards", "--out", str(tmp_path / "again")]) == 0
    assert next(iter(records.open_documents(tmp_path / "again"))) == document


@pytest.mark.parametrize("command", ["show", "stats", "check", "convert"])
@pytest.mark.parametrize(
    ("name", "message"),
    [("gone.jsonl", "where there is nothing"), ("a.txt", "wanted one of .tar, .parquet"), (".", "holds no")],
)
def test_a_path_that_cannot_be_read_is_one_line(command, name, message, tmp_path, capsys):
    """And nothing is written."""
    out = {"show": ["--out", tmp_path / "o.html"], "convert": ["--to", "jsonl", "--out", tmp_path / "o.jsonl"]}
    (tmp_path / "a.txt").write_text("no documents")
    assert message in refused(capsys, command, tmp_path / name, *out.get(command, []))
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show", "a.jsonl", "--out", "gone/page.html"], "there is no folder gone"),
        (["show", "a.jsonl", "--out", "."], "is a folder; name a file"),
        (["show", "a.jsonl", "--scope", "all", "--direction", "next"], "next"),
        (["show", "a.jsonl", "--tokenizer", "."], "tokenizer"),
        (["convert", "a.jsonl", "--to", "jsonl", "--out", "a.jsonl"], "there already"),
        (["convert", "a.jsonl", "--to", "shards", "--out", "gone/out"], "there is no folder gone"),
        (["convert", "empty.jsonl", "--to", "shards", "--out", "out"], "there is no document to write"),
    ],
)
def test_wrong_arguments_are_one_line(words, message, tmp_path, monkeypatch, capsys):
    """Before anything is written."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.jsonl", DOCUMENTS)
    (tmp_path / "empty.jsonl").touch()
    assert message in refused(capsys, *words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "empty.jsonl"]


@pytest.mark.parametrize(
    "words",
    [["show"], ["show", "a", "--limit", "0"], ["show", "a", "--media-token", "x"], ["stats", "a", "--limit", "x"],
     ["convert", "a", "--out", "b"], ["convert", "a", "--to", "zip", "--out", "b"]],
)  # fmt: skip
def test_words_that_no_command_takes(words, capsys):
    """Are one line, with status 2."""
    with pytest.raises(SystemExit) as stopped:
        main(["data", *words])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("command", ("show", "stats"))
def test_broken_records_are_told_beside_what_is_shown(command, tmp_path, capsys):
    """On standard error, with the command that names each."""
    path = write(tmp_path / "a.jsonl", DOCUMENTS, broken=2)
    assert main(["data", command, path, *(["--out", tmp_path / "o.html"] if command == "show" else [])]) == 0
    assert "broken records: 2; flamingo-blocks data check names each" in capsys.readouterr().err


def test_an_interrupt_ends_in_one_line(tmp_path, capsys, monkeypatch):
    """With the status that shells give it."""

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("flamingo_blocks.cli._data.stats.document_stats", interrupted)
    assert main(["data", "stats", write(tmp_path / "a.jsonl", DOCUMENTS)]) == 130
    assert capsys.readouterr().err == "flamingo-blocks: stopped; nothing was to be written\n"


def test_who_reads_may_stop_reading(tmp_path):
    """As `head` does: no traceback follows."""
    path = write(tmp_path / "a.jsonl", DOCUMENTS)
    command = [sys.executable, "-m", "flamingo_blocks.cli", "data", "stats", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1
