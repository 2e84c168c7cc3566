"""The model that comes with the package: the files that were committed, and what they make of unseen clips."""

import json
import os
import shutil
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from gnvc_vd.backbone import flow, sources
from gnvc_vd.backbone.image_condition import FIRST, NOTHING, condition_on
from gnvc_vd.backbone.weights import Backbone, load_backbone
from gnvc_vd.conventions import GnvcError
from gnvc_vd.evaluate.test_sets import CLIPS
from gnvc_vd.metrics.fidelity import psnr
from gnvc_vd.train import losses
from gnvc_vd.train.plan import BatchDraws
from gnvc_vd.video import open_video
from gnvc_vd.video.pixels import to_frames, to_model

GOLDEN = Path(__file__).parent.parent / "golden" / "tiny.json"
REFRESH = "GNVC_VD_REFRESH_GOLDEN"
FRAMES, SIDE = 13, 176
LARGEST = 22e6  # bytes, of the backbone


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return load_backbone("tiny")


def clip(name: str) -> torch.Tensor:
    """1 3 T H W uint8, the middle of the first frames."""
    with open_video(CLIPS / f"{name}.mp4") as video:
        top, left = (video.info.height - SIDE) // 2, (video.info.width - SIDE) // 2
        frames = [frame[top : top + SIDE, left : left + SIDE] for frame in islice(video, FRAMES)]
    return torch.from_numpy(np.stack(frames)).permute(3, 0, 1, 2)[None]


def golden(name: str, found: object) -> object:
    """What was committed; asked to, what is found becomes it."""
    if os.environ.get(REFRESH):
        known = json.loads(GOLDEN.read_text()) if GOLDEN.is_file() else {}
        GOLDEN.write_text(json.dumps(known | {name: found}, indent=2) + "\n")
    return json.loads(GOLDEN.read_text())[name]


def test_the_files_are_those_that_were_committed(tiny: Backbone) -> None:
    assert golden("sha256", tiny.hashes) == tiny.hashes
    assert sum(path.stat().st_size for path in tiny.files.values()) <= LARGEST
    assert tiny.name == "tiny" and tiny.note == ""


@pytest.mark.parametrize("name", ["bunny", "city"])
def test_it_shows_a_clip_as_well_as_it_did(tiny: Backbone, name: str) -> None:
    video = clip(name)
    with torch.inference_mode():
        shown = tiny.vae.decode(tiny.vae.encode(to_model(video)))
    found = psnr(video[0].permute(1, 2, 3, 0).numpy(), to_frames(shown[0]))
    assert found == pytest.approx(golden(f"psnr {name}", round(found, 3)), abs=0.05)


def test_its_transformer_denoises_as_well_as_it_did_and_better_with_a_frame_given(tiny: Backbone) -> None:
    video = to_model(clip("city"))
    with torch.inference_mode():
        clean = tiny.vae.encode(video)
        noise = BatchDraws(0, [0], clean.device).normal_like(clean)
        sigma, found = torch.tensor([0.5]), []
        for given in (NOTHING, FIRST):
            velocity = tiny.dit.velocity(
                flow.path(clean, noise, sigma, 1.0), sigma, condition_on(tiny.vae, video, given)
            )
            found.append(float(losses.flow_matching(velocity, flow.velocity(clean, noise, 1.0))))
    assert found == pytest.approx(golden("loss city", [round(one, 4) for one in found]), rel=0.01)
    assert found[1] < found[0]


def test_a_changed_byte_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "SHIPPED", tmp_path)
    shutil.copytree(Path(sources.__file__).parent.parent / "assets" / "tiny", tmp_path / "tiny")
    changed = tmp_path / "tiny" / "vae.safetensors"
    changed.write_bytes(changed.read_bytes()[:-1] + b"\0")
    with pytest.raises(GnvcError, match=r"vae\.safetensors"):
        load_backbone("tiny")


def test_it_can_be_told_nothing(tiny: Backbone) -> None:
    with pytest.raises(GnvcError, match="tiny has no text encoder"):
        tiny.embed("a tree")
