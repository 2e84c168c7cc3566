"""`gnvc-vd compare`: the keys that others rely on, any two videos, one pass, and what is said when something lacks."""

import json
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from gnvc_vd.backbone.sources import repository_of
from gnvc_vd.bench.harness import cost
from gnvc_vd.cli.main import main
from gnvc_vd.common.files import file_sha256
from gnvc_vd.conventions import Frame, GnvcError, UsageError
from gnvc_vd.evaluate.compare import METRICS, compare
from gnvc_vd.metrics import features, weight_files
from gnvc_vd.metrics.pairs import as_tensor
from gnvc_vd.metrics.perceptual import st_lpips
from gnvc_vd.metrics.vmaf import Vmaf
from gnvc_vd.video import RawVideo, create_video, ffmpeg, open_video
from tests.conftest import smooth_clip
from tests.metrics.clips import as_frame, noisy, pan, texture, write
from tests.metrics.test_fidelity import ffmpeg_psnr
from tests.metrics.test_vmaf import of_files

LATTICES = ("lattice_2", "lattice_4", "lattice_8", "lattice_16")
OFFLINE = ("cvvdp", "vmaf", "psnr_rgb", "psnr_yuv", "ms_ssim", "st_lpips_alex", "st_lpips_vgg", "e_warp", *LATTICES)
QUICK = ("psnr_rgb", "psnr_yuv", "vmaf", "e_warp")


def of_clips(clip: list[Frame], folder: Path) -> tuple[str, str]:
    """The clip and a noisy copy as y4m files."""
    return str(write(folder / "reference.y4m", clip)), str(write(folder / "test.y4m", noisy(clip, 4)))


@pytest.fixture
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "no torch home"))
    monkeypatch.setenv("GNVC_VD_WEIGHTS", str(tmp_path / "no weights"))


@pytest.mark.usefixtures("no_weights")
def test_json_has_every_key_and_the_figures_are_the_measures_own(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    files = of_clips(pan(texture(168, 176), 2, (1, 0)), tmp_path)
    assert main(["compare", *files, "--json"]) == 0
    out, said = capfd.readouterr()
    assert out.count("\n") == 1
    found = json.loads(out)
    assert list(found)[: len(METRICS)] == list(METRICS)
    assert set(found) - set(METRICS) == {
        *("frames", "width", "height", "viewing", "missing", "notices", "seconds", "seconds_by_metric"),
        "flicker_spectrum",
    }
    assert (found["frames"], found["width"], found["height"]) == (2, 176, 168)
    assert found["psnr_yuv"] == pytest.approx(np.mean(ffmpeg_psnr(Path(files[0]), Path(files[1]), tmp_path)), abs=0.02)
    assert found["vmaf"] == pytest.approx(of_files(Path(files[0]), Path(files[1]), tmp_path), abs=1e-4)
    lacking = {"lpips_alex", "lpips_vgg", "dists", "clip_f", "frechet", "flicker"}
    assert set(found["missing"]) == lacking == {k for k in METRICS if found[k] is None}
    assert found["missing"]["flicker"].startswith("needs 17 frames") and found["flicker_spectrum"] == []
    assert "clip-vit-large-patch14" in found["missing"]["clip_f"] and str(tmp_path) in found["missing"]["clip_f"]
    assert "vgg16-397923af.pth" in found["missing"]["dists"] and str(tmp_path) in found["missing"]["lpips_alex"]
    assert set(found["seconds_by_metric"]) == set(OFFLINE)
    assert 0.9 < found["ms_ssim"] < 1 and 1 < found["e_warp"] < 100
    assert 8 < found["cvvdp"] < 10 and found["viewing"] == "display standard_fhd, 25 frames a second"
    assert all(abs(found[name]) < 0.3 for name in LATTICES)  # of noise
    assert 0 < found["st_lpips_alex"] < 0.2 and 0 < found["st_lpips_vgg"] < 0.2
    assert "no colour matrix is stated" in found["notices"][0] and "no colour matrix is stated" in said


def test_each_network_is_the_one_that_its_key_names(tmp_path: Path) -> None:
    files = of_clips(pan(texture(32, 48), 2, (1, 0)), tmp_path)
    found = compare(*files, metrics=["st_lpips_alex", "st_lpips_vgg"]).figures
    with open_video(files[0]) as first, open_video(files[1]) as second, torch.inference_mode():
        both = [[as_tensor(frame) for frame in frames] for frames in zip(first, second, strict=True)]
    for net in ("alex", "vgg"):
        own = np.mean([float(st_lpips(net)(*frames)) for frames in both])
        assert found[f"st_lpips_{net}"] == pytest.approx(own, rel=1e-4)


def test_text_is_a_line_a_metric_with_reasons(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    files = of_clips(smooth_clip(40, 48, 3), tmp_path)
    assert main(["compare", *files, "--metrics", "psnr_rgb,ms_ssim,cvvdp"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "3 frames of 48×40" and [line.split()[0] for line in lines[1:]] == list(METRICS)
    figures = compare(*files, metrics=["psnr_rgb", "cvvdp"]).figures
    assert lines[1] == f"cvvdp         {figures['cvvdp']:.4f}  JOD, display standard_fhd, 25 frames a second"
    assert lines[2] == "vmaf          –  not asked for"
    assert lines[3] == f"psnr_rgb      {figures['psnr_rgb']:.4f}"
    assert lines[5] == "ms_ssim       –  needs pictures of at least 161 pixels each way, not 48×40"


def test_a_copy_is_perfect_and_alone(tmp_path: Path) -> None:
    clip = [as_frame(texture(164, 164))] * 2
    path = str(write(tmp_path / "clip.mkv", clip))
    found = compare(path, path, metrics=[name for name in OFFLINE if name != "st_lpips_vgg"])
    figures = found.figures
    assert (figures["psnr_rgb"], figures["psnr_yuv"], figures["st_lpips_alex"]) == (100, 100, 0)
    assert figures["cvvdp"] == 10 and [figures[name] for name in LATTICES] == [0, 0, 0, 0]
    assert figures["ms_ssim"] == pytest.approx(1, abs=1e-6) and (figures["vmaf"] or 0) > 95
    assert figures["e_warp"] == pytest.approx(0, abs=1e-6)  # still
    assert found.missing["st_lpips_vgg"] == "not asked for" and "st_lpips_vgg" not in found.seconds_by_metric


def test_unequal_lengths_use_the_common_prefix_and_say_so(tmp_path: Path) -> None:
    clip = smooth_clip(40, 48, 7)
    long, short = str(write(tmp_path / "long.y4m", clip)), str(write(tmp_path / "short.mkv", noisy(clip, 4)[:5]))
    both = compare(long, short, metrics=QUICK), compare(short, long, metrics=QUICK)
    cut = compare(str(write(tmp_path / "cut.y4m", clip[:5])), short, metrics=QUICK)
    assert [one.frames for one in (*both, cut)] == [5, 5, 5]
    assert both[0].figures == cut.figures
    expected = f"{short} ends after 5 frames and {long} goes on: 5 are compared"
    assert both[0].notices[-1] == both[1].notices[-1] == expected and expected not in cut.notices
    first = compare(long, short, frames=3, metrics=QUICK)
    assert first.frames == 3 and not any("goes on" in notice for notice in first.notices)
    assert compare(long, short, frames=1, metrics=QUICK).missing["e_warp"].startswith("needs two frames")


def test_any_two_kinds_of_video(tmp_path: Path) -> None:
    """PNGs, lossless RGB, raw YUV: one content, so each pair differs by the conversion at most."""
    clip = smooth_clip(40, 48, 3)
    pictures, lossless, raw = (str(write(tmp_path / name, clip)) for name in ("pictures", "clip.mkv", "clip.yuv"))
    assert compare(pictures, lossless, metrics=["psnr_rgb"]).figures["psnr_rgb"] == 100
    found = compare(pictures, raw, metrics=QUICK, raw=RawVideo(48, 40))
    assert (found.figures["psnr_rgb"] or 0) > 40 and (found.figures["psnr_yuv"] or 0) > 45
    with create_video(tmp_path / "slow.mkv", 48, 40, Fraction(12)) as writer:
        writer.write(clip[0])
    found = compare(lossless, str(tmp_path / "slow.mkv"), metrics=["psnr_rgb"])
    assert "frame rates differ (25 and 12): frames are compared in their order" in found.notices


def test_piped_in(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference, test = of_clips(smooth_clip(40, 48, 3), tmp_path)
    with Path(test).open(encoding="latin-1") as piped:
        monkeypatch.setattr(sys, "stdin", piped)
        assert main(["compare", reference, "-", "--metrics", "psnr_yuv", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["psnr_yuv"] == compare(reference, test, metrics=["psnr_yuv"]).figures["psnr_yuv"]


def test_what_cannot_be_compared_is_refused_in_a_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    small, large = (str(write(tmp_path / f"{n}.mkv", smooth_clip(n, n, 2))) for n in (32, 48))
    with pytest.raises(GnvcError, match=r"small|32×32 and .* 48×48: only videos of one size can be compared"):
        compare(small, large)
    assert main(["compare", small, large]) == 1
    assert main(["compare", small, "missing.mp4"]) == 1
    assert main(["compare", small, small, "--metrics", "psnr,vmaf"]) == 2
    assert main(["compare", small, small, "--size", "32x32"]) == 2
    assert main(["compare", "-", "-"]) == 2
    with pytest.raises(SystemExit, match="2"):
        main(["compare", small, small, "--device", "abacus"])
    out, said = capfd.readouterr()
    assert out == "" and "Traceback" not in said
    sentences = [line for line in said.splitlines() if "matrix" not in line]
    for sentence, wanted in zip(
        sentences,
        (
            "only videos of one size",
            "no such file",
            "no metric psnr;",
            "neither video is raw",
            "holds one video",
            "abacus",
        ),
        strict=True,
    ):
        assert wanted in sentence
    with pytest.raises(UsageError, match="no metric to compute"):
        compare(small, small, metrics=[])


def test_a_measure_that_fails_midway_is_missing_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ffmpeg, "executable", lambda: sys.executable)  # which knows none of the arguments
    found = compare(*of_clips(smooth_clip(256, 256, 3), tmp_path), metrics=["psnr_rgb", "vmaf"])
    assert found.figures["vmaf"] is None and "ffmpeg failed" in found.missing["vmaf"]
    assert (found.figures["psnr_rgb"] or 0) > 30 and set(found.seconds_by_metric) == {"psnr_rgb"}


def test_a_video_that_breaks_midway_is_an_error_and_ffmpeg_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, test = of_clips(smooth_clip(64, 64, 4), tmp_path)
    data = Path(test).read_bytes()
    Path(test).write_bytes(data[:-100])
    started = []
    monkeypatch.setattr("gnvc_vd.evaluate.compare.Vmaf", lambda: started.append(Vmaf()) or started[0])
    with pytest.raises(GnvcError, match="damaged or cut"):
        compare(reference, test, metrics=["vmaf"])
    assert started[0]._process is not None and started[0]._process._process.poll() is not None


def test_raft_without_weights_is_missing_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_weights: None
) -> None:
    found = compare(*of_clips(smooth_clip(40, 48, 3), tmp_path), metrics=["e_warp"], flow="raft")
    assert found.figures["e_warp"] is None and "raft_large" in found.missing["e_warp"]


def test_flicker_is_measured_with_its_spectrum_and_motion_is_found_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error whose sign changes every frame: all of it in the highest band, 4 a² of a pattern of ±a."""
    from gnvc_vd.evaluate import compare as module

    calls: list[int] = []
    monkeypatch.setattr(module, "dis", lambda x, y: calls.append(1) or np.zeros((*x.shape[:2], 2), np.float32))
    clip = [np.full((32, 48, 3), 100, np.uint8)] * 17
    test = [frame + np.uint8(6 * (t % 2)) for t, frame in enumerate(clip)]
    files = str(write(tmp_path / "a.mkv", clip)), str(write(tmp_path / "b.mkv", test))
    found = compare(*files, metrics=["e_warp", "flicker"])
    assert found.figures["flicker"] == pytest.approx(36, rel=1e-5) and found.figures["e_warp"] == pytest.approx(36)
    assert found.flicker_spectrum == pytest.approx((*[0] * 8, 36), abs=1e-6)
    assert len(calls) == 2 * 16


def test_clip_f_and_the_frechet_distance_come_from_the_networks_that_are_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiny networks in the place of the real ones, whole CLIP as published; then another file under their name."""
    from transformers import CLIPModel, VideoMAEConfig, VideoMAEForPreTraining
    from transformers.models.clip import CLIPConfig

    torch.manual_seed(0)
    sides = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    text = {**sides, "vocab_size": 99, "projection_dim": 8}
    vision = {**sides, "image_size": 32, "patch_size": 8, "projection_dim": 8}
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).eval()
    video = VideoMAEForPreTraining(
        VideoMAEConfig(**sides, image_size=16, patch_size=8, num_frames=4, decoder_num_hidden_layers=1)
    ).eval()
    monkeypatch.setenv("GNVC_VD_WEIGHTS", str(tmp_path / "weights"))
    networks = {}
    for metric, network in (("clip_f", clip), ("frechet", video)):
        stated = weight_files.NETWORKS[metric]
        folder = repository_of(stated.name)[1]
        network.save_pretrained(folder)
        networks[metric] = replace(stated, sha256=file_sha256(folder / "model.safetensors"))
    monkeypatch.setattr("gnvc_vd.evaluate.compare.NETWORKS", networks)
    x = smooth_clip(32, 32, 9)
    files = str(write(tmp_path / "a.mkv", x)), str(write(tmp_path / "b.mkv", noisy(x, 9)))
    found = compare(*files, metrics=["clip_f", "frechet"])
    with open_video(files[1]) as test:
        frames = torch.cat([as_tensor(frame) for frame in test])  # 32 × 32: nothing is resized for CLIP
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (features.CLIP_MEAN, features.CLIP_STD))
    with torch.inference_mode():
        pooled = clip.vision_model(((frames + 1) / 2 - mean) / std).pooler_output
        own = torch.nn.functional.normalize(clip.visual_projection(pooled), dim=-1)
    assert found.figures["clip_f"] == pytest.approx(float((own[1:] * own[:-1]).sum(1).mean()), rel=1e-5)
    assert any(notice.startswith("CLIP-F of the original is 0.") for notice in found.notices)
    assert (found.figures["frechet"] or 0) > 0
    monkeypatch.setattr("gnvc_vd.evaluate.compare.NETWORKS", weight_files.NETWORKS)
    missing = compare(*files, metrics=["clip_f", "frechet"]).missing
    assert all("its sha256 is another" in missing[metric] for metric in networks)


def run_compare(reference: str, test: str) -> None:
    compare(reference, test, metrics=[name for name in OFFLINE if name != "st_lpips_vgg"])


@pytest.mark.slow
@pytest.mark.usefixtures("steady_allocator")
def test_memory_does_not_grow_with_the_video(tmp_path: Path) -> None:
    costs = []
    for frames in (12, 72):
        folder = tmp_path / str(frames)
        folder.mkdir()
        costs.append(cost(run_compare, *of_clips(pan(texture(180, 240), frames, (2, 1)), folder)))
    assert costs[1].peak_bytes < 1.05 * costs[0].peak_bytes  # 60 frames more would be 8 MB each way as uint8 alone
