"""What refinement is worth: the figures are those of the parts, and the best ways come first."""

from pathlib import Path

import pytest
import torch

import gnvc_vd
from gnvc_vd.bitstream.refinement import Refinement
from gnvc_vd.common.noise import normal
from gnvc_vd.video.pixels import to_model
from lab.probe_prior import error
from lab.probe_refinement import RefinementResult, Way, main, mean_of, refine
from tests.conftest import smooth_clip
from tests.data.material import film

WAY = Refinement(steps=2, sigma_0=0.2, noise_scale=0.5)


def clip() -> torch.Tensor:
    return torch.stack([torch.from_numpy(frame) for frame in smooth_clip(32, 32, 9)]).permute(3, 0, 1, 2)


def test_errors_and_rates_are_those_of_what_the_codec_does() -> None:
    codec = gnvc_vd.load("nano")
    whole, alone = refine(codec, clip(), [40], [Way(WAY), Way(WAY, apart=True)])
    with torch.inference_mode():
        clean = codec.backbone.vae.encode(to_model(clip()[None]))
        payloads, known = codec.bottleneck.compress(clean, [40] * 3)
        decoded, features = (torch.stack([getattr(one, part) for one in known], 2) for part in ("latent", "feature"))
        noise = 0.5 * normal(clean.shape, (0, 0), (0, 0, 0), codec.device)
        together = codec.refiner(decoded, features, noise, 0.2, 2)
        each = [codec.refiner(*(x[:, :, t : t + 1] for x in (decoded, features, noise)), 0.2, 2) for t in range(3)]
    assert whole.bpp == alone.bpp == 8 * len(payloads[0].data) / (9 * 32 * 32)
    assert whole.before == alone.before == pytest.approx(error(decoded, clean))
    assert whole.after == pytest.approx(error(together, clean), abs=1e-4)
    assert alone.after == pytest.approx(error(torch.cat(each, 2), clean), abs=1e-4)
    assert whole.after != pytest.approx(alone.after, abs=1e-3)


def test_means_are_over_clips_for_each_quality_and_way() -> None:
    found = [RefinementResult(0, 0.1, Way(WAY), -10.0, -12.0), RefinementResult(0, 0.3, Way(WAY), -14.0, -13.0)]
    other = RefinementResult(0, 0.1, Way(WAY, apart=True), -10.0, -11.0)
    assert mean_of([*found, other]) == [RefinementResult(0, 0.2, Way(WAY), -12.0, -12.5), other]


def test_the_script_shows_the_best_way_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = film(tmp_path / "a.mkv", smooth_clip(64, 64, 9))
    told = ("--frames", 9, "--size", 64, "--qualities", 0, 63, "--starts", 0.1, 0.3, "--steps", 1, "--noise-scales", 1)
    assert main(["nano", str(video), *map(str, told)]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert len(lines) == 2 * 4 and "apart" in "".join(lines) and "the model's own" in "".join(lines)
    for first in (0, 4):
        assert lines[first].split()[0] == str((0, 63)[first // 4])
        after = [float(line[27:].split()[0]) for line in lines[first : first + 4]]
        assert after == sorted(after)
    assert main(["nano", str(video), "--qualities", "64"]) == 2
    assert main(["nano", str(video), "--frames", "9", "--size", "4096"]) == 1
