"""Shards: written whole and always the same, read in any order, from threads, forks and pickles."""

import hashlib
import io
import multiprocessing
import os
import pickle
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data import ImageSegment, InterleavedDocument
from flamingo_blocks.data.records import RecordError, open_documents, to_members
from flamingo_blocks.data.shards import DocumentShards, Sample, ShardReader, document_shards, write_shard
from tests.document_strategies import documents, drawn

keys = st.text(st.sampled_from("abYZ019_-"), min_size=1, max_size=120)
suffixes = st.sampled_from(["json", "txt", "0.jpg", "1.0.png", "seg-map.png"])
samples = st.lists(
    drawn(Sample, keys, st.dictionaries(suffixes, st.binary(max_size=600), min_size=1)),
    max_size=6,
    unique_by=lambda sample: sample.key,
)


@pytest.fixture(scope="session")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("shards") / "00000.tar"


@given(samples=samples)
def test_samples_survive_a_shard_bit_for_bit(samples, path):
    """In order; its bytes are the same each time, and are what the counts say; tarfile reads it too."""
    written = write_shard(path, samples)
    data = path.read_bytes()
    assert (written.records, written.size_bytes) == (len(samples), len(data))
    assert written.sha256 == hashlib.sha256(data).hexdigest()
    reader = ShardReader(path)
    assert list(reader) == samples
    assert (reader.keys, reader.problems) == (tuple(sample.key for sample in samples), ())
    assert reader[::-1] == samples[::-1]
    assert [reader[k] for k in range(-len(samples), 0)] == samples
    write_shard(path, iter(samples))
    assert path.read_bytes() == data
    with tarfile.open(path) as archive:
        assert [member.name for member in archive] == [f"{s.key}.{name}" for s in samples for name in s.members]


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (Sample("a.b", {"txt": b""}), "a sample has the key 'a.b', wanted 1 to 200 of A-Z a-z 0-9 _ - and no dot"),
        (Sample("", {"txt": b""}), "a sample has the key ''"),
        (Sample("../a", {"txt": b""}), "a sample has the key '../a'"),
        (Sample("a" * 201, {"txt": b""}), "a sample has the key 'aaa"),
        (Sample("a\n", {"txt": b""}), "a sample has the key"),
        (Sample("first", {"txt": b""}), "two samples have the key 'first'"),
        (Sample("b", {}), "the sample 'b' has no members"),
        (Sample("b", {"JPG": b""}), "the sample 'b' has a member 'JPG', wanted a name such as 'json'"),
        (Sample("b", {"": b""}), "has a member ''"),
        (Sample("b", {"a/b": b""}), "has a member 'a/b'"),
        (Sample("__b", {"txt__": b""}), "has a member 'txt__'"),
    ],
)
def test_a_shard_that_cannot_be_written_leaves_what_was_there(bad, says, tmp_path):
    """And no unfinished file."""
    path = tmp_path / "a.tar"
    path.write_bytes(b"before")
    with pytest.raises(ValueError, match=says):
        write_shard(path, [Sample("first", {"txt": b"1"}), bad])
    assert [file.name for file in tmp_path.iterdir()] == ["a.tar"]
    assert path.read_bytes() == b"before"


def test_an_interrupted_writer_leaves_nothing(tmp_path):
    """Whatever the samples raise; and the name is taken at the end only."""

    def broken():
        yield Sample("a", {"txt": b"1"})
        assert not (tmp_path / "a.tar").exists()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shard(tmp_path / "a.tar", broken())
    assert list(tmp_path.iterdir()) == []


def test_a_shard_has_the_rights_of_other_files(tmp_path):
    """Those that the user's mask leaves, so that others may read it."""
    (tmp_path / "plain").write_bytes(b"")
    write_shard(tmp_path / "a.tar", [])
    assert (tmp_path / "a.tar").stat().st_mode == (tmp_path / "plain").stat().st_mode


def document(k):
    return InterleavedDocument.from_parts([f"t{k}", ImageSegment(data=b"\xff\xd8\xff" + bytes([k]) * 99)])


@pytest.fixture
def folder(tmp_path):
    """Seven documents in three shards, one of them empty."""
    for name, numbers in (("00000", (0, 1, 2)), ("00001", ()), ("00002", (3, 4, 5, 6))):
        write_shard(tmp_path / f"{name}.tar", [Sample(f"k{k}", to_members(document(k))) for k in numbers])
    return tmp_path


@given(shards=st.lists(st.lists(documents, max_size=3), min_size=1, max_size=4))
def test_documents_survive_many_shards(shards, path):
    """As one sequence, whatever the sizes; open_documents gives the same."""
    paths = [path.with_name(f"many-{number}.tar") for number in range(len(shards))]
    for shard, inside in zip(paths, shards, strict=True):
        write_shard(shard, [Sample(f"k{k}", to_members(each)) for k, each in enumerate(inside)])
    found = DocumentShards(paths)
    wanted = [each for inside in shards for each in inside]
    assert len(found) == len(wanted)
    assert list(found) == wanted
    assert [each for shard in paths for each in open_documents(shard)] == wanted


def test_documents_are_found_by_number(folder):
    """From both ends, over shards that are empty; beyond them there are none."""
    shards = DocumentShards(folder)
    assert [shards[k] for k in (6, 0, 3, -1, -7)] == [document(k) for k in (6, 0, 3, 6, 0)]
    assert shards[2:5] == [document(k) for k in (2, 3, 4)]
    assert [shards.key(k) for k in (2, 3, -1)] == ["00000/k2", "00002/k3", "00002/k6"]
    assert DocumentShards(str(folder / "00002.tar")).key(0) == "00002/k3"
    for k in (7, -8):
        with pytest.raises(IndexError, match=f"document {k} of 7"):
            shards[k]
        with pytest.raises(IndexError, match=f"document {k} of 7"):
            shards.key(k)
    with pytest.raises(IndexError, match="sample 3 of 3 in 00000.tar"):
        ShardReader(folder / "00000.tar")[3]


def test_shards_can_be_sent_forked_and_shared(folder):
    """A pickled one opens its files anew; forked workers and threads read from the same ones."""
    shards = DocumentShards(folder)
    assert shards[0] == document(0)
    sent = pickle.loads(pickle.dumps(shards))  # noqa: S301 - our own
    assert (list(sent), sent.fingerprint) == (list(shards), shards.fingerprint)
    order = [k * 5 % 7 for k in range(350)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(shards.__getitem__, order)) == [document(k) for k in order]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(shards.__getitem__, [6, 0]) == [document(6), document(0)]


def read_in_fork(shards, pipe):
    pipe.send([shards[k] for k in (6, 0, 3)])
    pipe.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_worker_reads_from_the_files_of_its_parent(folder):
    """By place, so that neither moves the other's."""
    shards = DocumentShards(folder)
    assert shards[3] == document(3)
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe()
    worker = context.Process(target=read_in_fork, args=(shards, theirs))
    worker.start()
    theirs.close()
    assert [shards[k] for k in (1, 4)] == [document(1), document(4)]
    assert mine.recv() == [document(k) for k in (6, 0, 3)]
    worker.join()
    assert worker.exitcode == 0


def open_files():
    """How many files this process has open, where the system tells."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def test_a_limited_number_of_files_is_open(tmp_path, monkeypatch):
    """However many shards there are, and none when nobody reads any more."""
    monkeypatch.setattr(document_shards, "MAX_OPEN", 3)
    for k in range(8):
        write_shard(tmp_path / f"{k}.tar", [Sample("k", to_members(document(k)))])
    before = open_files()
    shards = DocumentShards(tmp_path)
    for k in [*range(8), *range(7, -1, -1), 3, 3]:
        assert shards[k] == document(k)
        assert sum(reader.is_open for reader in shards._readers) <= 3
        assert open_files() <= before + 3
    del shards
    assert open_files() == before


def test_a_fingerprint_tells_other_samples_of_the_same_size(tmp_path):
    """A tar file is filled up to a round size, so that alone would tell little: a key or a member counts."""
    prints = set()
    for key, member in (("a", b"one"), ("b", b"one"), ("a", b"three")):
        write_shard(tmp_path / "0.tar", [Sample(key, {"txt": member, "json": b"{}"})])
        prints.add((DocumentShards(tmp_path).fingerprint, (tmp_path / "0.tar").stat().st_size))
    assert len(prints) == 3
    assert len({size for _, size in prints}) == 1


def test_a_fingerprint_is_that_of_names_sizes_and_counts(folder, tmp_path_factory):
    """It moves with the folder, and changes with the order, the size, the name and the number of samples."""
    first = DocumentShards(folder).fingerprint
    assert DocumentShards(sorted(folder.iterdir())).fingerprint == first
    moved = tmp_path_factory.mktemp("moved")
    for shard in folder.iterdir():
        (moved / shard.name).write_bytes(shard.read_bytes())
    assert DocumentShards(moved).fingerprint == first
    others = {DocumentShards(sorted(folder.iterdir())[::-1]).fingerprint}
    write_shard(moved / "00001.tar", [Sample("x", {"txt": b""})])  # as long as the empty one
    assert (moved / "00001.tar").stat().st_size == (folder / "00001.tar").stat().st_size
    others.add(DocumentShards(moved).fingerprint)
    (folder / "00001.tar").rename(folder / "00003.tar")
    others.add(DocumentShards(folder).fingerprint)
    assert len(others | {first}) == 4


def test_a_broken_record_inside_is_told_and_the_others_are_read(folder):
    """By shard, key and field."""
    members = to_members(document(0))
    bad = {**members, "json": members["json"].replace(b'"1.jpg"', b'"2.jpg"')}
    write_shard(folder / "00001.tar", [Sample("good", members), Sample("bad", bad)])
    shards = DocumentShards(folder)
    assert shards[3] == document(0)
    with pytest.raises(RecordError, match=r"00001\.tar, record bad, field images\[1\]\.member: names '2.jpg'") as told:
        shards[4]
    assert (told.value.file, told.value.record, told.value.reason) == ("00001.tar", "bad", "members")
    assert shards.problems == ()
    data = (folder / "00002.tar").read_bytes()
    (folder / "00002.tar").write_bytes(data[:-9000])
    (problem,) = DocumentShards(folder).problems
    assert (problem.file, problem.reason) == ("00002.tar", "truncated_shard")


def test_a_shard_that_changes_after_it_was_indexed_is_told(folder):
    """What would be read are bytes of something else."""
    shards = DocumentShards(folder)
    write_shard(folder / "00000.tar", [Sample("other", {"txt": b"1"})])
    with pytest.raises(OSError, match=r"00000\.tar has changed since it was indexed; make a new reader"):
        shards[0]
    shards = DocumentShards(folder)
    assert shards[1] == document(3)
    os.truncate(folder / "00002.tar", 600)
    with pytest.raises(OSError, match=r"00002\.tar has changed since"):
        shards[4]


def test_indexes_are_kept_beside_shards_when_asked(folder):
    """One for each, and read again."""
    DocumentShards(folder)
    assert len(list(folder.iterdir())) == 3
    DocumentShards(folder, save_index=True)
    beside = folder / "00000.tar.index.json"
    beside.write_text(beside.read_text().replace('"k1"', '"saved"'))
    assert DocumentShards(folder).key(1) == "00000/saved"


def test_no_shards_are_refused(tmp_path):
    """As is a folder without any."""
    for paths in ([], tmp_path):
        with pytest.raises(ValueError, match="holds no shard; wanted one .tar file or more"):
            DocumentShards(paths)


def test_members_that_lie_far_apart_are_read_one_by_one(tmp_path):
    """What stands between them, and is left out, is not read."""
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, size in (("k.a", 3), ("k.big", 200_000), ("k.b", 5)):
            member = tarfile.TarInfo(name)
            member.size = size
            archive.addfile(member, io.BytesIO(bytes(size)))
    reader = ShardReader(tmp_path / "a.tar", max_member_bytes=1000)
    assert reader[0].members == {"a": bytes(3), "b": bytes(5)}
    assert [problem.reason for problem in reader.problems] == ["member_size"]
