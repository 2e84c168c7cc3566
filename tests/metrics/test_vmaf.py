"""VMAF through a pipe is VMAF of the files."""

import json
from pathlib import Path

import numpy as np
import pytest

from gnvc_vd.conventions import GnvcError
from gnvc_vd.metrics import UnavailableError
from gnvc_vd.metrics.pairs import Pair, PairMaker
from gnvc_vd.metrics.vmaf import Vmaf
from gnvc_vd.video import ffmpeg, open_video
from tests.conftest import smooth_clip
from tests.metrics.clips import as_frame, noisy, pairs, write


def of_files(reference: Path, test: Path, folder: Path) -> float:
    log = folder / "direct.json"
    scoring = f"libvmaf=log_fmt=json:log_path={log}"
    ffmpeg.run(["-i", str(test), "-i", str(reference), "-lavfi", scoring, "-f", "null", "-"])
    return float(json.loads(log.read_text())["pooled_metrics"]["vmaf"]["mean"])


def piped(both: list[Pair]) -> float:
    vmaf = Vmaf()
    try:
        for pair in both:
            vmaf.add(pair)
        return vmaf.value()
    finally:
        vmaf.close()


@pytest.mark.parametrize(("height", "width", "pixel_format"), [(90, 160, "yuv420p"), (65, 97, "yuv420p10le")])
def test_vmaf_is_what_ffmpeg_says_of_the_files(tmp_path: Path, height: int, width: int, pixel_format: str) -> None:
    clip = smooth_clip(height, width, 6)
    files = []
    for name, frames in (("reference", clip), ("test", noisy(clip, 4))):
        source = write(tmp_path / f"{name}.mkv", frames)
        files.append(tmp_path / f"{name}.y4m")
        ffmpeg.run(["-i", str(source), "-pix_fmt", pixel_format, "-strict", "-1", str(files[-1])])
    with open_video(files[0]) as first, open_video(files[1]) as second:
        pairing = PairMaker(first.info.colour, "cpu")
        both = [pairing(x, y) for x, y in zip(first.pictures(), second.pictures(), strict=True)]
    assert both[0].test_planes.pixel_format == pixel_format
    expected = of_files(*files, tmp_path)
    assert 20 < expected < 97 and piped(both) == pytest.approx(expected, abs=1e-4)
    swapped = [Pair(p.test, p.reference, p.test_planes, p.reference_planes, p.tensors) for p in both]
    assert abs(piped(swapped) - expected) > 0.5  # which is the original matters


def test_frames_that_are_no_files_are_judged_as_4_2_0(tmp_path: Path) -> None:
    x = [as_frame(frame * 0.8) for frame in smooth_clip(80, 1280, 4)]  # so wide that y4m is BT.709, as in pairs()
    y = noisy(x, 6)
    expected = of_files(write(tmp_path / "x.y4m", x), write(tmp_path / "y.y4m", y), tmp_path)
    assert piped(pairs(x, y)) == pytest.approx(expected, abs=1e-4)


def test_failures_are_sentences_and_nothing_stays() -> None:
    vmaf = Vmaf()
    with pytest.raises(UnavailableError, match="at least one frame"):
        vmaf.value()
    folder = Path(vmaf._folder.name)
    tiny = pairs([np.zeros((4, 4, 3), np.uint8)] * 2, [np.zeros((4, 4, 3), np.uint8)] * 2)
    with pytest.raises(GnvcError, match="ffmpeg failed"):
        for pair in tiny * 2000:
            vmaf.add(pair)
        vmaf.value()
    vmaf.close()
    assert not folder.exists()


def test_closing_early_ends_ffmpeg() -> None:
    vmaf = Vmaf()
    clip = smooth_clip(64, 64, 1)
    vmaf.add(pairs(clip, clip)[0])
    assert vmaf._process is not None
    process = vmaf._process._process
    assert process.poll() is None
    vmaf.close()
    assert process.poll() is not None
