"""The best that can be said of noisy latents with second moments alone: what a prior has to beat."""

from torch import Tensor

from gnvc_vd.metrics.block_transform import BLOCK, Transform


class LinearDenoiser:
    """Wiener's denoiser of Gaussian latents, independent in the transform's domain, with the moments of some clips.

        x_σ = (1 − σ) x + σ ε
        x̂ = m + (1 − σ) S / ((1 − σ)² S + σ²) · (x_σ − (1 − σ) m),   v̂ = (x_σ − x̂) / σ
        E ‖v̂ − v‖² = S / ((1 − σ)² S + σ²) for each coefficient

    m is the mean of a channel at a latent's place in the clip, S the variance of a coefficient.

    Args:
        latents: of clips for training, N 16 T h w of whole blocks of 8×8 places.
    """

    def __init__(self, latents: Tensor) -> None:
        _check(latents)
        latents = latents.double().cpu()
        self._mean = latents.mean((0, 3, 4), keepdim=True)
        self._transform = Transform(latents - self._mean)
        self._variance = self._transform.forward(latents - self._mean).square().mean(0)

    def clean(self, x: Tensor, sigma: float) -> Tensor:
        """What is behind latents of the same length at σ, B 16 T h w."""
        _check(x)
        signal = 1 - sigma
        gain = signal * self._variance / (signal**2 * self._variance + sigma**2)
        coefficients = self._transform.forward(x.double().cpu() - signal * self._mean)
        return (self._mean + self._transform.inverse(gain * coefficients, *x.shape[3:])).to(x)

    def velocity(self, x: Tensor, sigma: float) -> Tensor:
        """The velocity that leads from there to it."""
        return (x - self.clean(x, sigma)) / sigma


def _check(latents: Tensor) -> None:
    """Padding would make noise that is not white."""
    if any(side % BLOCK for side in latents.shape[3:]):
        raise ValueError(f"latents of {tuple(latents.shape[3:])} places are not whole blocks of {BLOCK}×{BLOCK}")
