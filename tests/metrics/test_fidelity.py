"""PSNR against closed forms and ffmpeg's filter, MS-SSIM against its definition."""

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from gnvc_vd.conventions import Colour
from gnvc_vd.metrics import UnavailableError
from gnvc_vd.metrics.fidelity import MsSsim, psnr, psnr_rgb, psnr_yuv
from gnvc_vd.metrics.pairs import PairMaker, as_tensor
from gnvc_vd.video import Picture, ffmpeg, open_video
from gnvc_vd.video.planes import Planes
from tests.conftest import noise_clip, smooth_clip
from tests.metrics.clips import COLOUR, as_frame, noisy, pairs, texture, write


def planes(y: int, u: int, v: int, pixel_format: str = "yuv420p") -> Planes:
    kind = np.uint16 if pixel_format.endswith("10le") else np.uint8
    codes = [np.full(shape, value, kind) for shape, value in (((16, 16), y), ((8, 8), u), ((8, 8), v))]
    return Planes((codes[0], codes[1], codes[2]), pixel_format, COLOUR)


def test_psnr_is_its_closed_form() -> None:
    grey = np.full((20, 30, 3), 100, np.uint8)
    assert psnr(grey, grey + 1) == pytest.approx(10 * math.log10(255**2))
    assert psnr(grey, grey - 1) == psnr(grey + 1, grey)  # no wrapping at 0 of unsigned codes
    half = grey.copy()
    half[:10] += 4
    assert psnr(grey, half) == pytest.approx(10 * math.log10(255**2 / 8))
    assert psnr(grey, np.zeros_like(grey)) == pytest.approx(10 * math.log10(2.55**2))


def test_equal_frames_count_100_decibels_and_nothing_counts_more() -> None:
    frame = np.zeros((400, 400, 3), np.uint8)
    other = frame.copy()
    assert psnr(frame, other) == 100
    other[0, 0, 0] = 1
    assert psnr(frame, other) == 100 and 10 * math.log10(255**2 * 480_000) > 100


def test_yuv_counts_luma_six_times_and_each_plane_for_itself() -> None:
    x, y = planes(100, 100, 100), planes(101, 102, 104)
    one = 10 * math.log10(255**2)
    parts = one, one - 10 * math.log10(4), one - 10 * math.log10(16)
    assert [psnr(*planes) for planes in zip(x.codes, y.codes, strict=True)] == pytest.approx(parts)
    assert psnr_yuv(x, y) == pytest.approx((6 * parts[0] + parts[1] + parts[2]) / 8)
    x, y = planes(400, 400, 400, "yuv420p10le"), planes(401, 401, 401, "yuv420p10le")
    assert psnr_yuv(x, y) == pytest.approx(10 * math.log10(1023**2))


def ffmpeg_psnr(reference: Path, test: Path, folder: Path) -> list[float]:
    """6:1:1 per frame, from the log of ffmpeg's psnr filter (two decimals)."""
    log = folder / "psnr.log"
    ffmpeg.run(["-i", str(test), "-i", str(reference), "-lavfi", f"psnr=stats_file={log}", "-f", "null", "-"])
    found = [re.search(r"psnr_y:(\S+) psnr_u:(\S+) psnr_v:(\S+)", line) for line in log.read_text().splitlines()]
    return [(6 * float(one[1]) + float(one[2]) + float(one[3])) / 8 for one in found if one]


def our_psnr(reference: Path, test: Path) -> list[float]:
    with open_video(reference) as first, open_video(test) as second:
        pairing = PairMaker(first.info.colour, "cpu")
        both = [pairing(x, y) for x, y in zip(first.pictures(), second.pictures(), strict=True)]
    return [psnr_yuv(pair.reference_planes, pair.test_planes) for pair in both]


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le", "yuv444p", "yuvj422p"])
def test_yuv_of_files_is_what_ffmpeg_says(tmp_path: Path, pixel_format: str) -> None:
    source = write(tmp_path / "source.mkv", noisy(smooth_clip(66, 98, 5), 6))
    reference, test = tmp_path / "reference.mp4", tmp_path / "test.mp4"
    ffmpeg.run(["-i", str(source), "-pix_fmt", pixel_format, "-c:v", "libx264", "-qp", "0", str(reference)])
    ffmpeg.run(["-i", str(reference), "-c:v", "libx264", "-crf", "30", "-pix_fmt", pixel_format, str(test)])
    expected = ffmpeg_psnr(reference, test, tmp_path)
    assert len(expected) == 5 and 25 < min(expected) < max(expected) < 45
    assert our_psnr(reference, test) == pytest.approx(expected, abs=0.02)


def test_where_files_store_different_things_both_are_converted(tmp_path: Path) -> None:
    """RGB beside 4:2:0: the same planes as in y4m files of both, which ffmpeg can judge."""
    clip, other = smooth_clip(34, 50, 4), noisy(smooth_clip(34, 50, 4), 5)
    written = write(tmp_path / "reference.y4m", clip), write(tmp_path / "test.y4m", other)
    expected = ffmpeg_psnr(*written, tmp_path)
    pairing = PairMaker(Colour("bt601", "full"), "cpu")
    with open_video(written[0]) as first, open_video(write(tmp_path / "test.mkv", other)) as second:
        found = list(zip(first.pictures(), second.pictures(), strict=True))
    assert found[0][0].planes is not None and found[0][1].planes is None
    converted = pairing(*found[0])
    assert (
        converted.test_planes.colour == Colour("bt601", "limited") and converted.test_planes.pixel_format == "yuv420p"
    )
    ours = [psnr_yuv(pair.reference_planes, pair.test_planes) for pair in pairs(clip, other)]
    assert ours[0] != pytest.approx(expected[0], abs=0.02)  # y4m of this size is BT.601; pairs() says BT.709
    with open_video(write(tmp_path / "reference.mkv", clip)) as first, open_video(tmp_path / "test.mkv") as second:
        pairing = PairMaker(Colour("bt601", "limited"), "cpu")
        both = [pairing(x, y) for x, y in zip(first.pictures(), second.pictures(), strict=True)]
    assert [psnr_yuv(pair.reference_planes, pair.test_planes) for pair in both] == pytest.approx(expected, abs=0.02)


def test_a_wrong_colour_matrix_is_seen(tmp_path: Path) -> None:
    """The same codes read as BT.601 and as BT.709: not equal any more, in RGB nor in YUV."""
    path = write(tmp_path / "clip.y4m", smooth_clip(64, 96, 2))
    right, wrong = (Colour(matrix, "limited") for matrix in ("bt601", "bt709"))
    with open_video(path) as first, open_video(path, colour=wrong) as second:
        assert first.info.colour == right
        pair = PairMaker(right, "cpu")(next(first.pictures()), next(second.pictures()))
    assert 25 < psnr_rgb(pair) < 35
    assert 25 < psnr_yuv(pair.reference_planes, pair.test_planes) < 40


def test_a_transfer_function_that_only_one_file_states_leaves_the_codes_as_stored() -> None:
    frame, stored = noise_clip(16, 16, 1)[0], planes(50, 60, 70)
    stated = replace(stored, colour=replace(stored.colour, transfer=1))
    pair = PairMaker(COLOUR, "cpu")(Picture(frame, stored), Picture(frame, stated))
    assert pair.reference_planes is stored and pair.test_planes is stated


def test_a_format_that_changes_midway_is_refused() -> None:
    from gnvc_vd.conventions import GnvcError

    frame = noise_clip(16, 16, 1)[0]
    pairing = PairMaker(COLOUR, "cpu")
    pairing(Picture(frame, planes(1, 1, 1)), Picture(frame, planes(1, 1, 1)))
    with pytest.raises(GnvcError, match="pixel format changes within a video, from yuv420p"):
        pairing(Picture(frame, planes(1, 1, 1)), Picture(frame, None))


def ms_ssim_by_hand(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Of one channel in [0, 255], in float64, from Wang et al.'s definition: windows that lie wholly inside."""
    taps = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    taps /= taps.sum()

    def blurred(z: NDArray[np.float64]) -> NDArray[np.float64]:
        return correlate1d(correlate1d(z, taps, 0), taps, 1)[5:-5, 5:-5]

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    result = 1.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        mx, my = blurred(x), blurred(y)
        vx, vy, cov = blurred(x * x) - mx**2, blurred(y * y) - my**2, blurred(x * y) - mx * my
        contrast = (2 * cov + c2) / (vx + vy + c2)
        luminance = (2 * mx * my + c1) / (mx**2 + my**2 + c1)
        result *= (contrast if scale < 4 else luminance * contrast).mean() ** weight
        if scale < 4:
            x, y = (z.reshape(z.shape[0] // 2, 2, z.shape[1] // 2, 2).mean((1, 3)) for z in (x, y))
    return float(result)


def test_ms_ssim_is_its_definition() -> None:
    x = as_frame(texture(192, 176))
    y = noisy([x], 12)[0]
    expected = np.mean([ms_ssim_by_hand(x[..., c].astype(float), y[..., c].astype(float)) for c in range(3)])
    found = MsSsim()(as_tensor(x), as_tensor(y))
    assert 0.5 < expected < 0.98 and float(found) == pytest.approx(expected, abs=2e-5)
    assert float(MsSsim()(as_tensor(x), as_tensor(x))) == pytest.approx(1, abs=1e-6)


def test_ms_ssim_of_clips_is_a_loss() -> None:
    torch.manual_seed(0)
    x = as_tensor(as_frame(texture(161, 161)))[:, :, None].repeat(2, 1, 2, 1, 1)
    y = (x + 0.1 * torch.randn_like(x)).requires_grad_()
    found = MsSsim()(x, y)
    frames = [float(MsSsim()(x[:1, :, t], y[:1, :, t]).detach()) for t in range(2)]
    assert found.shape == (2,) and float(found[0].detach()) == pytest.approx(np.mean(frames), abs=1e-6)
    (1 - found).sum().backward()
    assert y.grad is not None and float((y.detach() - x).mul(y.grad).sum()) > 0  # less error, less loss
    with pytest.raises(UnavailableError, match="at least 161 pixels each way, not 161×160"):
        MsSsim()(x[..., :160, :], x[..., :160, :])
