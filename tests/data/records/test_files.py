"""Parquet files, lines of JSON, and files of any kind: read in order, with every problem named."""

import gzip
import json
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data import ImageSegment, InterleavedDocument
from flamingo_blocks.data.records import (
    RecordError,
    check_file,
    from_obelics,
    open_documents,
    read_documents_parquet,
    to_members,
    to_mmc4,
    to_obelics,
    write_documents_parquet,
)
from flamingo_blocks.data.shards import Sample, write_shard
from tests.document_strategies import documents_of_urls

ROWS = [{"texts": [f"t{k}", None], "images": [None, f"https://ex.com/{k}.jpg"]} for k in range(5)]
DOCUMENTS = [InterleavedDocument.from_parts([f"t{k}", ImageSegment(url=f"https://ex.com/{k}.jpg")]) for k in range(5)]


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture(scope="session")
def parquet_path(tmp_path_factory):
    return tmp_path_factory.mktemp("parquet") / "a.parquet"


@given(documents=st.lists(documents_of_urls, max_size=6), rows_per_group=st.integers(1, 4))
def test_documents_survive_a_parquet_file(documents, rows_per_group, parquet_path):
    """Of texts and image addresses with all metadata, for any size of its groups."""
    written = write_documents_parquet(parquet_path, documents, rows_per_group=rows_per_group)
    assert (written.records, written.size_bytes) == (len(documents), parquet_path.stat().st_size)
    assert list(read_documents_parquet(parquet_path)) == documents
    assert list(check_file(parquet_path)) == []


def test_other_columns_survive_a_parquet_file(tmp_path):
    """Those of OmniCorpus are lists and structs where OBELICS has JSON; the schema and the values come back."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [
        {
            **row,
            "metadata": [None, {"width": 640, "p_hash": "ff", "unsafe_prob": 0.5}],
            "general_metadata": {"url": f"u{k}", "domain": ["a"], "porn_prob": 0.0},
            "id": k,
        }
        for k, row in enumerate(ROWS)
    ]
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    documents = list(read_documents_parquet(tmp_path / "a.parquet"))
    assert documents[3].media[0].metadata == {"width": 640, "p_hash": "ff", "unsafe_prob": 0.5}
    write_documents_parquet(tmp_path / "b.parquet", documents, rows_per_group=2)
    assert parquet.read_table(tmp_path / "b.parquet").to_pylist() == rows
    assert list(read_documents_parquet(tmp_path / "b.parquet")) == documents


def test_a_parquet_file_with_broken_rows_is_read_around_them(tmp_path):
    """Each is named by its number over all groups."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [dict(row) for row in ROWS]
    rows[1]["texts"] = [None, None]
    rows[4]["texts"] = ["a"]
    table = arrow.Table.from_pylist(rows)
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    told = []
    assert list(read_documents_parquet(tmp_path / "a.parquet", on_error=told.append)) == [
        from_obelics(row) for row in (rows[0], rows[2], rows[3])
    ]
    assert [str(error) for error in told] == [
        "a.parquet, record 1, field texts[0]: has neither text nor image, wanted one of them",
        "a.parquet, record 4, field images: has 2 places and texts 1, wanted as many",
    ]
    with pytest.raises(RecordError, match="record 1, field"):
        list(read_documents_parquet(tmp_path / "a.parquet"))


def test_a_parquet_file_that_was_damaged_gives_what_can_be_read(tmp_path):
    """A group whose bytes are broken is told and the others are read; so is a file without an end, or other columns."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    rows = [{"texts": [str(k) * 500], "images": [None]} for k in range(6)]
    parquet.write_table(arrow.Table.from_pylist(rows), path, row_group_size=2)
    data = bytearray(path.read_bytes())
    column = parquet.ParquetFile(path).metadata.row_group(1).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
    path.write_bytes(data)
    told = []
    found = list(open_documents(path, on_error=told.append))
    assert [document.text[0] for document in found] == ["0", "1", "4", "5"]
    assert [(error.reason, error.record) for error in told] == [("file", 2)]
    path.write_bytes(data[:-20])
    (error,) = check_file(path)
    assert "a.parquet: is no parquet file" in str(error)
    parquet.write_table(arrow.table({"url": ["u"]}), path)
    (error,) = check_file(path)
    assert str(error) == "a.parquet, field images: has the columns url, wanted texts and images"


def test_documents_that_do_not_fit_a_parquet_file_are_refused_and_leave_nothing(tmp_path):
    """Columns that come later, text that is no UTF-8, and no rows a group."""
    late = from_obelics({"texts": ["b"], "images": [None], "id": 1})
    plain = InterleavedDocument.from_parts(["a"])
    for documents, says in (
        ([plain, late], r"documents have the columns \['id'\], which the first group had not"),
        (
            [late, from_obelics({"texts": ["b"], "images": [None], "id": "x"})],
            "do not fit the columns of the first group",
        ),
        ([InterleavedDocument.from_parts(["\ud800"])], "do not fit the columns"),
    ):
        with pytest.raises(ValueError, match=says):
            write_documents_parquet(tmp_path / "a.parquet", documents, rows_per_group=1)
    with pytest.raises(ValueError, match="rows_per_group is 0"):
        write_documents_parquet(tmp_path / "a.parquet", [], rows_per_group=0)
    assert list(tmp_path.iterdir()) == []


def test_lines_are_read_plain_and_compressed(tmp_path):
    """Of MMC4, OBELICS and ours, with empty lines between."""
    ours = json.loads(to_members(DOCUMENTS[0])["json"])
    mmc4 = {**to_mmc4(InterleavedDocument.from_parts([ImageSegment(url="u"), "a"])), "similarity_matrix": [[0.3]]}
    data = lines([ours, to_obelics(DOCUMENTS[1])]) + b"\n \n" + lines([mmc4])
    (tmp_path / "a.jsonl").write_bytes(data)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(data))
    with zipfile.ZipFile(tmp_path / "c.jsonl.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("c.jsonl", data)
    for name in ("a.jsonl", "b.jsonl.gz", "c.jsonl.zip"):
        found = list(open_documents(tmp_path / name))
        assert found[:2] == DOCUMENTS[:2]
        assert (found[2].media[0].url, found[2].text) == ("u", "a")
    assert len(list(open_documents(tmp_path))) == 9
    assert list(check_file(tmp_path)) == []


def test_broken_lines_are_read_around(tmp_path, monkeypatch):
    """Each is named by its number; a line beyond the bound is passed over without being held."""
    monkeypatch.setattr("flamingo_blocks.data.records.jsonl_files.MAX_BYTES", 200)
    long = b'{"texts": ["' + b"a" * 1000 + b'"]}\n'
    good = lines(ROWS[:1])
    (tmp_path / "a.jsonl").write_bytes(good + b"{\n" + long + b"[1]\n" + good + b"\xff\n" + long[:-1])
    told = []
    monkeypatch.setattr("flamingo_blocks.data.records.read_json.MAX_BYTES", 200)
    assert list(open_documents(tmp_path, on_error=told.append)) == [from_obelics(ROWS[0])] * 2
    assert [(error.record, error.reason) for error in told] == [
        (1, "json"), (2, "json_size"), (3, "field"), (5, "json"), (6, "json_size"),
    ]  # fmt: skip
    assert all(error.file == "a.jsonl" for error in told)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.zip"])
def test_a_compressed_file_that_was_cut_off_gives_what_can_be_read(name, tmp_path):
    """And says so."""
    path = tmp_path / name
    many = lines(ROWS * 200)
    if name.endswith("gz"):
        path.write_bytes(gzip.compress(many)[:-30])
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.jsonl", many)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1  # a letter that the sum of the file does not fit
        path.write_bytes(data)
    told = []
    found = list(open_documents(path, on_error=told.append))
    assert 0 < len(found) <= 1000
    assert "file" in {error.reason for error in told}


def test_a_zip_file_that_is_none_is_told(tmp_path):
    """As is one that holds no lines."""
    (tmp_path / "a.zip").write_bytes(b"no zip")
    (error,) = check_file(tmp_path / "a.zip")
    assert "a.zip: is no zip file" in str(error)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt", "")
    (error,) = check_file(tmp_path / "a.zip")
    assert str(error) == "a.zip: holds no .jsonl"


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path):
    """Tables that img2dataset keeps beside its shards are no records, nor are indexes and unfinished files."""
    write_shard(tmp_path / "00000.tar", [Sample("k", to_members(DOCUMENTS[0]))])
    (tmp_path / "00000.parquet").write_bytes(b"a table of addresses")
    (tmp_path / "00000.tar.index.json").write_text("{}")
    (tmp_path / "00000_stats.json").write_text("{}")
    (tmp_path / ".00001.tar.1-ab.tmp").write_bytes(b"")
    (tmp_path / ".hidden.jsonl").write_bytes(b"{")
    (tmp_path / "00001.jsonl").write_bytes(lines([to_obelics(DOCUMENTS[1])]))
    write_documents_parquet(tmp_path / "00002.parquet", DOCUMENTS[2:])
    assert list(open_documents(tmp_path)) == DOCUMENTS


def test_problems_of_a_shard_are_named_by_file_record_and_field(tmp_path):
    """Of the tar file and of the records inside."""
    bad = {**json.loads(to_members(DOCUMENTS[0])["json"]), "clips": 1}
    samples = [
        Sample("a", to_members(DOCUMENTS[0])), Sample("b", {"json": json.dumps(bad).encode()}),
        Sample("c", {"txt": b"c"}), Sample("d", to_members(DOCUMENTS[1])), Sample("e", to_members(DOCUMENTS[2])),
    ]  # fmt: skip
    write_shard(tmp_path / "a.tar", samples)
    data = (tmp_path / "a.tar").read_bytes()
    size, end = len(samples[4].members["json"]), data.index(b"e.json") + 600
    (tmp_path / "a.tar").write_bytes(data[:end])
    cut, *others = check_file(tmp_path / "a.tar")
    assert cut.reason == "truncated_shard"
    ends = data.index(b"e.json") + 512 + size
    assert str(cut) == f"a.tar, field e.json: should end at byte {ends}, and the file ends at {end}"
    assert [str(error) for error in others] == [
        "a.tar, record b, field clips: is 1 of type int, wanted a list",
        "a.tar, record c: has the members txt, wanted json, or an image or a clip with its txt",
    ]
    told = []
    assert list(open_documents(tmp_path / "a.tar", on_error=told.append)) == DOCUMENTS[:2]
    assert len(told) == 3


def test_paths_that_hold_no_documents_are_refused(tmp_path, without_shape_checks):
    """Before anything is read, with what is read in the message."""
    (tmp_path / "a.csv").write_text("")
    for path, says in (
        (tmp_path, "holds no file of documents, wanted one of .tar, .parquet"),
        (tmp_path / "a.csv", "a.csv', wanted one of .tar"),
        (tmp_path / "a.tar", "a.tar', where there is nothing"),
    ):
        with pytest.raises(ValueError, match=says):
            open_documents(path)
        with pytest.raises(ValueError, match=says):
            check_file(path)
    with pytest.raises(ValueError, match="on_error is 'drop', wanted 'raise' or a function"):
        open_documents(tmp_path, on_error="drop")
