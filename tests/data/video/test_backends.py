"""Both backends give the same frames; the one that cannot run here says why."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data.video import CLIP_REASONS, Clip, decode_clip
from flamingo_blocks.data.video._torchcodec import _FILES, _HEAD, load_torchcodec
from flamingo_blocks.errors import MissingDependencyError
from tests.data.video.numbered import clip_file, numbers, sound_file, turned


@pytest.fixture
def torchcodec():
    """Whether torchcodec decodes here: it needs its own wheel for a torch without CUDA, and FFmpeg's libraries."""
    try:
        return load_torchcodec()
    except MissingDependencyError as error:
        pytest.skip(str(error))


@pytest.fixture
def forgotten():
    """What was tried before is tried again, before the test and after it."""
    load_torchcodec.cache_clear()
    yield
    load_torchcodec.cache_clear()


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
@pytest.mark.parametrize("container", ["mp4", "matroska"])
@pytest.mark.parametrize("degrees", [0, 90])
def test_backends_give_the_same_frames(torchcodec, codec, container, degrees):
    """Bit for bit, of the same moments, at even and uneven rates, turned or not, up to the last frame."""
    uneven = [2.0 + number / 10 + (number % 7) / 100 for number in range(80)]
    for times in (None, uneven):
        file = clip_file(80, codec=codec, container=container, fps=10.0, times_s=times, key_interval=20)
        if container == "mp4":
            file = turned(file, degrees)
        for choice in ({}, {"fps": 3.0, "count": 30}, {"start_s": 5.05}, {"place": 0.7, "count": 4}, {"start_s": 99.0}):
            one, other = (decode_clip(file, backend=backend, **choice) for backend in ("pyav", "torchcodec"))
            if isinstance(one, Clip):
                assert torch.equal(one.frames, other.frames)
                assert one.times_s == other.times_s
                assert one.shown_s == pytest.approx(other.shown_s)
                assert one.duration_s == pytest.approx(other.duration_s)
            else:
                assert one.reason == other.reason == "past_the_end"


@given(part=st.floats(0, 1))
def test_what_is_damaged_is_told_by_torchcodec_too(part):
    """Cut or not a clip at all: frames or a reason."""
    try:
        load_torchcodec()
    except MissingDependencyError as error:
        pytest.skip(str(error))
    file = clip_file(30, codec="libx264", fps=10.0, container="matroska")
    for data in (file[: int(part * len(file))], b"no clip", sound_file(), b"#EXTM3U\n#EXTINF:2,\n/tmp/clip.ts\n"):
        found = decode_clip(data, backend="torchcodec", fps=5.0)
        assert isinstance(found, Clip) or found.reason in CLIP_REASONS
    assert decode_clip(sound_file(), backend="torchcodec").reason == "no_video"
    assert decode_clip(file, backend="torchcodec", max_side_px=64).reason == "clip_side"
    assert decode_clip(file, backend="torchcodec", max_duration_s=2.0).reason == "clip_duration"


@pytest.mark.parametrize("backend", ["pyav", "torchcodec"])
def test_a_play_list_is_no_clip_of_any_backend(tmp_path, backend, request):
    """Though it names one that is there."""
    if backend == "torchcodec":
        request.getfixturevalue("torchcodec")
    (tmp_path / "clip.ts").write_bytes(clip_file(40, codec="libx264", container="mpegts"))
    path = tmp_path / "list.m3u8"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nclip.ts\n#EXT-X-ENDLIST\n")
    assert isinstance(decode_clip(tmp_path / "clip.ts", backend=backend), Clip)
    assert decode_clip(path, backend=backend).reason == "undecodable"


def test_what_is_not_installed_is_said(forgotten, monkeypatch):
    """Each package by its name, with what to install."""
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    with pytest.raises(MissingDependencyError, match="pip install torchcodec==0.13.0 beside a CPU-only torch"):
        decode_clip(clip_file(3), backend="torchcodec")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingDependencyError, match="decode_clip needs the package 'av'.*extra 'video'"):
        decode_clip(b"some clip")


@pytest.mark.parametrize("fails", ["import", "decode"])
def test_what_does_not_decode_is_said(forgotten, monkeypatch, fails):
    """An import that breaks on missing libraries, and one that passes with nothing behind it."""
    package, module = ModuleType("torchcodec"), ModuleType("torchcodec.decoders")

    def broken(*_, **__):
        raise RuntimeError("Could not load libtorchcodec:\n libc10_cuda.so is missing")

    if fails == "decode":
        module.VideoDecoder = broken
    else:
        module.__getattr__ = broken
    monkeypatch.setitem(sys.modules, "torchcodec", package)
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", module)
    with pytest.raises(
        MissingDependencyError, match="libc10_cuda.so is missing.*on CPU-only torch take 0.13 or the CPU"
    ):
        decode_clip(clip_file(3), backend="torchcodec")


def test_another_backend_is_an_error(without_shape_checks):
    """It names those that there are."""
    with pytest.raises(ValueError, match="backend is 'decord', wanted one of 'pyav', 'torchcodec'"):
        decode_clip(b"", backend="decord")


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_frames_stand_upright(degrees):
    """A clip that was held sideways is turned as its file says."""
    found = decode_clip(turned(clip_file(30, fps=10.0), degrees), fps=5.0)
    back = torch.rot90(found.frames, -degrees // 90, (2, 3))
    assert found.frames.shape[2:] == ((96, 32) if degrees % 180 else (32, 96))
    assert numbers(back) == list(range(0, 16, 2))


def test_nothing_optional_is_imported_with_the_library():
    """Neither backend is loaded before a clip is decoded."""
    import subprocess

    code = "import sys, flamingo_blocks.data.video; sys.exit(bool({'av', 'torchcodec'} & set(sys.modules)))"
    root = Path(__file__).parents[3]
    result = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(root / "src")}, check=False)
    assert result.returncode == 0


SDP = (
    b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
)
DASH = b'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><BaseURL>http://127.0.0.1/</BaseURL></Period></MPD>'
TEXTS = (b"OggS\n" + SDP, b"G=1\n" + SDP, b"<!--free-->" + DASH, b"FLV\n" + SDP, b"#   ftyp\n" + SDP)


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_no_file_of_frames(text):
    """However it begins: FFmpeg would open the addresses that it names, and torchcodec cannot be told not to."""
    assert _FILES.match(text) is None


@pytest.mark.parametrize(
    ("container", "codec"), (("mp4", "mpeg4"), ("matroska", "mpeg4"), ("mpegts", "libx264"), ("flv", "libx264"))
)
def test_files_of_frames_are_known_by_how_they_begin(container, codec):
    """So that what is refused is no clip."""
    assert _FILES.match(clip_file(40, codec=codec, container=container)[:_HEAD]) is not None
