"""What a window of 25 frames takes at every preset's own size, computed on tensors without data.

python -m lab.backbone_cost [PRESET…]

For machines that cannot run it: operations and memory of decoding and of one velocity, with the fused attention that
torch takes on every device.
"""

import argparse
from functools import partial

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from gnvc_vd.backbone.dit import WanDit, build_dit
from gnvc_vd.backbone.weights import Options, new_vae
from gnvc_vd.bench.backbone_speed import stream
from gnvc_vd.bitstream.gop import latent_size, latents_of
from gnvc_vd.presets import PRESETS, Preset
from lab.computed import compute

WINDOW = 25
PICTURES = ((832, 480), (1280, 720), (1920, 1080))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", metavar="PRESET", help="(all)")
    names = parser.parse_args().presets or list(PRESETS)
    unknown = [name for name in names if name not in PRESETS]
    if unknown:
        parser.error(f"there is no preset {unknown[0]}; there are {', '.join(PRESETS)}")
    for name in names:
        for width, height in PICTURES:
            print(f"{name}, {width}×{height}: {cost_text(PRESETS[name], width, height)}", flush=True)


def cost_text(preset: Preset, width: int, height: int) -> str:
    """Operations and memory for one window."""
    with FakeTensorMode():
        columns, rows = latent_size(width, height)
        latents = torch.empty(1, 16, latents_of(WINDOW), rows, columns)
        vae = new_vae(preset.vae, Options(kernels="stock"))
        dit = WanDit(build_dit(preset.dit), preset.dit, torch.empty(0, preset.dit.text_dim))
        decode = compute(partial(stream, vae, latents))
        velocity = compute(partial(dit.velocity, latents, 0.3))
    vae_parameters, dit_parameters = (sum(one.numel() for one in made.parameters()) for made in (vae, dit))
    return (
        f"VAE decode {decode.operations / 1e12:.2f} T operations, "
        f"{vae_parameters * 4 / 2**30:.2f} + {decode.peak_bytes / 2**30:.1f} GiB (float32); "
        f"one velocity {velocity.operations / 1e12:.2f} T, {dit_parameters * 2 / 2**30:.2f} + "
        f"{velocity.peak_bytes / 2**31:.1f} GiB (bfloat16)"
    )


if __name__ == "__main__":
    main()
