"""The zero-shot codec on the model that comes with the package: what it is for holds there too."""

from dataclasses import replace
from itertools import islice, pairwise

import pytest

from gnvc_vd.codecs.load import load_gvc
from gnvc_vd.conventions import Frame
from gnvc_vd.evaluate.test_sets import CLIPS
from gnvc_vd.video import open_video
from gnvc_vd.zeroshot.codec import Gvc
from gnvc_vd.zeroshot.encoding import GvcEncodeOptions
from gnvc_vd.zeroshot.parameters import Parameters
from lab.gvc_figures import coded

GOP = 9


@pytest.fixture(scope="module")
def gvc() -> Gvc:
    return load_gvc("tiny")


@pytest.fixture(scope="module", params=["bunny", "city"])
def frames(request: pytest.FixtureRequest) -> list[Frame]:
    """A GOP of the middle, 128 × 96."""
    with open_video(CLIPS / f"{request.param}.mp4") as video:
        return [frame[42:138, 96:224] for frame in islice(video, GOP)]


@pytest.mark.slow
def test_more_atoms_come_nearer_and_given_frames_nearer_still(gvc: Gvc, frames: list[Frame]) -> None:
    base = GvcEncodeOptions(4, gop=GOP, scenecut=False, still_quality=50)
    by_atoms = [coded(gvc, frames, replace(base, atoms=atoms), "") for atoms in (0, 1, 4, 16, 64)]
    errors, ratios = [one.error for one in by_atoms], [one.psnr for one in by_atoms]
    assert errors == sorted(errors, reverse=True) and len(set(errors)) == len(errors)
    assert all(more > fewer + 0.5 for fewer, more in pairwise(ratios))
    for mode in ("i2v", "flf2v"):
        assert coded(gvc, frames, replace(base, parameters=Parameters(mode)), "").error < errors[2]
