"""Train the latent codec on moving Gaussian fields and print its rate–distortion curve, with and without its contexts.

python scripts/train_synthetic.py --preset nano --steps 2000
"""

import argparse

import torch

from gnvc_vd.bottleneck.bottleneck import Bottleneck
from gnvc_vd.conventions import QUALITIES
from gnvc_vd.presets import preset
from gnvc_vd.train.synthetic import measure, train

VARIANTS = {
    "whole": {},
    "no temporal state": {"temporal": False},
    "no spatial context": {"spatial": False},
    "float prior with f": {"float_prior": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="nano", help="whose latent codec (default: nano)")
    parser.add_argument("--steps", type=int, default=2000, help="(default: 2000)")
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")
    parser.add_argument("--variant", choices=VARIANTS, action="append", help="which (default: all)")
    arguments = parser.parse_args()
    print(f"{'':20} quality      bpp  estimated    error")
    for name in arguments.variant or VARIANTS:
        torch.manual_seed(arguments.seed)
        model = Bottleneck(preset(arguments.preset).bottleneck, **VARIANTS[name])
        train(model, arguments.steps, seed=arguments.seed)
        for point in measure(model, range(0, QUALITIES, 9)):
            bpp = f"{point.bpp:8.5f}" if point.bpp is not None else "       –"
            print(f"{name:20} {point.quality:7} {bpp} {point.estimated_bpp:10.5f} {point.error:8.4f}")


if __name__ == "__main__":
    main()
