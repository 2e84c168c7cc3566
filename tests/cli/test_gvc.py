"""GVC as a user calls it: sentences for wrong calls, and the whole way through processes of their own."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import gnvc_vd
from gnvc_vd.backbone.weights import random_backbone, save_backbone
from gnvc_vd.bitstream import Reader, Unit, pack_stream
from gnvc_vd.cli.arguments import parser
from gnvc_vd.cli.gvc import gvc_settings
from gnvc_vd.presets import preset
from gnvc_vd.video import open_video
from gnvc_vd.zeroshot.codec import Gvc
from gnvc_vd.zeroshot.encoding import GvcEncodeOptions
from gnvc_vd.zeroshot.parameters import Parameters
from gnvc_vd.zeroshot.payload import PayloadParser
from gnvc_vd.zeroshot.sde import Schedule
from gnvc_vd.zeroshot.tail import PUBLISHED
from lab.gaussian_prior import gaussian_prior
from tests.backbone.image_folders import save_image_folder
from tests.backbone.test_layouts import save_text_encoder
from tests.codecs.test_transcode import NANO, here, refused, video
from tests.codecs.test_transcode import beside_a_clip as beside_a_clip
from tests.conftest import Cli, smooth_clip

FAST = ["--sde-steps", "2", "--ode-tail", "1", "--gop", "5", "--atoms", "4"]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--codec", "gvc", "--atoms", "2000"], 2, "2000 atoms cannot be chosen out of 1024"),
        (["--codec", "gvc", "--atoms", "9", "--codebook", "8"], 2, "9 atoms cannot be chosen out of 8"),
        (["--codec", "gvc", "--codebook", "1000"], 2, "power of two"),
        (["--codec", "gvc", "--codebook", "0"], 2, "power of two"),
        (["--codec", "gvc", "--sde-steps", "3", "--ode-tail", "3"], 2, "more than the tail"),
        (["--codec", "gvc", "--atoms", "3", "--quality", "3"], 2, "not allowed with"),
        (["--codec", "gvc", "--mode", "v2v"], 2, "invalid choice"),
        (["--codec", "gvc", "--caption", "a tree"], 1, "nano has no text encoder"),
        (["--codec", "gvc", "--caption", "a" * 5000], 2, "4096 bytes"),
        (["--paper", "--gaussian"], 2, "--gaussian, --paper: options for --codec gvc"),
        (["--atoms", "3"], 2, "--atoms: an option for --codec gvc"),
        (["--mode", "t2v"], 2, "--mode: an option for --codec gvc"),
        (["--reuse", "--caption", "a tree"], 2, "--caption, --reuse: options for --codec gvc"),
        (["--still-weights", "w.safetensors"], 2, "--still-weights: an option for --codec gvc"),
        (["--codec", "gvc", "--window", "13"], 2, "--window: an option of GNVC-VD"),
        (["--codec", "gvc", "--policy", "constant"], 2, "--policy: an option of GNVC-VD"),
        (["--codec", "gvc", "--canvas", "off"], 2, "--canvas: an option of GNVC-VD"),
    ],
)
@pytest.mark.usefixtures("beside_a_clip")
def test_wrong_calls_end_in_a_sentence(
    capfd: pytest.CaptureFixture[str], arguments: list[str], code: int, sentence: str
) -> None:
    refused(capfd, ["encode", "in.y4m", "o.gnvc", *arguments], code, sentence)


def test_a_stream_goes_through_every_command(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source, stream = video(tmp_path / "in.mkv", smooth_clip(16, 16, 2)), tmp_path / "o.gnvc"
    code, out, messages = here(capfd, "encode", source, stream, "--codec", "gvc", *FAST, "--json")
    assert code == 0 and "mean nothing" in messages
    assert json.loads(out)["bytes"] == stream.stat().st_size
    code, out, _ = here(capfd, "info", stream, "--json")
    said = json.loads(out)
    assert (code, said["codec"]) == (0, "gvc") and said["described"].startswith(
        "t2v, 1024 atoms to choose from, 2 steps"
    )
    code, out, _ = here(capfd, "verify", stream, "--json")
    assert code == 0 and json.loads(out) == {"whole": True, "gops": {"0": None}, "damages": [], "drifts": {"0": 0.0}}
    code, out, _ = here(capfd, "decode", stream, tmp_path / "pictures", "--json")
    assert code == 0 and json.loads(out)["drift"] == 0
    with open_video(tmp_path / "pictures") as shown:
        assert len(list(shown)) == 2
    for choice in ("--precision=bf16", "--attention=native", "--tile=256", "--compile"):
        code, _, messages = here(capfd, "decode", stream, tmp_path / "x.mkv", choice)
        assert code == 2 and "GVC decodes in float32, whole and not compiled, as its encoder did" in messages
    for choice in ("--precision=bf16", "--tile=256"):
        code, _, messages = here(capfd, "encode", stream, tmp_path / "x.gnvc", "--codec", "gvc", choice)
        assert code == 2 and "GVC encodes in float32" in messages
    for choice in ("--no-refine", "--apart"):
        code, _, messages = here(capfd, "decode", stream, tmp_path / "x.mkv", choice)
        assert code == 2 and "fixes its own steps" in messages
    code, _, messages = here(capfd, "encode", stream, tmp_path / "x.gnvc", "--codec", "gvc", "--steps", 2)
    assert code == 2 and "GVC has --sde-steps" in messages
    code, _, messages = here(capfd, "encode", stream, tmp_path / "x.gnvc", "--codec", "gvc", "--window", 25)
    assert code == 2 and "--window: an option of GNVC-VD" in messages and "--sde-steps" not in messages


def test_a_small_file_that_claims_8k_is_not_sampled(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source, stream = video(tmp_path / "in.mkv", smooth_clip(16, 16, 2)), tmp_path / "o.gnvc"
    assert here(capfd, "encode", source, stream, "--codec", "gvc", *FAST)[0] == 0
    with stream.open("rb") as file:
        reader = Reader(file)
        units = [part for part in reader if isinstance(part, Unit)]
    stream.write_bytes(pack_stream(replace(reader.header, width=8192, height=4320), units))
    for command in (["decode", stream, tmp_path / "x.mkv"], ["verify", stream]):
        code, out, messages = here(capfd, *command)
        assert (code, out) == (1, "") and "--max-pixels 35389440 allows it" in messages
    assert here(capfd, "info", stream)[0] == 0  # which samples nothing


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["t2v", "i2v", "flf2v"])
def test_a_fresh_process_holds_the_encoders_latents(cli: Cli, tmp_path: Path, mode: str) -> None:
    """Drift exactly 0 in a process that has the file alone, and the same pictures as here."""
    source, stream = video(tmp_path / "in.mkv", smooth_clip(34, 50, 12)), tmp_path / "o.gnvc"
    options = ["--codec", "gvc", "--mode", mode, *FAST, "--tail-step", "20"]
    assert cli("encode", source, stream, *options, *NANO).returncode == 0
    found = json.loads(cli("verify", stream, *NANO, "--json").stdout)
    assert found["whole"] and found["drifts"] == dict.fromkeys(found["drifts"], 0.0) and len(found["drifts"]) == 2
    assert cli("decode", stream, tmp_path / "pictures", *NANO).returncode == 0
    ours = np.concatenate(list(gnvc_vd.load_gvc("nano").decode(stream.read_bytes())))
    with open_video(tmp_path / "pictures") as shown:
        assert np.array_equal(np.stack(list(shown)), ours) and ours.shape == (12, 34, 50, 3)


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "images"), [("i2v", 1), ("flf2v", 2)])
def test_an_image_model_decodes_in_a_process_that_has_the_file_alone(
    cli: Cli, capfd: pytest.CaptureFixture[str], tmp_path: Path, mode: str, images: int
) -> None:
    """CLIP's embedding of the given frames is in no file: both ends make it of the stills that they decode."""
    save_image_folder(tmp_path / "model", images)
    source, stream, model = video(tmp_path / "in.mkv", smooth_clip(34, 50, 9)), tmp_path / "o.gnvc", tmp_path / "model"
    encoded = cli("encode", source, stream, "--codec", "gvc", "--mode", mode, *FAST, "--model", model)
    assert encoded.returncode == 0, encoded.stderr
    assert json.loads(cli("decode", stream, tmp_path / "pictures", "--model", model, "--json").stdout)["drift"] == 0
    ours = np.concatenate(list(gnvc_vd.load_gvc(model).decode(stream.read_bytes())))
    with open_video(tmp_path / "pictures") as shown:
        assert np.array_equal(np.stack(list(shown)), ours) and ours.shape == (9, 34, 50, 3)
    other = {"i2v": "flf2v", "flf2v": "i2v"}[mode]
    call = ("encode", source, tmp_path / "x", "--codec", "gvc", "--mode", other, *FAST, "--model", model)
    code, _, messages = here(capfd, *call)
    assert code == 2 and f"mode {other} gives the model {3 - images} frames; " in messages
    shutil.rmtree(model / "image_encoder")
    code, _, messages = here(capfd, "decode", stream, tmp_path / "x.mkv", "--model", model)
    assert code == 1 and "has no image_encoder/" in messages and len(messages.splitlines()) == 1


@pytest.mark.slow
def test_a_caption_goes_through_a_file(cli: Cli, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sizes = preset("nano")
    whole = random_backbone(replace(sizes, dit=replace(sizes.dit, text_tokens=4)))
    save_backbone(whole, tmp_path / "model", "worded")
    save_text_encoder(tmp_path / "model")
    source, model = video(tmp_path / "in.mkv", smooth_clip(16, 16, 4)), ("--model", tmp_path / "model")
    for name, words in (("with", ["--caption", "aa"]), ("without", [])):
        assert here(capfd, "encode", source, tmp_path / name, "--codec", "gvc", *model, *FAST, *words)[0] == 0
    assert (tmp_path / "with").stat().st_size == (tmp_path / "without").stat().st_size + 3
    found = json.loads(cli("verify", tmp_path / "with", *model, "--json").stdout)
    assert found["whole"] and found["drifts"] == {"0": 0.0}
    for name in ("tokenizer", "text_encoder"):
        shutil.rmtree(tmp_path / "model" / name)
    found = json.loads(here(capfd, "verify", tmp_path / "with", *model, "--json")[1])
    assert found["whole"] and "drifts" not in found
    code, _, messages = here(capfd, "decode", tmp_path / "with", tmp_path / "out.mkv", *model)
    assert code == 1 and "tokenizer: missing" in messages


def test_options_reach_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = Gvc(gaussian_prior())
    words = "encode a b --codec gvc --mode flf2v --quality 40 --codebook 256 --shift 5 --g-scale 2.5 --reuse --seed 7"
    more = ["--withhold", "--no-overlap", "--caption", "x"]
    encoding = gvc_settings(parser().parse_args([*words.split(), *more]), codec, 720)
    parameters = encoding.parameters
    assert (encoding.atoms, encoding.gop, parameters.mode, parameters.codebook, parameters.seed) == (
        32,
        33,
        "flf2v",
        256,
        7,
    )
    assert (parameters.schedule.shift, parameters.schedule.g_scale, parameters.schedule.reuse) == (5, 2.5, True)
    assert parameters.withhold and not parameters.overlap and encoding.caption == "x"
    plain = gvc_settings(parser().parse_args(["encode", "a", "b", "--codec", "gvc"]), codec, 720)
    assert plain.fixed_atoms == 64 and not plain.parameters.gaussian


@pytest.mark.parametrize(
    ("mode", "height", "shift"), [("t2v", 1080, 3), ("i2v", 720, 5), ("i2v", 480, 3), ("flf2v", 1080, 5)]
)
def test_the_papers_setting_is_the_published_one_unless_told_otherwise(mode: str, height: int, shift: float) -> None:
    codec = Gvc(gaussian_prior())

    def settings(*more: str) -> GvcEncodeOptions:
        words = ["encode", "a", "b", "--codec", "gvc", "--mode", mode, "--paper", *more]
        return gvc_settings(parser().parse_args(words), codec, height)

    found = settings()
    overlap = mode != "i2v"
    schedule = Schedule(steps=20, tail=3, shift=shift, g_scale=3.0)
    assert found.parameters == Parameters(mode, 16384, schedule, overlap, gaussian=True)  # type: ignore[arg-type]
    assert (found.fixed_atoms, found.gop, found.scenecut, found.caption) == (64, 33, False, "")
    assert (found.tail_atoms, found.tail_step) == ((128, PUBLISHED) if mode == "i2v" else (None, None))
    other = settings("--shift", "4", "--codebook", "256", "--tail-step", "0", "--atoms", "9")
    assert (other.parameters.schedule.shift, other.parameters.codebook) == (4, 256)
    assert (other.tail_step, other.fixed_atoms, other.parameters.gaussian) == (0, 9, True)


@pytest.mark.parametrize("mode", ["t2v", pytest.param("i2v", marks=pytest.mark.slow)])
def test_what_the_paper_would_count_stands_beside_the_files_bytes(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, mode: str
) -> None:
    source, stream = video(tmp_path / "in.mkv", smooth_clip(32, 32, 10)), tmp_path / "o.gnvc"
    call = ("encode", source, stream, "--codec", "gvc", "--paper", "--mode", mode, "--codebook", 256, *FAST)
    code, out, _ = here(capfd, *call, "--json")
    said = json.loads(out)
    assert code == 0 and said["bytes"] == stream.stat().st_size
    with stream.open("rb") as file:
        residuals = [PayloadParser(part.payload).flags & 8 for part in Reader(file) if isinstance(part, Unit)]
    latents = 2 * 2  # of two GOPs of five frames
    bits = 1 * latents * 4 * (8 + 1)
    tail = 0 if mode == "t2v" else said["published_bytes"] - bits / 8
    assert said["published_bytes"] == bits / 8 + tail and all(residuals) == (mode == "i2v")
    assert said["published_bpp"] == pytest.approx(8 * said["published_bytes"] / (32 * 32 * 10))
    assert said["published_bpp_printed"] == pytest.approx(said["published_bpp"] / 3)
    code, out, _ = here(capfd, "verify", stream, "--json")
    assert code == 0 and set(json.loads(out)["drifts"].values()) == {0.0}
    assert "256 Gaussian atoms" in json.loads(here(capfd, "info", stream, "--json")[1])["described"]
    code, out, _ = here(capfd, *call)
    assert code == 0 and f"as the paper counts: {said['published_bytes']:.0f} bytes" in out.splitlines()[1]
