"""webdataset reads our shards, and we read what it and those who stand on it write."""

import io
import json

import pytest

from flamingo_blocks.data import ClipSegment, ImageSegment, InterleavedDocument, TextSegment
from flamingo_blocks.data.records import check_file, read_sample, to_members
from flamingo_blocks.data.shards import DocumentShards, Sample, ShardReader, write_shard

pytestmark = [  # webdataset leaves the closing of its files to chance
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in.*FileIO:pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def webdataset():
    return pytest.importorskip("webdataset")


def picture(k):
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (8 + k, 8), (20 * k, 0, 0)).save(file, "JPEG")
    return file.getvalue()


def members_of(sample):
    return {name: value for name, value in sample.items() if not name.startswith("__")}


def test_webdataset_reads_our_shards(webdataset, tmp_path):
    """The same keys, the same members bit for bit, in the same order; and it decodes their pictures."""
    parts = [[f"Text {k}", ImageSegment(data=picture(k), alt="A picture"), "and", b"unknown"] for k in range(5)]
    documents = [InterleavedDocument.from_parts(each, metadata={"k": k}) for k, each in enumerate(parts)]
    samples = [Sample(f"key-{k}_{'n' * 120}", to_members(each)) for k, each in enumerate(documents)]
    write_shard(tmp_path / "00000.tar", samples)
    shard = str(tmp_path / "00000.tar")
    found = list(webdataset.WebDataset(shard, shardshuffle=False))
    assert [Sample(each["__key__"], members_of(each)) for each in found] == samples
    assert [read_sample(each["__key__"], members_of(each)) for each in found] == documents
    decoded = list(webdataset.WebDataset(shard, shardshuffle=False).decode("pil"))
    assert [each["1.jpg"].size for each in decoded] == [(8 + k, 8) for k in range(5)]
    assert decoded[2]["json"]["texts"] == ["Text 2", None, "and", None]


def test_we_read_what_webdataset_writes(webdataset, tmp_path):
    """Pairs as img2dataset keeps them, with its table and statistics beside them, and clips as WebVid's tars have."""
    with webdataset.TarWriter(str(tmp_path / "00000.tar")) as writer:
        for k in range(3):
            about = {"url": f"https://ex.com/{k}.jpg", "caption": f"Picture {k}", "key": f"00000000{k}", "width": 8 + k}
            writer.write({"__key__": f"00000000{k}", "jpg": picture(k), "txt": f"Picture {k}", "json": about})
    (tmp_path / "00000.parquet").write_bytes(b"its table")
    (tmp_path / "00000_stats.json").write_text("{}")
    with webdataset.TarWriter(str(tmp_path / "00001.tar")) as writer:
        writer.write({"__key__": "clips/1", "mp4": b"....ftypisom", "txt": "A wave.", "json": {"videoid": "1"}})
    shards = DocumentShards(tmp_path)
    assert [shards.key(k) for k in (0, 3)] == ["00000/000000000", "00001/clips/1"]
    for k in range(3):
        image = ImageSegment(url=f"https://ex.com/{k}.jpg", data=picture(k))
        assert shards[k].segments == (image, TextSegment(f"Picture {k}"))
        assert shards[k].metadata == {"caption": f"Picture {k}", "key": f"00000000{k}", "width": 8 + k}
    assert shards[3].segments == (ClipSegment(data=b"....ftypisom"), TextSegment("A wave."))
    assert list(check_file(tmp_path)) == []


def test_we_read_openflamingos_rows_of_mmc4(webdataset, tmp_path):
    """One `json` a sample, with the images inside of it."""
    row = {
        "url": "u", "text_list": ["S0.", "S1.", "S2."],
        "image_info": [{"raw_url": "u0", "image_base64": "AAA="}, {"raw_url": "u1", "image_base64": "AQE="}],
        "similarity_matrix": [[0.2436, 0.3176, 0.2769], [0.2233, 0.3235, 0.2612]],
    }  # fmt: skip
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as writer:
        writer.write({"__key__": "0", "json": row})
    (document,) = DocumentShards(tmp_path / "a.tar")
    assert [getattr(part, "text", None) or part.data for part in document.segments] == [
        "S0.", b"\1\1", "S1.", b"\0\0", "S2.",
    ]  # fmt: skip


def test_both_find_the_same_samples(webdataset, tmp_path):
    """Where a key ends, which names are passed over, and how large letters of endings are read."""
    import tarfile

    names = ["a.b.c.JPG", "a.txt", "d/e.x.jpg", "d/e.json", "d.f/g.txt", "__meta__.txt__", "__m__/x.txt", "noending"]
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(name)
            archive.addfile(member, io.BytesIO(json.dumps(name).encode()[1:]))
    theirs = [
        Sample(each["__key__"], members_of(each))
        for each in webdataset.WebDataset(str(tmp_path / "a.tar"), shardshuffle=False)
    ]
    reader = ShardReader(tmp_path / "a.tar")
    assert list(reader) == theirs
    assert [problem.field for problem in reader.problems] == ["noending"]
