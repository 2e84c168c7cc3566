"""What a window of 25 frames takes at every preset's own size, computed on tensors without data.

python -m lab.backbone_cost [PRESET…] [--light-decoder WIDTH] [--measure]

For machines that cannot run it: operations and memory of decoding and of one velocity, with the fused attention that
torch takes on every device. With a light decoder in place of Wan's own (experiment=wan_light), what that takes; and
measured, how many times as fast it is here as Wan's at the same size, 5 frames of 128×128 with random weights.
"""

import argparse
from dataclasses import replace
from functools import partial

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from gnvc_vd.backbone.dit import WanDit, build_dit
from gnvc_vd.backbone.weights import Options, new_vae
from gnvc_vd.bench.backbone_speed import stream
from gnvc_vd.bench.harness import best_of
from gnvc_vd.bitstream.gop import latent_size, latents_of
from gnvc_vd.presets import PRESETS, Preset
from lab.computed import compute

WINDOW, SIDE = 25, 128
PICTURES = ((832, 480), (1280, 720), (1920, 1080))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", metavar="PRESET", help="(all)")
    parser.add_argument("--light-decoder", type=int, metavar="WIDTH", help="as wan_light's, 128, in place of Wan's own")
    parser.add_argument("--measure", action="store_true", help="the two decoders' time on this machine, float32")
    arguments = parser.parse_args()
    names, light = arguments.presets or list(PRESETS), arguments.light_decoder
    unknown = [name for name in names if name not in PRESETS]
    if unknown:
        parser.error(f"there is no preset {unknown[0]}; there are {', '.join(PRESETS)}")
    if arguments.measure and light is None:
        parser.error("--measure compares Wan's decoder with a light one: give --light-decoder too")
    if light is not None and any(PRESETS[name].vae.architecture != "wan" for name in names):
        parser.error("a light decoder takes the place of Wan's own: name presets that have that, as wan2.1-1.3b")
    for name in names:
        sizes = replace(PRESETS[name], vae=replace(PRESETS[name].vae, light_decoder=light))
        if arguments.measure:
            print(f"{name}: {ratio_text(sizes)}", flush=True)
            continue
        for width, height in PICTURES:
            print(f"{name}, {width}×{height}: {cost_text(sizes, width, height)}", flush=True)


@torch.inference_mode()
def ratio_text(preset: Preset) -> str:
    """Seconds of a decode, the best of two in turn, by Wan's decoder and by the light one."""
    latents = torch.randn(1, 16, 2, SIDE // 8, SIDE // 8, generator=torch.Generator().manual_seed(0))
    vaes = (new_vae(one, Options()).eval() for one in (replace(preset.vae, light_decoder=None), preset.vae))
    wans, light = best_of(2, *(partial(vae.decode, latents) for vae in vaes))
    return f"5 frames {SIDE}×{SIDE} in {wans:.2f} s by Wan's decoder, {light:.3f} s by this one: {wans / light:.0f} ×"


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
