"""ColorVideoVDP, frame by frame, is what the package's own command says of the files."""

import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from gnvc_vd.conventions import Frame
from gnvc_vd.metrics import UnavailableError
from gnvc_vd.metrics.cvvdp import DISPLAY, ColorVideoVdp
from tests.metrics.clips import as_frame, noisy, pairs, pan, texture

PAN = pan(texture(40, 56), 12, (2, 1))  # longer than the ¼ s that is filtered
RATE = Fraction(24000, 1001)
COMMAND = "import gnvc_vd.common.compat; from pycvvdp.run_cvvdp import main; main()"  # torchvision beside a CPU's torch


def of_clips(reference: Sequence[Frame], test: Sequence[Frame], rate: Fraction = RATE) -> float:
    height, width = reference[0].shape[:2]
    measure = ColorVideoVdp(width, height, rate, "cpu")
    for pair in pairs(reference, test):
        measure.add(pair)
    return measure.value()


def by_its_own_command(
    reference: Sequence[Frame], test: Sequence[Frame], rates: Sequence[Fraction], folder: Path
) -> list[str]:
    """From pictures, since for videos it wants ffprobe; not PNG, for which it would download a reader."""
    for name, clip in (("reference", reference), ("test", test)):
        for number, frame in enumerate(clip):
            cv2.imwrite(str(folder / f"{name}_{number:03}.bmp"), frame[..., ::-1])
    files = f"--test {folder}/test_%03d.bmp --ref {folder}/reference_%03d.bmp --display {DISPLAY} --device cpu --quiet"
    calls = "".join(f"{files} --fps {float(rate)}\n" for rate in rates)
    call = [sys.executable, "-c", COMMAND, "--interactive"]
    return subprocess.run(call, input=calls, capture_output=True, text=True, check=True).stdout.split()


def test_the_figure_is_that_of_the_packages_command(tmp_path: Path) -> None:
    """To the four digits that it prints, at two rates, which decide what the eye filters."""
    both = zip(PAN, noisy(PAN, 20), strict=True)
    flickering = [noise if number % 2 else frame for number, (frame, noise) in enumerate(both)]
    rates = (RATE, Fraction(60))
    found = [f"{of_clips(PAN, flickering, rate):.4f}" for rate in rates]
    assert found == by_its_own_command(PAN, flickering, rates, tmp_path) and found[0] != found[1]


def test_equal_clips_have_ten_and_the_worse_the_fewer(capfd: pytest.CaptureFixture[str]) -> None:
    found = [of_clips(PAN, noisy(PAN, sigma) if sigma else PAN) for sigma in (0, 4, 16, 48)]
    assert found[0] == 10 and found == sorted(found, reverse=True) and found[3] < 8 < found[1]
    black = [np.zeros_like(frame) for frame in PAN]
    assert of_clips(black, black) == 10
    assert capfd.readouterr() == ("", "")  # the package has something to say of dark pictures


def test_what_cannot_be_judged_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnavailableError, match="needs two frames"):
        of_clips(PAN[:1], PAN[:1])
    small = [as_frame(texture(31, 40))] * 2
    with pytest.raises(UnavailableError, match="at least 32 pixels each way, not 40×31"):
        of_clips(small, small)
    monkeypatch.setitem(sys.modules, "pycvvdp.cvvdp_metric", None)
    with pytest.raises(UnavailableError, match="needs the package cvvdp, which cannot be imported"):
        of_clips(PAN, PAN)


def test_comparing_without_it_does_not_import_it() -> None:
    program = """if True:
        import sys, gnvc_vd.evaluate.compare as compare
        compare.Panel(["psnr_rgb"], 64, 64, 25, "dis", "cpu")
        assert not any(name.startswith("pycvvdp") for name in sys.modules)
    """
    subprocess.run([sys.executable, "-c", program], check=True)
