"""encode, decode and verify as a user calls them: files in, files out, in processes of their own."""

import io
import json
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import gnvc_vd
from gnvc_vd.backbone.sources import model_folder
from gnvc_vd.bench.harness import cost
from gnvc_vd.bitstream import Header, Reader, Unit
from gnvc_vd.bitstream.playback import DecodeOptions
from gnvc_vd.bitstream.refinement import Refinement
from gnvc_vd.cli.main import main
from gnvc_vd.codecs.transcode import decode_file
from gnvc_vd.conventions import UNSPECIFIED, Colour, Frame
from gnvc_vd.learned.codec import EncodeOptions, GnvcVd
from gnvc_vd.learned.refine.refiner import Refiner
from gnvc_vd.video import RawVideo, VideoInfo, create_video, open_video
from tests.bitstream.streams import packed
from tests.conftest import Cli, names_beside, smooth_clip


def video(path: Path, clip: list[Frame], rate: Fraction = Fraction(25)) -> Path:
    height, width = clip[0].shape[:2]
    with create_video(path, width, height, rate) as writer:
        for frame in clip:
            writer.write(frame)
    return path


NANO = ("--model", "nano")


def here(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """The command line in this process, where everything is imported already: exit code, output, messages.

    Of nano, unless told otherwise: what is asked here is the same of every model.
    """
    chosen = NANO if arguments[0] in ("encode", "decode", "verify") and "--model" not in arguments else ()
    capfd.readouterr()
    try:
        code = main([str(one) for one in (*arguments, *chosen)])
    except SystemExit as end:
        code = int(end.code or 0)
    return code, *capfd.readouterr()


@pytest.fixture
def beside_a_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder that holds in.y4m and nothing else."""
    video(tmp_path / "in.y4m", smooth_clip(16, 16, 1))
    monkeypatch.chdir(tmp_path)


def refused(capfd: pytest.CaptureFixture[str], arguments: list[str], code: int, sentence: str) -> None:
    """With one sentence, nothing on standard output, and no file left beside the clip."""
    found, out, messages = here(capfd, *arguments)
    assert (found, out) == (code, "") and sentence in messages, messages
    assert "Traceback" not in messages and names_beside(Path.cwd()) == ["in.y4m"]


@pytest.fixture
def stream(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Path:
    source = video(tmp_path / "in.mkv", smooth_clip(34, 50, 12), Fraction(24000, 1001))
    code, out, messages = here(capfd, "encode", source, tmp_path / "out.gnvc", "--gop", "5", "--json")
    assert code == 0, messages
    said = json.loads(out)
    assert said["bytes"] == (tmp_path / "out.gnvc").stat().st_size
    assert (said["frames"], said["width"], said["height"], said["gops"]) == (12, 50, 34, 2)
    assert said["bpp"] == pytest.approx(8 * said["bytes"] / (12 * 50 * 34))
    assert "mean nothing" in messages
    return tmp_path / "out.gnvc"


@pytest.mark.slow
def test_a_pipe_is_decoded_into_a_pipe(cli: Cli, stream: Path) -> None:
    piped = cli("decode", "-", "-", "--steps", "1", *NANO, stdin=stream.read_bytes())
    assert piped.returncode == 0 and piped.stdout.startswith(b"YUV4MPEG2 W50 H34 F24000:1001"), piped.stderr


def test_a_fresh_process_decodes_to_the_same_pictures(cli: Cli, stream: Path) -> None:
    words = ("--steps", "1", "--precision", "fp32", *NANO)
    assert cli("decode", stream, stream.parent / "pictures", *words).returncode == 0
    with open_video(stream.parent / "pictures") as out:
        expected = np.concatenate(list(gnvc_vd.load("nano").decode(stream.read_bytes(), DecodeOptions(steps=1))))
        assert np.array_equal(np.stack(list(out)), expected)


def test_a_file_is_verified_and_decoded(capfd: pytest.CaptureFixture[str], stream: Path, tmp_path: Path) -> None:
    assert here(capfd, "verify", stream)[:2] == (0, "2 GOPs read, all whole\n")
    assert here(capfd, "decode", stream, tmp_path / "out.mp4", "--steps", "1")[0] == 0
    with open_video(tmp_path / "out.mp4") as out:
        assert (out.info.width, out.info.height, out.info.rate) == (50, 34, Fraction(24000, 1001))
        assert len(list(out)) == 12


def test_loading_is_told_apart_from_coding(stream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that stands still but where a model, or its refiner, is loaded."""
    clock, codec = [100.0], gnvc_vd.load("nano")
    load_refiner = codec.load_refiner

    def slowly() -> Refiner:
        clock[0] += 3
        return load_refiner()

    def codec_for(header: Header) -> GnvcVd:
        clock[0] += 5
        return codec

    codec.load_refiner = slowly
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    for wanted in (8, 5):  # the refiner is there already the second time
        done = decode_file(codec_for, str(stream), str(tmp_path / "out.y4m"), DecodeOptions(steps=1))
        assert (done.loading_seconds, done.seconds) == (wanted, 0)


def test_a_decoder_says_its_precision(capfd: pytest.CaptureFixture[str], stream: Path, tmp_path: Path) -> None:
    pictures = []
    for precision, said in (("bf16", "bfloat16"), ("fp32", "float32")):
        code, out, _ = here(capfd, "decode", stream, tmp_path / f"{precision}.mkv", "--precision", precision)
        assert code == 0 and out.endswith(f"frames/s in {said}, refined\n")
        with open_video(tmp_path / f"{precision}.mkv") as video:
            pictures.append(np.stack(list(video)).astype(int))
    assert 0 < np.abs(pictures[0] - pictures[1]).mean() < 2
    code, out, _ = here(capfd, "decode", stream, tmp_path / "x.mkv", "--precision", "bf16", "--json")
    assert code == 0 and json.loads(out)["precision"] == "bf16"
    code, _, messages = here(capfd, "decode", stream, tmp_path / "x.mkv", "--attention", "none-such")
    assert code == 1 and "attention back-end 'none-such' cannot be used" in messages


def test_what_was_refined_is_said_and_steps_that_will_not_be_taken(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    source, stream, tiny = tmp_path / "in.mkv", tmp_path / "x.gnvc", ("--model", "tiny")
    video(source, smooth_clip(64, 64, 5))
    for quality, warned, unasked in (("18", False, "refined"), ("32", True, "not refined")):
        code, _, messages = here(capfd, "encode", source, stream, "--quality", quality, "--steps", "2", *tiny)
        said = f"tiny refines up to quality 20, this is {quality}: only `gnvc-vd decode --steps 2` refines it"
        assert code == 0 and (said in messages) == warned
        for more, refined in (((), unasked), (("--steps", "2"), "refined"), (("--no-refine",), "not refined")):
            code, out, _ = here(capfd, "decode", stream, tmp_path / "out.mkv", "--precision", "fp32", *more, *tiny)
            assert code == 0 and out.endswith(f"frames/s in float32, {refined}\n")


def test_an_encoder_may_compute_in_bfloat16_and_a_decoder_says_its_tiles(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    source, streams = tmp_path / "in.mkv", [tmp_path / f"{name}.gnvc" for name in ("exact", "rounded")]
    video(source, smooth_clip(64, 96, 5))
    fine = (*NANO, "--quality", "63")  # so that some symbols are rounded otherwise, whatever the processor
    assert here(capfd, "encode", source, streams[0], *fine)[0] == 0
    assert here(capfd, "encode", source, streams[1], "--precision", "bf16", *fine)[0] == 0
    codec = gnvc_vd.load("nano")
    exact, rounded = (np.concatenate(list(codec.decode(one.read_bytes()))).astype(int) for one in streams)
    assert 0 < np.abs(exact - rounded).mean() < 2
    decode = ("decode", streams[0], tmp_path / "out.mkv", "--precision", "fp32", *NANO, "--tile")
    code, out, _ = here(capfd, *decode, "64")
    assert code == 0 and out.endswith("frames/s in float32, refined in tiles of 64 pixels\n")
    code, out, _ = here(capfd, *decode, "off")
    assert code == 0 and out.endswith("frames/s in float32, refined\n")
    code, _, messages = here(capfd, *decode, "100")
    assert code == 2 and "a tile is 64 to 4096 pixels" in messages


def test_a_rate_is_reached_from_the_command_line(capfd: pytest.CaptureFixture[str], stream: Path) -> None:
    source, target = stream.parent / "in.mkv", stream.parent / "at.gnvc"
    _, out, _ = here(capfd, "encode", source, target, "--quality", "50", "--json")
    wanted = json.loads(out)
    for option, rate in (("--bpp", "bpp"), ("--target-kbps", "kbps"), ("--target-size", "bytes")):
        code, out, messages = here(capfd, "encode", source, target, option, wanted[rate], "--json")
        found = json.loads(out)
        assert code == 0 and found["bytes"] == wanted["bytes"] and "rate for this video" not in messages
        assert found["target_bytes"] == pytest.approx(wanted["bytes"])
    assert wanted["target_bytes"] is None and wanted["kbps"] == pytest.approx(8 * wanted["bytes"] * 24 / 1.001 / 12000)


def test_a_rate_that_is_out_of_reach_is_said(capfd: pytest.CaptureFixture[str], stream: Path) -> None:
    source, target = stream.parent / "in.mkv", stream.parent / "at.gnvc"
    for rate in (("--bpp", 1000), ("--target-kbps", 1000000), ("--target-size", 1000000)):
        code, out, messages = here(capfd, "encode", source, target, *rate, "--json")
        found = json.loads(out)
        assert (code, found["quality"]) == (0, 63)
        assert f"the highest rate for this video is {found['bpp']:.4g} bpp" in messages
    target.unlink()
    code, _, messages = here(capfd, "encode", source, target, "--target-size", 10)
    assert code == 1 and "the lowest rate for this video is" in messages and not target.exists()
    code, out, messages = here(capfd, "encode", source, target, "--bpp", 1e-9, "--json")
    assert code == 0 and f"the lowest rate for this video is {json.loads(out)['bpp']:.4g} bpp" in messages
    code, _, messages = here(capfd, "encode", source, target, "--codec", "gvc", "--target-size", 1000)
    assert code == 2 and "--target-size: an option of GNVC-VD" in messages


def test_a_tail_that_joins_its_gop_is_said(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source = video(tmp_path / "in.mkv", smooth_clip(16, 16, 17))
    for gop, said in (("9", True), ("5", False)):
        code, _, messages = here(capfd, "encode", source, tmp_path / "o.gnvc", "--gop", gop)
        assert code == 0 and ("the longest GOP has 17 frames" in messages) == said


def test_gops_that_are_not_there_are_refused(capfd: pytest.CaptureFixture[str], stream: Path) -> None:
    code, _, messages = here(capfd, "decode", stream, stream.parent / "x.mkv", "--gops", "2:3")
    assert code == 2 and "GOPs 2:3 are asked for; the stream has 2, counted from 0" in messages
    assert here(capfd, "decode", stream, stream.parent / "x.mkv", "--gops", "1:9", "--steps", "1")[0] == 0


@pytest.mark.parametrize(("place", "value"), [(0, 200), (1, 255), (1, 0), (2, 255), (3, 0), (3, 1)])
def test_forged_parameters_are_refused_in_a_sentence(
    capfd: pytest.CaptureFixture[str], stream: Path, place: int, value: int
) -> None:
    reader = Reader(io.BytesIO(stream.read_bytes()))
    header, parts = reader.header, [part for part in reader if isinstance(part, Unit)]
    forged = bytearray(header.parameters)
    forged[place] = value
    stream.write_bytes(packed(parts, replace(header, parameters=bytes(forged))))
    code, _, messages = here(capfd, "decode", stream, stream.parent / "x.mkv")
    assert code == 1 and "the header's parameters are out of bounds" in messages
    assert "Refinement(" not in messages and len(messages) < 300


def test_steps_that_a_model_cannot_take_are_refused(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source, stream = video(tmp_path / "in.mkv", smooth_clip(16, 16, 1)), tmp_path / "o.gnvc"
    bare = shutil.copytree(model_folder("tiny"), tmp_path / "bare")
    description = json.loads((bare / "model.json").read_text())
    description["codec"]["refinement"]["steps"] = 0
    (bare / "model.json").write_text(json.dumps(description))
    unrefined = ("--model", bare)
    assert here(capfd, "encode", source, stream, *unrefined)[0] == 0
    reader = Reader(io.BytesIO(stream.read_bytes()))
    header, parts = reader.header, [part for part in reader if isinstance(part, Unit)]
    asking = replace(header, parameters=Refinement().pack())
    stream.write_bytes(packed(parts, asking))
    code, _, messages = here(capfd, "decode", stream, tmp_path / "x.mkv", *unrefined)
    assert code == 1 and "asks for 5 steps of refinement" in messages
    assert "/bare was trained without a refiner" in messages
    assert here(capfd, "decode", stream, tmp_path / "x.mkv", "--no-refine", *unrefined)[0] == 0
    assert here(capfd, "verify", stream, *unrefined)[0] == 0


def test_the_stream_says_what_the_encoder_wants_of_refinement(capfd: pytest.CaptureFixture[str], stream: Path) -> None:
    source, target = stream.parent / "in.mkv", stream.parent / "wishes.gnvc"
    wishes = ("--window", 13, "--steps", 2, "--sigma-0", 0.1, "--noise-scale", 0.5, "--seed", 7)
    for told, meant in ((wishes, Refinement(2, 0.1, 0.5, 13, 7)), ((), Refinement())):
        assert here(capfd, "encode", source, target, "--frames", 1, *told)[0] == 0
        assert (
            Refinement.parse(bytes.fromhex(json.loads(here(capfd, "info", target, "--json")[1])["parameters"])) == meant
        )
    before = target.read_bytes()
    code, _, messages = here(capfd, "encode", source, target, "--sigma-0", 1.5)
    assert code == 2 and "σ_0 above 0 up to 1" in messages and target.read_bytes() == before


def test_the_transfer_function_goes_through_a_stream(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """PQ is told from SDR at the other end; the code values are the same whatever it says."""
    shown = {}
    for name, transfer in (("pq", 16), ("unsaid", UNSPECIFIED)):
        source, stream, target = (tmp_path / f"{name}{suffix}" for suffix in (".mkv", ".gnvc", ".out.mkv"))
        with create_video(source, 32, 16, Fraction(25), Colour("bt709", "limited", transfer)) as writer:
            for frame in smooth_clip(16, 32, 5):
                writer.write(frame)
        assert here(capfd, "encode", source, stream)[0] == 0
        assert json.loads(here(capfd, "info", stream, "--json")[1])["colour"]["transfer"] == transfer
        assert here(capfd, "decode", stream, target, "--steps", "1")[0] == 0
        with open_video(target) as out:
            assert out.info.colour.transfer == transfer
            shown[name] = np.stack(list(out))
    assert np.array_equal(shown["pq"], shown["unsaid"])


def test_an_output_that_cannot_hold_everything_says_so(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source, stream = tmp_path / "in.mkv", tmp_path / "o.gnvc"
    with create_video(source, 17, 16, Fraction(25), Colour("bt2020", "limited", 18)) as writer:
        writer.write(smooth_clip(16, 17, 1)[0])
    assert here(capfd, "encode", source, stream)[0] == 0
    for name, hdr, odd in (("a.mkv", False, False), ("a.mp4", False, True), ("a.y4m", True, False), ("a", True, False)):
        code, _, messages = here(capfd, "decode", stream, tmp_path / name, "--steps", "1")
        said = "transfer function is HLG" in messages, "17×16 is odd, so H.264 is 4:4:4" in messages
        assert (code, said) == (0, (hdr, odd)), name
        if not hdr:
            with open_video(tmp_path / name) as shown:
                assert shown.info.colour.transfer == 18


def test_damage_exits_1_and_is_concealed_on_request(
    capfd: pytest.CaptureFixture[str], stream: Path, tmp_path: Path
) -> None:
    broken = bytearray(stream.read_bytes())
    broken[-40] ^= 1
    path, out_path = tmp_path / "broken.gnvc", tmp_path / "shown.mkv"
    path.write_bytes(broken)
    code, out, _ = here(capfd, "verify", path, "--json")
    said = json.loads(out)
    assert code == 1 and not said["whole"] and said["gops"] == {"0": None} and said["damages"]
    code, _, messages = here(capfd, "decode", path, out_path, "--steps", "1")
    assert code == 1 and "damage" in messages
    assert not any("shown" in name for name in names_beside(tmp_path))
    code, out, messages = here(capfd, "decode", path, out_path, "--steps", "1", "--conceal")
    assert code == 0 and "12 frames of 50×34" in out and "7 of them repeats in place of lost ones" in out
    assert "from GOP 1 on: damaged" in messages
    code, out, _ = here(capfd, "decode", path, out_path, "--steps", "1", "--conceal", "--json")
    assert code == 0 and (json.loads(out)["frames"], json.loads(out)["held"]) == (12, 7)
    with open_video(out_path) as shown:
        assert len(list(shown)) == 12


@pytest.mark.parametrize(
    ("width", "height", "sentence"),
    [
        (8192, 4353, "a picture of 8192×4353 is larger than the limit of 35651584 pixels (--max-pixels)"),
        (8192, 4352, "the payload ends before its symbols do"),  # within the limit: what pays for it is not there
    ],
)
@pytest.mark.parametrize("command", ["verify", "decode"])
def test_a_small_file_that_claims_8k_is_refused_before_memory_is_taken(
    capfd: pytest.CaptureFixture[str],
    stream: Path,
    tmp_path: Path,
    command: str,
    width: int,
    height: int,
    sentence: str,
) -> None:
    reader = Reader(io.BytesIO(stream.read_bytes()))
    units = [part for part in reader if isinstance(part, Unit)]
    forged = tmp_path / "forged.gnvc"
    forged.write_bytes(packed(units, replace(reader.header, width=width, height=height)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    code, out, messages = here(capfd, command, forged, *([tmp_path / "o.mkv"] if command == "decode" else []))
    assert code == 1 and sentence in out + messages and "Traceback" not in messages
    taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    assert taken < width * height * 3  # one picture's bytes; a decoder at this size takes dozens of them


@pytest.mark.parametrize("name", ["out.gnvc", "shown.mkv", "pictures"])
def test_an_output_that_is_a_link_stays_one_and_its_file_is_written(
    capfd: pytest.CaptureFixture[str], stream: Path, tmp_path: Path, name: str
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    link, file = tmp_path / f"to-{name}", disk / name
    link.symlink_to(file)
    source = ["decode", stream] if name != "out.gnvc" else ["encode", tmp_path / "in.mkv"]
    for _ in range(2):  # where nothing is yet, and over what is there
        assert here(capfd, *source, link, *(["--steps", "1"] if name != "out.gnvc" else ["--gop", "5"]))[0] == 0
    assert link.is_symlink() and names_beside(disk) == [name]
    if name == "out.gnvc":
        assert file.read_bytes() == stream.read_bytes()
    else:
        with open_video(link) as shown:
            assert len(list(shown)) == 12


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["encode", "missing.mp4", "o.gnvc"], 1, "no such file"),
        (["encode", "in.y4m", "o.gnvc", "--gop", "24"], 2, "1 + 4k"),
        (["encode", "in.y4m", "o.gnvc", "--quality", "64"], 2, "0 to 63"),
        (["encode", "in.y4m", "o.gnvc", "--quality", "3", "--bpp", "1"], 2, "not allowed with"),
        (["encode", "in.y4m", "o.gnvc", "--model", "nothing"], 1, "no such preset or folder"),
        (["encode", "in.y4m", "o.gnvc", "--device", "abacus"], 2, "abacus"),
        (["encode", "in.y4m", "o.gnvc", "--fps", "1/0"], 2, "is not a frame rate"),
        (["decode", "in.y4m", "o.mp4"], 1, "not a .gnvc stream"),
        (["decode", "in.y4m", "o.mp4", "--gops", "3:2"], 2, "contains no GOP"),
        (["verify", "missing.gnvc"], 1, "No such file"),
    ],
)
@pytest.mark.usefixtures("beside_a_clip")
def test_wrong_calls_end_in_a_sentence(
    capfd: pytest.CaptureFixture[str], arguments: list[str], code: int, sentence: str
) -> None:
    refused(capfd, arguments, code, sentence)


@pytest.mark.slow
@pytest.mark.parametrize("frames", [1, 2, 5, 25, 26, 60])
@pytest.mark.parametrize(("height", "width"), [(17, 33), (64, 36)])
@pytest.mark.parametrize(("suffix", "rate"), [("mp4", Fraction(24000, 1001)), ("yuv", Fraction(60))])
def test_every_kind_of_source_comes_back(
    cli: Cli,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    frames: int,
    height: int,
    width: int,
    suffix: str,
    rate: Fraction,
) -> None:
    source = video(tmp_path / f"in.{suffix}", smooth_clip(height, width, frames), rate)
    raw = ["--size", f"{width}x{height}", "--fps", str(rate)] if suffix == "yuv" else []
    assert here(capfd, "encode", source, tmp_path / "s.gnvc", *raw)[0] == 0
    assert here(capfd, "verify", tmp_path / "s.gnvc")[0] == 0
    assert here(capfd, "decode", tmp_path / "s.gnvc", tmp_path / "out.mkv", "--steps", "1")[0] == 0
    with (
        open_video(source, RawVideo(width, height, rate) if raw else None) as given,
        open_video(tmp_path / "out.mkv") as out,
    ):
        facts = [(one.info.width, one.info.height, one.info.rate, one.info.colour) for one in (given, out)]
        assert facts[0] == facts[1] and facts[1][:3] == (width, height, rate)
        assert len(list(out)) == frames
    words = ("--steps", "1", "--precision", "fp32", *NANO)
    assert cli("decode", tmp_path / "s.gnvc", tmp_path / "pictures", *words).returncode == 0
    ours = gnvc_vd.load("nano").decode((tmp_path / "s.gnvc").read_bytes(), DecodeOptions(steps=1))
    with open_video(tmp_path / "pictures") as fresh:
        assert np.array_equal(np.stack(list(fresh)), np.concatenate(list(ours)))


def there_and_back(frames: int) -> None:
    codec = gnvc_vd.load("nano")
    clip = smooth_clip(64, 96, 8)
    units = codec.encode_units((clip[number % 8] for number in range(frames)), EncodeOptions(scenecut=False))
    info = VideoInfo(96, 64, Fraction(25), None, Colour("bt709", "limited"), "", "")
    header = codec.header(info, EncodeOptions())
    for unit in units:
        for _ in codec.decoder(header, DecodeOptions(steps=1)).frames(unit):
            pass


@pytest.mark.slow
def test_memory_does_not_grow_with_the_film(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", str(1 << 16))  # as steady_allocator does, for a film of small blocks
    short, long = cost(there_and_back, 60), cost(there_and_back, 300)
    assert long.peak_bytes < 1.05 * short.peak_bytes


def cpu_ticks(process: "subprocess.Popen[bytes]") -> int:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@pytest.mark.parametrize(
    ("how", "waiting"),
    [
        (signal.SIGTERM, True),
        (signal.SIGTERM, False),
        (signal.SIGINT, True),
    ],
)
@pytest.mark.slow
def test_an_interrupted_encode_leaves_nothing(tmp_path: Path, how: signal.Signals, waiting: bool) -> None:
    """While it works, and while it waits for a pipe inside libav, which drops exceptions."""
    target = tmp_path / "out.gnvc"
    target.write_bytes(b"an earlier stream")
    command = [sys.executable, "-m", "gnvc_vd", "encode", "-", str(target), "--gop", "5"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(b"YUV4MPEG2 W64 H64 F25:1 C420jpeg\n" + 60 * (b"FRAME\n" + bytes(6144)))
        process.stdin.flush()
        deadline = time.monotonic() + 60
        while not any(path.stat().st_size > 100 for path in tmp_path.glob(".out.gnvc.*.part/out.gnvc")):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        while waiting and (before := cpu_ticks(process)) >= 0:
            time.sleep(0.5)
            if cpu_ticks(process) == before:
                break
        process.send_signal(how)
        assert process.wait(30) == 128 + how
        assert process.stderr is not None and b"Traceback" not in process.stderr.read()
    assert names_beside(tmp_path) == ["out.gnvc"] and target.read_bytes() == b"an earlier stream"


MEASURED = """
import re, sys
from gnvc_vd.cli.main import main
ended = main(sys.argv[1:])
print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])  # getrusage would count the parent's too
raise SystemExit(ended)
"""


@pytest.mark.slow
def test_720p_decodes_and_refines_in_1200_megabytes(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source, stream = video(tmp_path / "a.mkv", smooth_clip(720, 1280, 13)), tmp_path / "a.gnvc"
    assert here(capfd, "encode", source, stream, "--model", "tiny", "--quality", "16")[0] == 0
    command = [sys.executable, "-c", MEASURED, "decode", stream, tmp_path / "b.mkv", "--precision", "bf16"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "refined in tiles" in done.stdout and int(done.stdout.splitlines()[-1]) < 1.2e9 / 1024
