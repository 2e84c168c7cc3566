"""A streaming video VAE with explicit state, for any network.

    frames 0 | 1–4 | 5–8 …  ──encode_step──▶  latent 0 | 1 | 2 …   one latent a step, normalised
    latent 0 | 1 | 2 …      ──decode_step──▶  frames 0 | 1–4 | 5–8 …

Latents are normalised with the VAE's mean and standard deviation; video is RGB in [−1, 1]; both are B C T H W.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gnvc_vd.conventions import LATENT_CHANNELS, SPATIAL_STRIDE, TEMPORAL_STRIDE, Frame
from gnvc_vd.video.pixels import to_frames, to_video

State = tuple[Any, ...]  # the VAE's cache between steps; opaque to callers
ENCODER_PARTS = ("encoder", "quant_conv")  # submodules of the encoder's half; all others are of the decoder's
Step = Callable[[State | None, Tensor], tuple[Tensor, State]]


class VideoVae(nn.Module):
    """A causal video VAE with latents shaped like Wan's; state is passed in and returned, never kept on the module.

    Subclasses implement `moments` and `decode_unnormalised`. Inputs and outputs are float32; encoder and decoder
    compute in the precision of their weights, or of autocast.

    Args:
        model: the module whose weights a weights file stores; it has an `encoder` and a `decoder`.
        mean, std: mean and standard deviation of its latents, per channel.
    """

    encoder_step: int | None = TEMPORAL_STRIDE  # frames of a step after the first, in training; None: all that follow
    decoder_step: int | None = 1  # latents, likewise
    compiled = False  # the decoder, by compiling.py
    model: nn.Module
    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.model = model
        for name, values in (("mean", mean), ("std", std)):
            # On the CPU even if the model is built on the meta device, which stores no values.
            per_channel = torch.tensor(values, dtype=torch.float32, device="cpu").view(1, -1, 1, 1, 1)
            self.register_buffer(name, per_channel, persistent=False)

    def moments(self, state: State | None, frames: Tensor) -> tuple[Tensor, State]:
        """Encode the next frames to mean and log-variance of their latents, B 2·16 T h w, not normalised."""
        raise NotImplementedError

    def decode_unnormalised(self, state: State | None, z: Tensor) -> tuple[Tensor, State]:
        """Decode the next latents, not normalised, to frames."""
        raise NotImplementedError

    def set_precision(self, encoder: torch.dtype, decoder: torch.dtype) -> None:
        """Cast the encoder and the decoder, each with its other submodules (such as `quant_conv`), to these types."""
        for name, part in self.model.named_children():
            part.to(encoder if name in ENCODER_PARTS else decoder)

    @property
    def encoder_type(self) -> torch.dtype:
        return _type_of(self.model.get_submodule("encoder"))

    @property
    def decoder_type(self) -> torch.dtype:
        return _type_of(self.model.get_submodule("decoder"))

    def encode(self, video: Tensor) -> Tensor:
        """Encode a whole clip, in steps: B 3 1+4k H W → B 16 1+k H/8 W/8."""
        return torch.cat(list(stream_steps(self.encode_step, chunk_clip(video))), dim=2)

    def decode(self, latents: Tensor) -> Tensor:
        """Decode a whole clip, in the memory of one step: B 16 1+k h w → B 3 1+4k 8h 8w."""
        return torch.cat(list(stream_steps(self.decode_step, latents.split(1, dim=2))), dim=2)

    def encode_step(self, state: State | None, frames: Tensor) -> tuple[Tensor, State]:
        """Encode the next 4 frames (at the start, 1), B 3 T H W, to the next latent, B 16 1 h w."""
        _check_step(frames, channels=3, length=1 if state is None else TEMPORAL_STRIDE, multiple=SPATIAL_STRIDE)
        moments, after = self.moments(state, frames.to(self.encoder_type))
        return (moments[:, :LATENT_CHANNELS].float() - self.mean) / self.std, after  # the posterior's mode

    def decode_step(self, state: State | None, latent: Tensor) -> tuple[Tensor, State]:
        """Decode the next latent to the next 4 frames (at the start, 1)."""
        _check_step(latent, channels=LATENT_CHANNELS, length=1, multiple=1)
        frames, after = self.decode_unnormalised(state, (latent * self.std + self.mean).to(self.decoder_type))
        return frames.clamp(-1, 1).float(), after

    def posterior(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latents, not normalised, for training the VAE itself."""
        mean, log_variance = self._run(self.moments, video.to(self.encoder_type), self.encoder_step).chunk(2, dim=1)
        return mean, log_variance

    def reconstruction(self, z: Tensor) -> Tensor:
        """Decode latents that are not normalised, without clamping video to ±1, which would stop gradients."""
        return self._run(self.decode_unnormalised, z.to(self.decoder_type), self.decoder_step)

    def _run(self, step: Step, clip: Tensor, length: int | None) -> Tensor:
        chunks = chunk_clip(clip, length or clip.shape[2])
        return torch.cat([part.float() for part in stream_steps(step, chunks)], dim=2)


def _type_of(network: nn.Module) -> torch.dtype:
    return next(network.parameters()).dtype


def stream_steps(step: Step, parts: Iterable[Tensor]) -> Iterator[Tensor]:
    """Apply a step to each part as it arrives, passing the state on."""
    state: State | None = None
    for part in parts:
        made, state = step(state, part)
        yield made


def chunk_clip(clip: Tensor, length: int = TEMPORAL_STRIDE) -> list[Tensor]:
    """Split a clip for stepwise processing: the first frame (or latent), then `length` at a time."""
    rest = clip[:, :, 1:]
    return [clip[:, :, :1], *(rest.split(length, dim=2) if rest.shape[2] else ())]


def latents_of_frames(vae: VideoVae, padded: Frame, device: torch.device) -> Tensor:
    """Encode 1 + 4k frames with sides padded to multiples of 16, T H W 3 uint8, to latents 1 16 1+k h w."""
    cut = [padded[:1], *(padded[at : at + TEMPORAL_STRIDE] for at in range(1, len(padded), TEMPORAL_STRIDE))]
    with torch.inference_mode():
        return torch.cat(list(stream_steps(vae.encode_step, (to_video(part, device) for part in cut))), dim=2)


def frames_of_latents(vae: VideoVae, latents: Tensor) -> Iterator[Frame]:
    """Decode latents to padded frames, T H W 3 uint8, in parts of 1, 4, 4, …"""
    with torch.inference_mode():
        for part in stream_steps(vae.decode_step, latents.split(1, dim=2)):
            yield to_frames(part[0])


def _check_step(x: Tensor, channels: int, length: int, multiple: int) -> None:
    """Raise ValueError if a step's input has the wrong shape."""
    good = x.ndim == 5 and x.shape[1:3] == (channels, length) and not any(side % multiple for side in x.shape[3:])
    if not good:
        raise ValueError(
            f"expected B {channels} {length} H W with sides in multiples of {multiple}, not {tuple(x.shape)}"
        )
