"""A light causal video VAE with the shape of Wan's latents: 2-D convolutions, each frame mixed with the one before it.

    video ─unshuffle 4─▶ H/4, all frames ─merge─▶ half of them ─▶ H/8 ─merge─▶ a quarter ─▶ mean, log-variance
    z ─▶ H/8, a quarter of the frames ─split─▶ half ─▶ H/4 ─split─▶ all ─▶ H/2 ─shuffle 2─▶ video

Every change of resolution has a shortcut that moves pixels or channels without a weight. The first frame is a latent of
its own: merging, it is its own neighbour; splitting, its second half is kept. What a block needs of the past is what it
made of the last frame, and that is the whole state. Inside, frames come before channels (B T C h w), so that pictures
are convolved in one batch without being moved.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from gnvc_vd.backbone.contract import Decoded, Encoded, State, check_step, decode_steps
from gnvc_vd.conventions import LATENT_CHANNELS, SPATIAL_STRIDE, TEMPORAL_STRIDE
from gnvc_vd.presets import VaePreset

UNSHUFFLE = 4
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


class Widths(NamedTuple):
    """Channels at H/4 and H/8, and at H/2 in the decoder."""

    fine: int
    coarse: int
    shown: int


class LightNetwork(nn.Module):
    """Encoder and decoder, what a weights file holds."""

    def __init__(self, preset: VaePreset) -> None:
        super().__init__()
        widths = Widths(preset.base_dim, 2 * preset.base_dim, preset.base_dim // 2)
        self.encoder = Encoder(widths)
        self.decoder = Decoder(widths)


class Encoder(nn.Module):
    def __init__(self, widths: Widths) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3 * UNSHUFFLE**2, widths.fine, 3, padding=1)
        self.every_frame = Block(widths.fine)
        self.merge_fine = Merge(widths.fine)
        self.every_second = Block(widths.fine)
        self.down = Down(widths.fine, widths.coarse)
        self.coarse = Blocks(widths.coarse, 1)
        self.merge_coarse = Merge(widths.coarse)
        self.every_fourth = Blocks(widths.coarse, 2)
        self.leave = nn.Conv2d(widths.coarse, 2 * LATENT_CHANNELS, 3, padding=1)
        with torch.no_grad():
            cast(Tensor, self.leave.bias)[LATENT_CHANNELS:] = START_LOG_VARIANCE
            self.leave.weight[LATENT_CHANNELS:] *= 0.1

    def forward(self, video: Tensor, past: Past) -> Tensor:
        x = _frames(self.enter, pixel_unshuffle(video.transpose(1, 2), UNSHUFFLE))  # B T fine H/4 W/4
        x = self.merge_fine(self.every_frame(x, past), past)  # B T/2 fine H/4 W/4
        x = self.down(self.every_second(x, past))  # B T/2 coarse H/8 W/8
        x = self.merge_coarse(self.coarse(x, past), past)  # B T/4 coarse H/8 W/8
        return _frames(self.leave, self.every_fourth(x, past)).transpose(1, 2)


class Decoder(nn.Module):
    def __init__(self, widths: Widths) -> None:
        super().__init__()
        self.enter = nn.Conv2d(LATENT_CHANNELS, widths.coarse, 3, padding=1)
        self.every_fourth = Blocks(widths.coarse, 3)
        self.split_coarse = Split(widths.coarse)
        self.up_fine = Up(widths.coarse, widths.fine)
        self.every_second = Blocks(widths.fine, 2)
        self.split_fine = Split(widths.fine)
        self.every_frame = Block(widths.fine)
        self.up_shown = Up(widths.fine, widths.shown)
        self.polish = nn.Sequential(
            nn.LeakyReLU(0.1),
            nn.Conv2d(widths.shown, widths.shown, 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(widths.shown, 3 * 4, 3, padding=1),
            nn.PixelShuffle(2),
        )

    def forward(self, z: Tensor, past: Past) -> Tensor:
        x = self.every_fourth(_frames(self.enter, z.transpose(1, 2)), past)  # B T coarse h w
        x = self.up_fine(self.split_coarse(x, past))  # B 2T fine 2h 2w
        x = self.split_fine(self.every_second(x, past), past)  # B 4T fine 2h 2w
        x = self.up_shown(self.every_frame(x, past))  # B 4T shown 4h 4w
        return _frames(self.polish, x).transpose(1, 2)  # B 3 4T 8h 8w


class Block(nn.Module):
    """x_t + conv(a_t + b_{t−1}) with a, b = conv(x): a frame sees its predecessor, which is convolved once."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.leave = nn.Conv2d(width, width, 3, padding=1)
        self.act = nn.LeakyReLU(0.1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(cast(Tensor, self.leave.bias))

    def forward(self, x: Tensor, past: Past) -> Tensor:
        own, next_frames = _frames(self.mix, self.act(x)).chunk(2, dim=2)
        return x + _frames(self.leave, self.act(own + past.shifted(next_frames)))


class Blocks(nn.ModuleList):
    def __init__(self, width: int, count: int) -> None:
        super().__init__(Block(width) for _ in range(count))

    def forward(self, x: Tensor, past: Past) -> Tensor:
        for block in self:
            x = block(x, past)
        return x


class Merge(nn.Module):
    """Two frames to one: their mean, and what a 1×1 convolution of both adds."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.add = nn.Conv2d(2 * width, width, 1)

    def forward(self, x: Tensor, past: Past) -> Tensor:
        if past.begins:
            x = x.repeat_interleave(2, dim=1)
        pairs = x.unflatten(1, (-1, 2))
        return pairs.mean(2) + _frames(self.add, pairs.flatten(2, 3))


class Split(nn.Module):
    """One frame to two: itself, and what a 1×1 convolution adds for each; the clip's first is one frame still."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.add = nn.Conv2d(width, 2 * width, 1)

    def forward(self, x: Tensor, past: Past) -> Tensor:
        pairs = x[:, :, None] + _frames(self.add, x).unflatten(2, (2, -1))
        return pairs[:, :, 1] if past.begins else pairs.flatten(1, 2)


class Down(nn.Module):
    """Half the height and width; the shortcut averages neighbouring channels of the unshuffled picture."""

    def __init__(self, width: int, wider: int) -> None:
        super().__init__()
        self.add = nn.Conv2d(4 * width, wider, 1)

    def forward(self, x: Tensor) -> Tensor:
        folded = pixel_unshuffle(x, 2)
        return _frames(self.add, folded) + folded.unflatten(2, (self.add.out_channels, -1)).mean(3)


class Up(nn.Module):
    """Twice the height and width; the shortcut shuffles repeated channels."""

    def __init__(self, wider: int, width: int) -> None:
        super().__init__()
        self.add = nn.Conv2d(wider, 4 * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        times = self.add.out_channels // self.add.in_channels
        return pixel_shuffle(_frames(self.add, x) + x.repeat_interleave(times, dim=2), 2)


def build_light_vae(preset: VaePreset) -> LightVae:
    """With random weights."""
    return LightVae(LightNetwork(preset), preset)


def _frames(layer: nn.Module, x: Tensor) -> Tensor:
    """A layer for pictures over every frame of B T C h w."""
    return cast(Tensor, layer(x.flatten(0, 1))).unflatten(0, x.shape[:2])


def _per_channel(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1, 1)
