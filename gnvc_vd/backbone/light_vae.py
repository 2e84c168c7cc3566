"""A light causal video VAE with the shape of Wan's latents: 2-D convolutions, each frame mixed with the one before it.

    video ─▶ H/4, all frames ─merge─▶ half of them ─merge─▶ H/8 ─merge─▶ a quarter ─▶ mean, log-variance
    z ─▶ H/8, a quarter of the frames ─split─▶ H/4, half ─split─▶ all ─split─▶ H/2 ─shuffle 2─▶ video

What changes the resolution is a matrix that starts as a mean or a repetition, so that a picture passes from the first
step on. The first frame is a latent of its own: merging, it is its own neighbour; splitting, the last of its frames is
kept. What a block needs of the past is what it made of the last frame, and that is the whole state. Inside, channels
are the last dimension (B T h w C), where convolutions, matrices and shuffles all read them without a copy.
"""

from collections.abc import Sequence
from typing import cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from gnvc_vd.backbone.interfaces import Decoded, Encoded, State, check_step, decode_steps
from gnvc_vd.conventions import LATENT_CHANNELS, SPATIAL_STRIDE, TEMPORAL_STRIDE
from gnvc_vd.presets import VaePreset

ENTRY = 4  # pixels a side that enter as one place
START_LOG_VARIANCE = -7.0  # a wide posterior at the start would drown the latents before they carry anything


class Past:
    """The last frames that layers left behind, in the order in which layers are called."""

    def __init__(self, before: State | None) -> None:
        self.begins = before is None
        self._before = iter(before or ())
        self.after: list[Tensor] = []

    def shifted(self, x: Tensor) -> Tensor:
        """What belongs to each frame's predecessor, B T …; the clip's first is its own."""
        first = x[:, :1] if self.begins else next(self._before)
        self.after.append(x[:, -1:])
        return torch.cat([first, x[:, :-1]], dim=1)


class LightVae(nn.Module):
    """The VideoVae contract over a `LightNetwork`; latents are normalised here.

    In and out are float32; the network computes in the precision of its weights, or of autocast.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: "LightNetwork", preset: VaePreset) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", _per_channel(preset.latents_mean), persistent=False)
        self.register_buffer("std", _per_channel(preset.latents_std), persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        return self.model.encoder.enter.weight.dtype

    def encode(self, video: Tensor) -> Tensor:
        """All at once: B 3 1+4k H W → B 16 1+k H/8 W/8."""
        return (self.posterior(video)[0] - self.mean) / self.std

    def decode(self, latents: Tensor) -> Tensor:
        """All at once: B 16 1+k h w → B 3 1+4k 8h 8w, step by step, so that memory is a step's."""
        return torch.cat(list(decode_steps(self, latents.split(1, dim=2))), dim=2)

    def encode_step(self, state: State | None, frames: Tensor) -> Encoded:
        """The next 4 frames (at the start, 1) to the next latent."""
        check_step(frames, channels=3, length=1 if state is None else TEMPORAL_STRIDE, multiple=SPATIAL_STRIDE)
        past = Past(state)
        mean = self.model.encoder(frames.to(self.dtype), past)[:, :LATENT_CHANNELS].float()
        return Encoded((mean - self.mean) / self.std, tuple(past.after))

    def decode_step(self, state: State | None, latent: Tensor) -> Decoded:
        """The next latent to the next 4 frames (at the start, 1)."""
        check_step(latent, channels=LATENT_CHANNELS, length=1, multiple=1)
        past = Past(state)
        frames = self.model.decoder((latent * self.std + self.mean).to(self.dtype), past)
        return Decoded(frames.float().clamp(-1, 1), tuple(past.after))

    def posterior(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latents, not normalised; all later frames in one go."""
        video, past = video.to(self.dtype), Past(None)
        moments = [self.model.encoder(video[:, :, :1], past)]
        if video.shape[2] > 1:
            moments.append(self.model.encoder(video[:, :, 1:], Past(tuple(past.after))))
        mean, log_variance = torch.cat(moments, dim=2).float().chunk(2, dim=1)
        return mean, log_variance

    def reconstruction(self, z: Tensor) -> Tensor:
        """Video from latents that are not normalised, not cut off at ±1; all later latents in one go."""
        z, past = z.to(self.dtype), Past(None)
        parts = [self.model.decoder(z[:, :, :1], past)]
        if z.shape[2] > 1:
            parts.append(self.model.decoder(z[:, :, 1:], Past(tuple(past.after))))
        return torch.cat(parts, dim=2).float()


class LightNetwork(nn.Module):
    """Encoder and decoder, what a weights file holds."""

    def __init__(self, preset: VaePreset) -> None:
        super().__init__()
        fine, coarse, shown = preset.base_dim, 2 * preset.base_dim, preset.base_dim // 2
        self.encoder = Encoder(fine, coarse)
        self.decoder = Decoder(fine, coarse, shown)


class Encoder(nn.Module):
    """B 3 T H W to moments B 2·16 T/4 H/8 W/8."""

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

    def forward(self, video: Tensor, past: Past) -> Tensor:
        x = rearrange(video, "b c t (h p) (w q) -> b t h w (c p q)", p=ENTRY, q=ENTRY)
        x = self.merge_fine(on_frames(self.enter, x), past)  # B T/2 H/4 W/4 fine
        x = self.down(self.every_second(x, past), past)  # B T/2 H/8 W/8 coarse
        x = self.every_fourth(self.merge_coarse(x, past), past)  # B T/4 H/8 W/8 coarse
        return on_frames(self.leave, x).permute(0, 4, 1, 2, 3)


class Decoder(nn.Module):
    """z B 16 T h w to video B 3 4T 8h 8w."""

    def __init__(self, fine: int, coarse: int, shown: int) -> None:
        super().__init__()
        self.enter = picture_layer(LATENT_CHANNELS, coarse)
        self.every_fourth = Blocks(coarse, 4)
        self.split_coarse = Split(coarse, fine, time=2, space=2)
        self.every_second = Blocks(fine, 2)
        self.split_fine = Split(fine, fine, time=2)
        self.every_frame = Blocks(fine, 1)
        self.up = Split(fine, shown, space=2)
        self.polish = picture_layer(shown, shown)
        self.leave = picture_layer(shown, 3 * 2**2)

    def forward(self, z: Tensor, past: Past) -> Tensor:
        x = self.every_fourth(on_frames(self.enter, z.permute(0, 2, 3, 4, 1).contiguous()), past)  # B T h w coarse
        x = self.every_second(self.split_coarse(x, past), past)  # B 2T 2h 2w fine
        x = self.every_frame(self.split_fine(x, past), past)  # B 4T 2h 2w fine
        x = self.up(x, past)  # B 4T 4h 4w shown
        x = on_frames(self.polish, bent(x, inplace=True))
        x = on_frames(self.leave, bent(x, inplace=True))
        return rearrange(x, "b t h w (c p q) -> b c t (h p) (w q)", p=2, q=2)


class Block(nn.Module):
    """x_t + conv(a_t + b_{t−1}) with a, b = conv(x): a frame sees its predecessor, which is convolved once."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = picture_layer(width, 2 * width)
        self.leave = picture_layer(width, width)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(cast(Tensor, self.leave.bias))

    def forward(self, x: Tensor, past: Past) -> Tensor:
        own, next_frames = on_frames(self.mix, bent(x)).chunk(2, dim=-1)
        return x + on_frames(self.leave, bent(own + past.shifted(next_frames), inplace=True))


class Blocks(nn.ModuleList):
    def __init__(self, width: int, count: int) -> None:
        super().__init__(Block(width) for _ in range(count))

    def forward(self, x: Tensor, past: Past) -> Tensor:
        for block in self:
            x = block(x, past)
        return x


class Merge(nn.Module):
    """Frames and neighbouring places to one, by a matrix; it starts near the mean of values that lie together."""

    def __init__(self, width: int, into: int, time: int = 1, space: int = 1) -> None:
        super().__init__()
        merged = time * space**2 * width
        self.time, self.space = time, space
        self.matrix = nn.Linear(merged, into)
        with torch.no_grad():
            means = torch.eye(into).repeat_interleave(merged // into, dim=1) / (merged // into)
            self.matrix.weight += rearrange(means, "o (c u p q) -> o (u p q c)", u=time, p=space, q=space)

    def forward(self, x: Tensor, past: Past) -> Tensor:
        if past.begins and self.time > 1:
            x = x.repeat_interleave(self.time, dim=1)
        merged = "b (t u) (h p) (w q) c -> b t h w (u p q c)"
        return cast(Tensor, self.matrix(rearrange(x, merged, u=self.time, p=self.space, q=self.space)))


class Split(nn.Module):
    """Merge's converse: it starts near repetition. The clip's first frame stays one, the last of those it would be."""

    def __init__(self, width: int, into: int, time: int = 1, space: int = 1) -> None:
        super().__init__()
        split = time * space**2 * into
        self.time, self.space = time, space
        self.matrix = nn.Linear(width, split)
        with torch.no_grad():
            repeats = torch.eye(width).repeat_interleave(split // width, dim=0)
            self.matrix.weight += rearrange(repeats, "(c u p q) i -> (u p q c) i", u=time, p=space, q=space)

    def forward(self, x: Tensor, past: Past) -> Tensor:
        split = "b t h w (u p q c) -> b (t u) (h p) (w q) c"
        x = rearrange(self.matrix(x), split, u=self.time, p=self.space, q=self.space)
        return x[:, -1:] if past.begins else x


def build_light_vae(preset: VaePreset) -> LightVae:
    """With random weights."""
    return LightVae(LightNetwork(preset), preset)


def picture_layer(width: int, into: int) -> nn.Conv2d:
    """With its weights in the order in which its pictures lie."""
    layer = nn.Conv2d(width, into, 3, padding=1)
    layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
    return layer


def on_frames(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """A picture's convolution over every frame of B T h w C."""
    frames: Tensor = layer(x.flatten(0, 1).permute(0, 3, 1, 2))
    return frames.permute(0, 2, 3, 1).unflatten(0, x.shape[:2])


def bent(x: Tensor, inplace: bool = False) -> Tensor:
    return leaky_relu(x, 0.1, inplace)


def _per_channel(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1, 1)
