"""GOPs decoded ahead are those decoded one after another: frames, damage, choices; and only where it pays."""

import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

import gnvc_vd
from gnvc_vd.bitstream import BitstreamError, Damage, End, Reader, Unit
from gnvc_vd.bitstream.playback import DecodeOptions, Playback
from gnvc_vd.codecs import gops_ahead
from gnvc_vd.codecs.gops_ahead import GopsAhead, decode_ahead
from gnvc_vd.codecs.transcode import decode_file
from gnvc_vd.conventions import Colour, Frame
from gnvc_vd.learned.codec import EncodeOptions, GnvcVd
from gnvc_vd.video import Video, VideoInfo, open_video
from tests.bitstream.streams import packed
from tests.conftest import smooth_clip

Outcome = tuple[list[bytes], list[str], str]


@pytest.fixture(scope="module")
def codec() -> GnvcVd:
    return gnvc_vd.load("nano")


@pytest.fixture(scope="module")
def stream(codec: GnvcVd) -> bytes:
    """Five GOPs of five frames."""
    options = EncodeOptions(40, gop=5, scenecut=False, canvas="off")
    info = VideoInfo(48, 32, Fraction(25), None, Colour("bt709", "limited"), "", "")
    clip = Video(info, ((frame, None) for frame in smooth_clip(32, 48, 25)))
    return codec.encode(clip, options)


class Recorder:
    """A reader and a decoder that write down what is asked of them."""

    def __init__(self, codec: GnvcVd, stream: bytes, decoding: DecodeOptions) -> None:
        self._reader = Reader(io.BytesIO(stream))
        self._decoder = codec.decoder(self._reader.header, decoding)
        self.header, self.decodes_ahead = self._reader.header, self._decoder.decodes_ahead
        self.asked = list[str]()

    def __iter__(self) -> Iterator[Unit | Damage | End]:
        for part in self._reader:
            self.asked.append(f"read {getattr(part, 'index', type(part).__name__)}")
            yield part

    def frames(self, unit: Unit) -> Iterator[Frame]:
        self.asked.append(f"frames {unit.index}")
        return self._decoder.frames(unit)

    def prepare(self, unit: Unit) -> Callable[[], list[Frame]]:
        self.asked.append(f"prepare {unit.index}")
        return self._decoder.prepare(unit)

    def skip(self, unit: Unit) -> None:
        self.asked.append(f"skip {unit.index}")


def played(codec: GnvcVd, stream: bytes, ahead: bool, **options: int | bool) -> tuple[Outcome, list[str]]:
    """Frames, notices and the error that ended them; and what was asked in which order."""
    decoding = DecodeOptions(**options)  # type: ignore[arg-type]
    recorder, notices = Recorder(codec, stream, decoding), list[str]()
    frames = list[bytes]()
    with ThreadPoolExecutor(2) as pool:
        both = GopsAhead(recorder, recorder, decoding, pool) if ahead else recorder
        try:
            for part in Playback(both, decoding, both, notices.append).frames():
                frames += [frame.tobytes() for frame in part]
                recorder.asked.append("shown")
        except BitstreamError as error:
            return (frames, notices, str(error)), recorder.asked
    return (frames, notices, ""), recorder.asked


@pytest.mark.parametrize("options", [{}, {"steps": 2}, {"refine": False}, {"first_gop": 1, "last_gop": 3}])
def test_frames_are_those_of_one_gop_after_another(codec: GnvcVd, stream: bytes, options: dict[str, int]) -> None:
    plain, _ = played(codec, stream, ahead=False, **options)
    assert played(codec, stream, ahead=True, **options)[0] == plain
    assert len(plain[0]) == (10 if "first_gop" in options else 25)


def test_one_gop_is_read_ahead_and_its_symbols_are_decoded_then(codec: GnvcVd, stream: bytes) -> None:
    _, asked = played(codec, stream, ahead=True)
    calls = [one for one in asked if one != "shown"]
    first = ["read 0", "read 1", "prepare 1", "frames 0"]
    assert calls == [*first, "read 2", "prepare 2", "read 3", "prepare 3", "read 4", "prepare 4", "read End"]
    assert asked.index("shown") == len(first)  # before the third is read
    _, asked = played(codec, stream, ahead=True, first_gop=1, last_gop=3)
    assert [one for one in asked if one.split()[0] in ("prepare", "skip")] == ["prepare 1", "skip 0", "prepare 2"]


@pytest.mark.parametrize("conceal", [False, True])
def test_damage_is_said_and_concealed_alike(codec: GnvcVd, stream: bytes, conceal: bool) -> None:
    parts = list(Reader(io.BytesIO(stream)))
    header, units = Reader(io.BytesIO(stream)).header, [part for part in parts if isinstance(part, Unit)]
    wrong_symbols = [replace(one, symbol_hash=bytes(4)) if one.index == 2 else one for one in units]
    torn = bytearray(stream)
    torn[stream.index(units[3].payload) + 1] ^= 1
    for damaged in (packed(wrong_symbols, header), bytes(torn), stream[: stream.index(units[4].payload)]):
        plain, _ = played(codec, damaged, ahead=False, conceal=conceal)
        assert played(codec, damaged, ahead=True, conceal=conceal)[0] == plain
        assert bool(plain[2]) != conceal and len(plain[0]) >= 10


@pytest.mark.parametrize("conceal", [False, True])
@pytest.mark.parametrize("ahead", [False, True])
def test_a_stream_is_read_up_to_the_last_wanted_gop(codec: GnvcVd, stream: bytes, conceal: bool, ahead: bool) -> None:
    whole, _ = played(codec, stream, ahead=False)
    units = [part for part in Reader(io.BytesIO(stream)) if isinstance(part, Unit)]
    torn = bytearray(stream)
    for place in (1, 3):
        torn[stream.index(units[place].payload) + 1] ^= 1
    for damaged in (stream, bytes(torn), stream[: stream.index(units[1].payload)], stream + b"more"):
        found, asked = played(codec, damaged, ahead, first_gop=0, last_gop=1, conceal=conceal)
        assert found == (whole[0][:5], [], "")
        assert [one for one in asked if one.startswith("read")][1 + ahead :] == []
    found, _ = played(codec, bytes(torn), ahead, first_gop=0, last_gop=3, conceal=conceal)
    if conceal:
        assert found[0] == whole[0][:5] + [whole[0][4]] * 5 + whole[0][10:15] and len(found[1]) == 1
    else:
        assert found[0] == whole[0][:5] and "from GOP 1 on" in found[2]
    lost, _ = played(codec, bytes(torn), ahead, first_gop=1, last_gop=2, conceal=conceal)
    assert len(lost[0]) == 5 * conceal and ("from GOP 1 on" in lost[2]) != conceal


def test_it_is_for_files_and_for_several_threads_of_a_cpu(codec: GnvcVd, stream: bytes) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    recorder, decoding = Recorder(codec, stream, DecodeOptions()), DecodeOptions()
    alone = Recorder(codec, stream, decoding)
    alone.decodes_ahead = False  # on a GPU, or compiled
    before = torch.get_num_threads()
    try:
        for threads, file, given in (
            (2, io.BytesIO(), recorder),
            (1, io.BytesIO(), recorder),
            (2, Pipe(), recorder),
            (2, io.BytesIO(), alone),
        ):
            torch.set_num_threads(threads)
            with decode_ahead(given, given, decoding, file) as (parts, decoder):
                chosen = isinstance(parts, GopsAhead), isinstance(decoder, GopsAhead)
            assert chosen == ((threads, file.seekable(), given) == (2, True, recorder),) * 2
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_a_gop_too_large_to_be_held_is_streamed(codec: GnvcVd, stream: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gops_ahead, "LARGEST", 5 * 32 * 48 - 1)
    outcome, asked = played(codec, stream, ahead=True)
    assert outcome == played(codec, stream, ahead=False)[0]
    assert [one for one in asked if one.startswith("frames")] == [f"frames {n}" for n in range(5)]


def test_a_file_is_decoded_ahead(codec: GnvcVd, stream: bytes, tmp_path: Path) -> None:
    (tmp_path / "in.gnvc").write_bytes(stream)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        done = decode_file(
            lambda _: codec, str(tmp_path / "in.gnvc"), str(tmp_path / "out.mkv"), DecodeOptions(steps=1)
        )
    finally:
        torch.set_num_threads(before)
    expected = np.concatenate(list(codec.decode(stream, DecodeOptions(steps=1)))).astype(int)
    with open_video(tmp_path / "out.mkv") as out:
        assert np.abs(np.stack(list(out)) - expected).max() <= 1
    assert done.frames == 25
