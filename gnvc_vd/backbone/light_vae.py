"""A light causal video VAE with latents shaped like Wan's: 2-D convolutions that also see the previous frame.

    video ─▶ H/4, all frames ─merge─▶ half of them ─merge─▶ H/8 ─merge─▶ a quarter ─▶ mean, log-variance
    z ─▶ H/8, a quarter of the frames ─split─▶ H/4, half ─split─▶ all ─split─▶ H/2 ─shuffle 2─▶ video

Layers that change the resolution are linear maps that are initialised as a mean or a repetition, so that pictures pass
through from the first training step on. The first frame is a latent of its own: a merge repeats it, and a split keeps
the last of the frames made from it. A block's state is its features of the last frame. In the networks, channels are
the last dimension (B T h w C), which convolutions, linear maps and shuffles all read without a copy.
"""

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import conv2d, leaky_relu

from gnvc_vd.backbone.streaming import State, VideoVae
from gnvc_vd.conventions import LATENT_CHANNELS
from gnvc_vd.presets import VaePreset

ENTRY = 4  # the encoder unshuffles blocks of 4×4 pixels
START_LOG_VARIANCE = -7.0  # a wide initial posterior would drown the latents in noise


class FrameCache:
    """Every layer's features of the last frame, in the order of the layers' calls: the VAE's state."""

    def __init__(self, before: State | None) -> None:
        self.begins = before is None
        self._before = iter(before or ())
        self.after: list[Tensor] = []

    def previous_frames(self, x: Tensor) -> Tensor:
        """Features of each frame's predecessor, B T …; the clip's first frame counts as its own predecessor."""
        first = x[:, :1] if self.begins else next(self._before)
        self.after.append(x[:, -1:].clone())  # not a view, which would hold all of x until the next step
        return torch.cat([first, x[:, :-1]], dim=1)


class LightVae(VideoVae):
    """`LightNetwork` as a streaming VAE; `encode` processes all frames after the first at once."""

    encoder_step = decoder_step = None
    model: "LightNetwork"

    def __init__(self, preset: VaePreset) -> None:
        super().__init__(LightNetwork(preset), preset.latents_mean, preset.latents_std)

    def encode(self, video: Tensor) -> Tensor:
        return (self.posterior(video)[0] - self.mean) / self.std

    def set_precision(self, encoder: torch.dtype, decoder: torch.dtype) -> None:
        super().set_precision(encoder, decoder)
        self.model.decoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # fill() undid it

    def moments(self, state: State | None, frames: Tensor) -> tuple[Tensor, State]:
        past = FrameCache(state)
        return self.model.encoder(frames, past), tuple(past.after)

    def decode_unnormalised(self, state: State | None, z: Tensor) -> tuple[Tensor, State]:
        return self.model.decoder.step(state, z)


class LightNetwork(nn.Module):
    """Encoder and decoder: the tensors of a weights file."""

    def __init__(self, preset: VaePreset) -> None:
        super().__init__()
        self.encoder = Encoder(preset.base_dim, 2 * preset.base_dim)
        self.decoder = Decoder(preset.base_dim)


class Encoder(nn.Module):
    """Encode B 3 T H W to moments B 2·16 T/4 H/8 W/8."""

    def __init__(self, fine: int, coarse: int) -> None:
        super().__init__()
        self.enter = picture_layer(3 * ENTRY**2, fine)
        self.merge_fine = Merge(fine, fine, time=2)
        self.every_second = Blocks(fine, 2)
        self.down = Merge(fine, coarse, space=2)
        self.merge_coarse = Merge(coarse, coarse, time=2)
        self.every_fourth = Blocks(coarse, 3)
        self.leave = picture_layer(coarse, 2 * LATENT_CHANNELS)
        with torch.no_grad():
            cast(Tensor, self.leave.bias)[LATENT_CHANNELS:] = START_LOG_VARIANCE
            self.leave.weight[LATENT_CHANNELS:] *= 0.1

    def forward(self, video: Tensor, past: FrameCache) -> Tensor:
        x = rearrange(video, "b c t (h p) (w q) -> b t h w (c p q)", p=ENTRY, q=ENTRY)
        x = self.merge_fine(on_frames(self.enter, x), past)  # B T/2 H/4 W/4 fine
        x = self.down(self.every_second(x, past), past)  # B T/2 H/8 W/8 coarse
        x = self.every_fourth(self.merge_coarse(x, past), past)  # B T/4 H/8 W/8 coarse
        return on_frames(self.leave, x).permute(0, 4, 1, 2, 3)


class Decoder(nn.Module):
    """Decode z B 16 T h w, this VAE's or Wan's (wan_vae.py), to video B 3 4T 8h 8w."""

    def __init__(self, width: int) -> None:
        super().__init__()
        fine, coarse, last = width, 2 * width, width // 2
        self.enter = picture_layer(LATENT_CHANNELS, coarse)
        self.every_fourth = Blocks(coarse, 4)
        self.split_coarse = Split(coarse, fine, time=2, space=2)
        self.every_second = Blocks(fine, 2)
        self.split_fine = Split(fine, fine, time=2)
        self.every_frame = Blocks(fine, 1)
        self.up = Split(fine, last, space=2)
        self.polish = picture_layer(last, last)
        self.leave = picture_layer(last, 3 * 2**2)

    def step(self, state: State | None, z: Tensor) -> tuple[Tensor, State]:
        past = FrameCache(state)
        return self(z, past), tuple(past.after)

    def forward(self, z: Tensor, past: FrameCache) -> Tensor:
        x = self.every_fourth(on_frames(self.enter, z.permute(0, 2, 3, 4, 1).contiguous()), past)  # B T h w coarse
        x = self.every_second(self.split_coarse(x, past), past)  # B 2T 2h 2w fine
        x = self.every_frame(self.split_fine(x, past), past)  # B 4T 2h 2w fine
        # The largest layers see no other frame: a CPU takes each alone, which is a quarter of the memory, and sooner.
        # One graph of a compiled step has them all, and cannot ask for the mode.
        single = x.is_cpu and not torch.compiler.is_compiling() and torch.is_inference_mode_enabled()
        at_once = 1 if single else x.shape[1]
        return torch.cat([self._pictures(frames, past) for frames in x.split(at_once, dim=1)], dim=2)

    def _pictures(self, x: Tensor, past: FrameCache) -> Tensor:
        x = self.up(x, past)  # B 4T 4h 4w last
        x = on_frames(self.polish, activation(x, inplace=True))
        x = on_frames(self.leave, activation(x, inplace=True))
        return rearrange(x, "b t h w (c p q) -> b c t (h p) (w q)", p=2, q=2)


class Block(nn.Module):
    """x_t + conv(a_t + b_{t−1}) with a, b = conv(x): each frame sees its predecessor, at no further convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = picture_layer(width, 2 * width)
        self.leave = picture_layer(width, width)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(cast(Tensor, self.leave.bias))

    def forward(self, x: Tensor, past: FrameCache) -> Tensor:
        own, next_frames = on_frames(self.mix, activation(x)).chunk(2, dim=-1)
        return on_frames(self.leave, activation(own + past.previous_frames(next_frames), inplace=True)).add_(x)


class Blocks(nn.ModuleList):
    def __init__(self, width: int, count: int) -> None:
        super().__init__(Block(width) for _ in range(count))

    def forward(self, x: Tensor, past: FrameCache) -> Tensor:
        for block in self:
            x = block(x, past)
        return x


class Merge(nn.Module):
    """Linear map from neighbouring frames and places to one; initialised near their mean."""

    def __init__(self, width: int, into: int, time: int = 1, space: int = 1) -> None:
        super().__init__()
        merged = time * space**2 * width
        self.time, self.space = time, space
        self.matrix = nn.Linear(merged, into)
        if not self.matrix.weight.is_meta:
            means = torch.eye(into).repeat_interleave(merged // into, dim=1) / (merged // into)
            self.matrix.weight.data += rearrange(means, "o (c u p q) -> o (u p q c)", u=time, p=space, q=space)

    def forward(self, x: Tensor, past: FrameCache) -> Tensor:
        if past.begins and self.time > 1:
            x = x.repeat_interleave(self.time, dim=1)
        merged = "b (t u) (h p) (w q) c -> b t h w (u p q c)"
        return cast(Tensor, self.matrix(rearrange(x, merged, u=self.time, p=self.space, q=self.space)))


class Split(nn.Module):
    """Converse of `Merge`, initialised near repetition; of the frames made from the clip's first, the last is kept."""

    def __init__(self, width: int, into: int, time: int = 1, space: int = 1) -> None:
        super().__init__()
        split = time * space**2 * into
        self.time, self.space = time, space
        self.matrix = nn.Linear(width, split)
        if not self.matrix.weight.is_meta:
            repeats = torch.eye(width).repeat_interleave(split // width, dim=0)
            self.matrix.weight.data += rearrange(repeats, "(c u p q) i -> (u p q c) i", u=time, p=space, q=space)

    def forward(self, x: Tensor, past: FrameCache) -> Tensor:
        split = "b t h w (u p q c) -> b (t u) (h p) (w q) c"
        # As a convolution, because a CPU's matrix product of half precision first copies the bias to every place.
        x = on_frames(partial(conv2d, weight=self.matrix.weight[..., None, None], bias=self.matrix.bias), x)
        x = rearrange(x, split, u=self.time, p=self.space, q=self.space)
        return x[:, -1:] if past.begins else x


def picture_layer(width: int, into: int) -> nn.Conv2d:
    """A 3×3 convolution with its weights in channels-last memory format."""
    layer = nn.Conv2d(width, into, 3, padding=1)
    layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
    return layer


def on_frames(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a 2-D convolution to every frame of B T h w C."""
    frames = layer(x.flatten(0, 1).permute(0, 3, 1, 2))
    return frames.permute(0, 2, 3, 1).unflatten(0, x.shape[:2])


def activation(x: Tensor, inplace: bool = False) -> Tensor:
    return leaky_relu(x, 0.1, inplace)
