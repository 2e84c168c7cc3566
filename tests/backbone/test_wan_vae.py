"""The streaming VAE gives diffusers' own numbers, and keeps no state of its own."""

import numpy as np
import pytest
import torch
from torch import Tensor

from gnvc_vd.backbone.tiles import Tiling
from gnvc_vd.backbone.wan_vae import WanVae, build_vae, tiling_that_fits
from gnvc_vd.bench.backbone_speed import decode_ours
from gnvc_vd.bench.harness import cost
from gnvc_vd.bitstream.gop import crop, pad
from gnvc_vd.presets import WAN_VAE, VaePreset, preset

NANO = VaePreset(8, WAN_VAE.latents_mean, WAN_VAE.latents_std)


@pytest.fixture(scope="module")
def stock() -> WanVae:
    torch.manual_seed(0)
    return WanVae(build_vae(NANO), kernels="stock").eval().requires_grad_(False)


def clip(frames: int, height: int, width: int) -> Tensor:
    return 2 * torch.rand(1, 3, frames, height, width, generator=torch.Generator().manual_seed(frames)) - 1


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 16, 16), (5, 32, 48), (13, 16, 64), (25, 32, 32)])
def test_streaming_is_diffusers_bit_for_bit(stock: WanVae, frames: int, height: int, width: int) -> None:
    video = clip(frames, height, width)
    theirs = stock.model.encode(video).latent_dist.mode()
    ours = stock.encode(video)
    assert torch.equal(ours, (theirs - stock.mean) / stock.std)
    assert torch.equal(stock.decode(ours), stock.model.decode(ours * stock.std + stock.mean).sample)


@pytest.mark.parametrize(("frames", "height", "width"), [(26, 17, 31), (97, 9, 33)])
def test_padded_odd_sizes_and_lengths_stream_the_same(stock: WanVae, frames: int, height: int, width: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
    video = torch.from_numpy(pad(pixels)).permute(3, 0, 1, 2)[None] / 127.5 - 1
    theirs = stock.model.encode(video).latent_dist.mode()
    ours = stock.encode(video)
    # At this length torch picks another kernel for the stock path's one big 1×1 convolution: last bits may differ.
    assert (ours - (theirs - stock.mean) / stock.std).abs().max() < 1e-5
    stock_frames = stock.model.decode(ours * stock.std + stock.mean).sample
    assert (stock.decode(ours) - stock_frames).abs().max() < 1e-5
    assert crop(stock_frames[0].permute(1, 2, 3, 0).numpy(), frames, width, height).shape == (frames, height, width, 3)


def test_tiles_are_diffusers_bit_for_bit() -> None:
    torch.manual_seed(1)
    tiled = WanVae(build_vae(NANO), "stock", Tiling(size=48, stride=32)).eval().requires_grad_(False)
    tiled.model.enable_tiling(48, 48, 32, 32)
    video = clip(5, 96, 80)
    ours = tiled.encode(video)
    assert torch.equal(ours, (tiled.model.encode(video).latent_dist.mode() - tiled.mean) / tiled.std)
    assert torch.equal(tiled.decode(ours), tiled.model.decode(ours * tiled.std + tiled.mean).sample)


def test_the_seam_of_tiles_is_bounded_and_shrinks_with_overlap() -> None:
    """Tiles see less of the picture than the whole does; random weights on noise are the worst that can be shown."""
    torch.manual_seed(1)
    model = build_vae(NANO)
    tilings = (None, Tiling(size=128, stride=96), Tiling(size=128, stride=64))
    with torch.inference_mode():
        latents = WanVae(model).eval().encode(clip(5, 192, 192))
        whole, wide, narrow = (WanVae(model, tiling=tiling).eval().decode(latents) for tiling in tilings)
    wide_seam, narrow_seam = ((found - whole).std() / whole.std() for found in (wide, narrow))
    assert 0 < narrow_seam < 0.8 * wide_seam < 0.8 * 0.15


def test_a_gpu_takes_tiles_where_a_step_would_not_fit() -> None:
    """18 GiB were measured for 1280×720 in bfloat16 at Wan's width, and float32 takes twice that."""
    wan, memory = preset("wan2.1-1.3b").vae.base_dim, {"80": 80 << 30, "24": 24 << 30}
    full_hd, hd, sd = (1080, 1920), (720, 1280), (480, 832)
    assert tiling_that_fits(full_hd, wan, 2, memory["80"]) is None
    assert tiling_that_fits(full_hd, wan, 4, memory["80"]) == Tiling()
    assert tiling_that_fits(hd, wan, 2, memory["24"]) == Tiling() and tiling_that_fits(sd, wan, 2, memory["24"]) is None
    vae = WanVae(build_vae(NANO), tiling="auto").eval()
    with torch.inference_mode():
        assert torch.equal(vae.encode(clip(1, 64, 512)), WanVae(vae.model).encode(clip(1, 64, 512)))  # none on a CPU


@pytest.mark.slow
@pytest.mark.usefixtures("steady_allocator")
def test_memory_does_not_grow_with_the_clip() -> None:
    short, long = cost(decode_ours, 16, 25), cost(decode_ours, 16, 97)
    assert long.peak_bytes < 1.02 * short.peak_bytes


def test_a_step_changes_neither_the_module_nor_the_state_it_was_given(stock: WanVae) -> None:
    video = clip(9, 16, 16)
    _, state = stock.encode_step(None, video[:, :, :1])
    first = stock.encode_step(state, video[:, :, 1:5])[0]
    stock.encode(clip(5, 32, 32))  # someone else's clip in between
    assert torch.equal(stock.encode_step(state, video[:, :, 1:5])[0], first)


def test_fast_kernels_compute_the_same_to_rounding(stock: WanVae) -> None:
    torch.manual_seed(0)
    fast = WanVae(build_vae(NANO)).eval().requires_grad_(False)
    latents = stock.encode(clip(9, 32, 32))
    assert (fast.decode(latents) - stock.decode(latents)).abs().max() < 1e-4


def test_wrong_shapes_are_refused(stock: WanVae) -> None:
    for video in (clip(1, 20, 16), clip(3, 16, 16)[:, :2], clip(7, 16, 16)):
        with pytest.raises(ValueError, match="expected B 3"):
            stock.encode(video)
