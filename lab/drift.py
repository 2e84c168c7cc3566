"""How far the recursion over latents drifts in float32, in which it runs, and in bfloat16: python -m lab.drift [MODEL]

On the same symbols, beside float64 and relative to the codec's own error, at some of a hundred made-up latents.
"""

import argparse

import torch

from gnvc_vd.codecs.load import load
from gnvc_vd.learned.bottleneck.policies import qualities

LATENTS = (7, 25, 100)
SIDE, QUALITY = 32, 32  # of a latent
PRECISIONS = ("float32", "bfloat16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="nano", help="a preset or model folder (nano)")
    for latent, drift in drifts(parser.parse_args().model).items():
        text = ", ".join(f"{precision} {part:.1e}" for precision, part in drift.items())
        print(f"latent {latent}: {text} of the codec's own error")


@torch.inference_mode()
def drifts(model: str) -> dict[int, dict[str, float]]:
    """By the latent's number and the precision."""
    count = LATENTS[-1]
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 16, count, SIDE, SIDE, generator=generator)
    levels = qualities(QUALITY, count)
    (payload,), _ = load(model).bottleneck.compress(latents, levels)

    def decoded(precision: torch.dtype) -> torch.Tensor:
        bottleneck = load(model).bottleneck.to(precision)
        coded = bottleneck.decompress([payload.data], [payload.symbol_hash], (SIDE, SIDE), levels)
        return torch.stack([one.latent.double() for one in coded], dim=2)

    exact = decoded(torch.float64)
    errors = {name: decoded(getattr(torch, name)) - exact for name in PRECISIONS}
    return {
        latent: {
            name: float(error[:, :, latent - 1].std() / (latents - exact)[:, :, latent - 1].std())
            for name, error in errors.items()
        }
        for latent in LATENTS
    }


if __name__ == "__main__":
    main()
