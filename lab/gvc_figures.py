"""What GVC's parts are worth on a prior: `python lab/gvc_figures.py [MODEL]`.

Without a model: the exactly known Gaussian prior (lab/gaussian_prior.py) on a clip of its own kind.
"""

import argparse
from itertools import islice

import torch

from gnvc_vd.backbone.weights import Options, load_backbone
from gnvc_vd.common.noise import normal
from gnvc_vd.video import open_video
from gnvc_vd.zeroshot.codebook import Codebook
from gnvc_vd.zeroshot.codec import Gvc
from lab.gaussian_prior import GaussianPrior, clip
from lab.zeroshot_figures import drawn_atoms, figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", help="a preset or model folder; needs --video")
    parser.add_argument("--video", help="any video of four GOPs or more")
    parser.add_argument("--gop", type=int, default=17, help="frames, 1 + 4k (default: 17)")
    parser.add_argument("--side", type=int, default=64, help="of the Gaussian prior's pictures (default: 64)")
    parser.add_argument("--still-quality", type=int, default=50, help="of given frames (default: 50)")
    arguments = parser.parse_args()
    count = 4 * arguments.gop
    if arguments.model is None:
        prior, rounded = GaussianPrior(), GaussianPrior(torch.bfloat16)
        frames = clip(prior.vae, count, arguments.side, arguments.side)
        codec, low = Gvc(prior), Gvc(rounded)
    else:
        if arguments.video is None:
            parser.error("a model needs --video")
        codec = Gvc(load_backbone(arguments.model))
        low = Gvc(load_backbone(arguments.model, Options(torch.bfloat16)))
        with open_video(arguments.video) as video:
            frames = list(islice(video, count))
    print("atoms: cos(z, r) at D = 4096, K = 1024, M = 16, mean of 20")
    for kind in ("normal", "sign"):
        print(f"  drawn one by one, {kind:6} {drawn_atoms(4096, 1024, 16, kind, 20):.4f}")
    print(f"  the affine code            {code_cosine(4096, 1024, 16, 20):.4f}")
    for line in figures(codec, low, frames, arguments.still_quality, arguments.gop):
        print(line, flush=True)


def code_cosine(places: int, size: int, count: int, rounds: int) -> float:
    total = 0.0
    for number in range(rounds):
        book, residual = Codebook(size, places, (0, 1), (number, 0, 0)), normal((places,), (0, 2), (number, 0, 0))
        z = book.assemble(book.select(residual, count))
        total += float(z @ residual / (z.norm() * residual.norm()))
    return total / rounds


if __name__ == "__main__":
    main()
