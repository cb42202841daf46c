"""The samples of a tar file, found as tarfile finds its members, whatever the file."""

import io
import os
import struct
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data.shards import Sample, ShardReader, index_shard, write_shard

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


@pytest.fixture(scope="session")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("shards") / "a.tar"


def add(archive, name, data=b"", **facts):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for fact, value in facts.items():
        setattr(member, fact, value)
    archive.addfile(member, io.BytesIO(data))


def tar_of(path, *members, form=tarfile.GNU_FORMAT):
    with tarfile.open(path, "w", format=form) as archive:
        for name, data, facts in members:
            add(archive, name, data, **facts)
    return path.read_bytes()


words = st.text(st.sampled_from("abYZ019_-"), min_size=1, max_size=12)
long_words = st.integers(60, 140).map(lambda number: "n" * number)
names = st.builds("{}.{}".format, words | long_words, st.sampled_from(["jpg", "TXT", "0.json", "seg.png"]))
folders = st.sampled_from(["", "./", "a/", "a.b/c/", "f" * 40 + "/"])
facts = st.fixed_dictionaries(
    {},
    optional={
        "mtime": st.sampled_from([0, 1.5, 2**33]), "uid": st.sampled_from([0, 2**22]), "uname": st.just("ü" * 20),
        "pax_headers": st.just({"comment": "é" * 100}),
    },
)  # fmt: skip
members = st.lists(st.tuples(st.builds(str.__add__, folders, names), st.binary(max_size=1100), facts), max_size=8)


@pytest.mark.parametrize("form", FORMATS)
@given(members=members)
def test_members_are_those_that_tarfile_finds(form, members, path):
    """In ustar, GNU and pax, with long names, names and times beyond ASCII, and any size: same names, same bytes."""
    try:
        tar_of(path, *members, form=FORMATS[form])
    except ValueError:  # what ustar cannot hold
        return
    wanted = {}
    with tarfile.open(path) as archive:
        for member in archive:
            wanted.setdefault(member.name.removeprefix("./"), archive.extractfile(member).read())
    reader = ShardReader(path)
    found = {}
    for sample in reader:
        for suffix, data in sample.members.items():
            found[f"{sample.key}.{suffix}"] = data
    left_out = {problem.reason for problem in reader.problems}
    assert left_out <= {"duplicate_key", "duplicate_member"}
    lower = {}
    for name, data in wanted.items():
        folder, slash, last = name.rpartition("/")
        key, _, suffix = last.partition(".")
        lower.setdefault(f"{folder}{slash}{key}.{suffix.lower()}", data)
    if left_out:
        assert found.items() <= {**lower, **found}.items()
        assert found.keys() <= lower.keys()
    else:
        assert found == lower


SAMPLES = [
    Sample(f"k{k}", {"jpg": bytes([k]) * (700 * k), "txt": b"t" * k, **({"json": b"{}"} if k % 2 else {})})
    for k in range(5)
]


@given(data=st.data())
def test_a_shard_that_was_cut_gives_its_whole_samples(data, path):
    """Cut anywhere, it gives those before the cut, all but the last of which are sure, and says that it was cut."""
    written = write_shard(path, SAMPLES)
    whole = path.read_bytes()
    ends = [member.offset + (member.size + 511) // 512 * 512 for member in _last_members(index_shard(path))]
    cut = data.draw(st.integers(0, written.size_bytes - 1) | st.sampled_from(ends) | st.sampled_from(ends).map(_after))
    path.write_bytes(whole[:cut])
    reader = ShardReader(path)
    assert list(reader) == SAMPLES[: len(reader)]
    if cut >= ends[-1] + 512:  # the mark of the end is there
        assert (len(reader), reader.problems) == (5, ())
        return
    assert [problem.reason for problem in reader.problems] == ["truncated_shard"]
    complete = sum(end <= cut for end in ends)
    assert len(reader) in (complete, complete - 1)
    if complete < 5 and cut >= ends[complete - 1] + 512 and complete:
        assert len(reader) == complete  # the header of the next sample tells that this one was whole


def _last_members(index):
    return [index.members(k)[-1] for k in range(len(index))]


def _after(end):
    return end + 512


@given(noise=st.binary(max_size=1200), place=st.integers(0, 5000), how=st.sampled_from(["put", "insert", "none"]))
def test_any_file_is_indexed(noise, place, how, path):
    """Noise, and noise inside of a shard: samples that can be read, or problems, and no exception."""
    write_shard(path, SAMPLES)
    data = path.read_bytes()
    if how == "none":
        path.write_bytes(noise)
    else:
        path.write_bytes(data[:place] + noise + data[place + (len(noise) if how == "put" else 0) :])
    reader = ShardReader(path)
    assert all(isinstance(sample, Sample) for sample in reader)


good = ("ok.txt", b"fine", {})


@pytest.mark.parametrize(
    ("members", "reason", "says"),
    [
        ([("/etc/x.txt", b"", {})], "name", "field /etc/x.txt: wanted key, dot and ending"),
        ([("a/../../x.txt", b"", {})], "name", "without '..'"),
        ([("../x.txt", b"", {})], "name", "without '..'"),
        ([("x", b"", {})], "name", "field x: wanted"),
        ([(".x.txt", b"", {})], "name", "field .x.txt: wanted"),
        ([("a b.txt", b"", {})], "name", "of A-Z a-z 0-9"),
        ([("a\x1b[2J.txt", b"", {})], "name", "wanted key"),
        ([("k" * 201 + ".txt", b"", {})], "name", "wanted key"),
        ([("x.txt", b"", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"})], "link", "x.txt: is a link"),
        ([("x.txt", b"", {"type": tarfile.LNKTYPE, "linkname": "ok.txt"})], "link", "x.txt: is a link"),
        ([("x.txt", b"", {"type": tarfile.CHRTYPE})], "device", "x.txt: is a device, wanted a file"),
        ([("x.txt", b"", {"type": tarfile.FIFOTYPE})], "device", "x.txt: is a device"),
        ([("x.txt", b"data", {"type": b"V"})], "type", "x.txt: is of type b'V', wanted a file"),
        ([("x.txt", b"1", {"pax_headers": {"GNU.sparse.name": "y"}})], "sparse", "x.txt: is a sparse file"),
        ([("x.txt", b"1", {}), ("x.TXT", b"2", {})], "duplicate_member", "record x, field txt: comes twice"),
        ([("x.txt", b"1", {}), good, ("x.jpg", b"2", {})], "duplicate_key", "record x: an earlier sample has this key"),
        ([("x.txt", b"1" * 101, {})], "member_size", "record x, field txt: has 101 bytes, wanted 100 at most"),
    ],
)
def test_what_is_no_plain_file_is_left_out_and_told(members, reason, says, path):
    """And what stands before and after it is read."""
    tar_of(path, ("first.txt", b"1", {}), *members, ("last.txt", b"9", {}), form=tarfile.PAX_FORMAT)
    reader = ShardReader(path, max_member_bytes=100)
    (problem,) = reader.problems
    assert problem.reason == reason
    assert f"a.tar, {says}" in str(problem) or says in str(problem)
    found = {sample.key: sample.members for sample in reader}
    assert (found["first"], found["last"]) == ({"txt": b"1"}, {"txt": b"9"})
    assert set(found) <= {"first", "last", "x", "ok"}
    assert found.get("x", {"txt": b"1"}) == {"txt": b"1"}


def test_folders_and_what_webdataset_keeps_are_no_samples(path):
    """They are passed over, and are no problem."""
    directory = {"type": tarfile.DIRTYPE}
    old = {"type": tarfile.AREGTYPE}
    tar_of(path, ("a/", b"", directory), ("b/", b"", old), ("__meta__.x__", b"1", {}), ("a/x.txt", b"1", {}))
    reader = ShardReader(path)
    assert (reader.keys, reader.problems) == (("a/x",), ())


def header_with(**fields):
    """The header of a small file with some of its bytes changed, and its sum made right again."""
    header = bytearray(tarfile.TarInfo("x.txt").tobuf(tarfile.GNU_FORMAT))
    places = {"size": 124, "kind": 156, "sum": 148}
    for name, value in fields.items():
        header[places[name] : places[name] + len(value)] = value
    if "sum" not in fields:
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def extended(kind, text):
    """A header that says something of the member behind it."""
    return header_with(kind=kind, size=b"%011o\0" % len(text)) + text.ljust(-(-len(text) // 512) * 512, b"\0")


NUMBER, RECORD = "where a number is wanted", "where a record is wanted"


@pytest.mark.parametrize(
    ("data", "reason", "says"),
    [
        (b"", "truncated_shard", "the file ends at byte 0 without the mark of its end"),
        (header_with(size=b"77777777777\0"), "truncated_shard", "x.txt: should end at byte 8589935103, and the file"),
        (header_with(size=b"\x80" + b"\xff" * 11), "truncated_shard", "should end at byte 309485009821345068724781567"),
        (header_with(size=b"\xff" * 12), "bad_header", NUMBER),
        (header_with(size=b"-0000000001\0"), "bad_header", NUMBER),
        (header_with(sum=b"0000000\0"), "bad_header", "what stands at byte 0 is no header of a tar file"),
        (header_with(sum=b"zzzzzzz\0"), "bad_header", NUMBER),
        (extended(b"L", b"n" * (1 << 20) + b"n"), "bad_header", "has 1048577 bytes of names"),
        (extended(b"x", b"99 path=abc\n"), "bad_header", RECORD),
        (extended(b"x", b"no record"), "bad_header", RECORD),
        (extended(b"x", b"10 path x\n"), "bad_header", RECORD),
        (extended(b"x", b"10 path=x;"), "bad_header", RECORD),
        (extended(b"x", b"0 path=x;"), "bad_header", RECORD),
        (extended(b"g", b"14 path=x.txt\n"), "bad_header", "gives all members one path"),
        (extended(b"x", b"11 size=-1\n") + header_with(), "bad_header", NUMBER),
        (extended(b"L", b"a.b"), "truncated_shard", "the file ends after a header of a member that is not there"),
        (b"<html>" * 200, "bad_header", NUMBER),
    ],
)
def test_a_broken_header_ends_the_shard(data, reason, says, path):
    """It is told; nothing is guessed of what follows."""
    path.write_bytes(data + bytes(1024) if data else data)
    reader = ShardReader(path)
    assert len(reader) == 0
    (problem,) = reader.problems
    assert problem.reason == reason
    assert says in str(problem)


def test_a_second_tar_file_behind_the_first_is_told(path):
    """Its samples would be lost without a word."""
    data = tar_of(path, good)
    path.write_bytes(data + data)
    reader = ShardReader(path)
    assert reader.keys == ("ok",)
    assert [problem.reason for problem in reader.problems] == ["data_after_end"]


def test_old_and_odd_headers_are_read(path):
    """Sums of signed bytes, numbers of GNU's for large sizes, a chain of long headers, a sparse file passed over."""
    header = bytearray(header_with(size=b"\x80" + b"\0" * 10 + b"\x03"))
    header[0:5] = "é.".encode() + b"\0\0"
    header[148:156] = b" " * 8
    signed = sum(struct.unpack("512b", header))
    header[148:156] = b"%06o\0 " % signed
    long = [header_with(kind=b"K", size=b"00000000004\0") + b"a.b".ljust(512, b"\0")] * 3000
    sparse = bytearray(header_with(kind=b"S", size=b"00000000003\0"))
    sparse[482], sparse[148:156] = 1, b" " * 8
    sparse[148:156] = b"%06o\0 " % sum(sparse)
    name = header_with(kind=b"L", size=b"00000000007\0") + b"ok.txt".ljust(512, b"\0")
    file = header_with(size=b"00000000003\0") + b"abc".ljust(512, b"\0")
    odd = bytes(header) + b"abc".ljust(512, b"\0") + bytes(sparse) + bytes(512) + b"xyz".ljust(512, b"\0")
    path.write_bytes(odd + b"".join(long) + name + file + bytes(1024))
    reader = ShardReader(path)
    assert [problem.reason for problem in reader.problems] == ["name", "sparse"]
    assert list(reader) == [Sample("ok", {"txt": b"abc"})]


def test_a_saved_index_is_used_while_the_file_is_the_same(path, monkeypatch):
    """It is made anew when size or time of the file differ, when the cap differs, and when it is broken."""
    beside = path.with_name("a.tar.index.json")
    for left in (path, beside):
        left.unlink(missing_ok=True)
    tar_of(path, good, ("bad", b"", {}))
    made = index_shard(path)
    assert not beside.exists()
    index_shard(path, save=True)
    text = beside.read_text()
    marked = text.replace('"ok"', '"saved"')

    def keys(text, **options):
        beside.write_text(text)
        return index_shard(path, **options).keys

    saved = index_shard(path)
    assert keys(marked) == ("saved",)
    assert [str(p) for p in saved.problems] == [str(p) for p in made.problems]
    assert saved.keys == made.keys
    assert saved.members(0) == made.members(0)
    assert keys(marked, max_member_bytes=10) == ("ok",)
    changes = (
        ('"starts":[0,1]', '"starts":[0,2]'), ('"offsets":[512]', '"offsets":[99999]'),
        ('"offsets":[512]', '"offsets":[-1]'), ('"suffix_ids":[0]', '"suffix_ids":[1]'), ('_index":1', '_index":2'),
    )  # fmt: skip
    for broken in ("", "[]", "{}", "[" * 100_000, text[:-5], *(marked.replace(*change) for change in changes)):
        assert broken != marked
        assert keys(broken) == ("ok",)
    beside.write_text(marked)
    facts = path.stat()
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
    assert index_shard(path).keys == ("ok",)
    assert beside.read_text() == marked
    index_shard(path, save=True)
    assert index_shard(path).keys == ("ok",)
    assert beside.read_text() != marked
    beside.unlink()
