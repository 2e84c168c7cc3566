"""CLIP-F and the Fréchet distance: closed forms, and tiny random networks as a user would supply them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from gnvc_vd.conventions import GnvcError
from gnvc_vd.metrics import UnavailableError
from gnvc_vd.metrics.features import (
    ClipF,
    ClipFeatures,
    ClipNetwork,
    clip_images,
    frechet_distance,
    videomae,
)
from tests.conftest import noise_clip
from tests.metrics.clips import pairs

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def test_frechet_of_gaussians_is_its_closed_form() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(400, 3))
    white = (points - points.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(points, rowvar=False))).T
    spread, shift = np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.0, -2.0])
    expected = (shift**2).sum() + ((spread - 1) ** 2).sum()  # |Δμ|² + Σ (σ − σ')² where the axes are the same
    assert frechet_distance(white, white * spread + shift) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(white, white) == pytest.approx(0, abs=1e-9)
    x, y = rng.normal(size=(50, 4)) @ rng.normal(size=(4, 4)), rng.normal(size=(30, 4)) @ rng.normal(size=(4, 4))
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    general = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert frechet_distance(x, y) == pytest.approx(general, rel=1e-9)
    with pytest.raises(UnavailableError, match="at least two clips"):
        frechet_distance(x[:1], y)


def test_fewer_clips_than_dimensions_still_give_a_distance() -> None:
    x = np.random.default_rng(1).normal(size=(5, 40))
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, x + 1) == pytest.approx(40, rel=1e-6)


def test_clip_f_is_the_mean_cosine_of_neighbours() -> None:
    """Of a test that turns by 60°, not at all and by 90°, and of an original that stands."""
    angles = iter((0.0, np.pi / 3, np.pi / 3, np.pi / 3 + np.pi / 2))
    black = np.zeros((2, 2, 3), np.uint8)
    measure = ClipF(lambda _: torch.tensor([[1.0, 0.0], [np.cos(a := next(angles)), np.sin(a)]]))
    for pair in pairs([black] * 4, [black] * 4):
        measure.add(pair)
    assert measure.value() == pytest.approx((0.5 + 1 + 0) / 3) and measure.original() == pytest.approx(1)
    with pytest.raises(UnavailableError, match="two frames"):
        ClipF(lambda z: z).value()


def test_clips_follow_one_another_and_the_rest_is_left_out() -> None:
    seen = []

    def features(clip: Tensor) -> np.ndarray:
        assert clip.shape == (1, 3, 4, 2, 2)
        seen.append(clip[0, 0, :, 0, 0].tolist())
        return np.zeros(1)

    collected = ClipFeatures(ClipNetwork(4, features))
    for number in range(11):
        collected.add(torch.full((1, 3, 2, 2), float(number)))
    assert seen == [[0, 1, 2, 3], [4, 5, 6, 7]] and len(collected.features) == 2


def test_a_folder_with_clip_is_used_as_its_own_package_would(tmp_path: Path) -> None:
    from PIL import Image
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    config = CLIPVisionConfig(**TINY, image_size=32, patch_size=8, projection_dim=8)
    network = CLIPVisionModelWithProjection(config).eval()
    network.save_pretrained(tmp_path)
    frame = noise_clip(48, 80, 1)[0]  # which shows whether shrinking filters first
    resized = Image.fromarray(frame).resize((53, 32), Image.Resampling.BICUBIC).crop((10, 0, 42, 32))
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # OpenAI's CLIP
    prepared = torch.from_numpy((np.asarray(resized) / 255 - mean) / std).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        expected = network(prepared).image_embeds[0]
    found = clip_images(tmp_path)(torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 127.5 - 1)
    assert found.shape == (1, 8) and float(found.norm()) == pytest.approx(1, abs=1e-5)
    assert found[0].numpy() == pytest.approx((expected / expected.norm()).numpy(), abs=0.01)


def test_a_folder_with_videomae_is_used(tmp_path: Path) -> None:
    from transformers import VideoMAEConfig, VideoMAEModel

    torch.manual_seed(0)
    model = VideoMAEModel(VideoMAEConfig(**TINY, image_size=16, patch_size=8, num_frames=4)).eval()
    model.save_pretrained(tmp_path)
    network = videomae(tmp_path)
    assert network.frames == 4
    clip = torch.rand(1, 3, 4, 16, 16) * 2 - 1  # of the network's own size: nothing is resized
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    prepared = ((clip.movedim(1, -1) + 1) / 2 - mean) / std
    with torch.no_grad():
        expected = model(prepared.movedim(-1, 2)).last_hidden_state.mean((0, 1))
    assert network.features(clip) == pytest.approx(expected.double().numpy(), abs=1e-5)


def test_folders_that_are_missing_or_not_whole_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"VideoMAEModel folder .*config.json is missing"):
        videomae(tmp_path)
    from safetensors.torch import load_file, save_file
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(**TINY, image_size=16, patch_size=8, projection_dim=8)
    CLIPVisionModelWithProjection(config).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["visual_projection.weight"]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(GnvcError, match="lacks visual_projection"):
        clip_images(tmp_path)
