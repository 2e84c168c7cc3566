"""Train the latent codec on moving Gaussian fields; print its rate–distortion curve and what each part is worth.

python lab/train_synthetic.py --preset nano --steps 1500
"""

import argparse

import torch

from gnvc_vd.conventions import QUALITIES
from gnvc_vd.learned.bottleneck.contextual import Bottleneck
from gnvc_vd.presets import preset
from lab.synthetic_training import Point, measure, retrained, train

LEVELS = range(0, QUALITIES, 9)
VARIANTS = {
    "whole": {},
    "no temporal state": {"temporal": False},
    "no spatial context": {"spatial": False},
    "float prior with f": {"float_prior": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="nano", help="whose latent codec (default: nano)")
    parser.add_argument("--steps", type=int, default=1500, help="of the codec (default: 1500)")
    parser.add_argument("--entropy-steps", type=int, default=600, help="of each variant's entropy models (600)")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    model = Bottleneck(preset(arguments.preset).bottleneck)
    train(model, arguments.steps)
    print(f"{'':22} quality      bpp  estimated    error")
    show("trained", measure(model, LEVELS))
    show("trained, anchors only", measure(model, LEVELS, anchors_only=True))
    print("on the same symbols, entropy models trained anew:")
    for name, parts in VARIANTS.items():
        show(name, measure(retrained(model, arguments.entropy_steps, **parts), LEVELS))


def show(name: str, points: list[Point]) -> None:
    for point in points:
        bpp = "       –" if point.bpp is None else f"{point.bpp:8.5f}"
        print(f"{name:22} {point.quality:7} {bpp} {point.estimated_bpp:10.5f} {point.error:8.4f}", flush=True)


if __name__ == "__main__":
    main()
