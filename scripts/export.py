"""Export a training's checkpoint to a model folder, or a model to ONNX, or upload a folder to the Hugging Face hub.

python scripts/export.py RUN FOLDER
python scripts/export.py FOLDER --push OWNER/NAME
python scripts/export.py MODEL FOLDER --onnx

RUN is a folder of scripts/train.py. `gnvc-vd encode --model FOLDER` uses the result, and the next phase of a training
can start from it (model.start=FOLDER). An upload needs a card, FOLDER/README.md, which is written by hand.
docs/training.md describes all steps. With --onnx, MODEL is a preset, a model folder or a hub id, and FOLDER gets

    vae_decoder_first.onnx    latent (1 16 1 h w) → frames (1 3 1 8h 8w), state
    vae_decoder.onnx          latent, state       → frames (1 3 4 8h 8w), next state
    refiner.onnx              decoded latents l̂ (1 16 T h w), features f, noise, sigma_0 (1) → refined latents, one step
"""

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

import gnvc_vd.common.sleeping_threads  # noqa: F401 - before torch

import torch
from torch import Tensor, nn

from gnvc_vd.codecs.load import load
from gnvc_vd.common.files import replacing
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import LATENT_CHANNELS, QUALITIES, GnvcError, UsageError
from gnvc_vd.train.export import export
from gnvc_vd.train.push import push
from gnvc_vd.train.refit import Refit


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", help="a run of scripts/train.py, or a model with --onnx; none with --push")
    parser.add_argument("folder", type=Path, help="the model folder to write; an existing one is replaced")
    parser.add_argument("--checkpoint", type=Path, help="one of RUN/checkpoints (default: the newest)")
    parser.add_argument("--live", action="store_true", help="the last step's weights instead of their average")
    parser.add_argument("--refit", action="store_true", help="move the qualities so that their rates rise evenly")
    parser.add_argument(
        "--half", action="store_true", help="half the size: weights in float16, integers that decide symbols unchanged"
    )
    parser.add_argument("--thrift", type=float, metavar="T", help="RD weight in rounding, 0 to 1 (as in training)")
    parser.add_argument("--backbone", help="backbone for the codec, with the same VAE (default: the run's)")
    parser.add_argument("--refer", action="store_true", help="store only that backbone's name, not its weights")
    parser.add_argument(
        "--refine-up-to",
        type=int,
        default=QUALITIES - 1,
        metavar="Q",
        help="highest quality that is refined by default (63)",
    )
    parser.add_argument("--tile", type=int, metavar="PIXELS", help="refine larger pictures in tiles of this size")
    parser.add_argument("--name", help="name of the model (default: the run's)")
    parser.add_argument("--push", metavar="OWNER/NAME", help="upload FOLDER to the Hugging Face hub")
    parser.add_argument("--onnx", action="store_true", help="write a model's VAE decoder and refiner as ONNX files")
    arguments = parser.parse_intermixed_args()
    if (arguments.run is None) != (arguments.push is not None):
        parser.error("give RUN and FOLDER to export, or FOLDER alone with --push to upload")
    which = "live" if arguments.live else "averaged"
    try:
        if arguments.push is not None:
            print(push(arguments.folder, arguments.push))
            return 0
        if arguments.onnx:
            print(*export_onnx(arguments.run, arguments.folder), sep="\n")
            return 0
        done = export(
            Path(arguments.run), arguments.folder, arguments.checkpoint, which, arguments.name, arguments.refit,
            half=arguments.half, thrift=arguments.thrift, backbone=arguments.backbone,
            refers=arguments.refer, highest_quality=arguments.refine_up_to,
            tile=arguments.tile,
        )  # fmt: skip
    except GnvcError as error:
        print(f"export: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    if done.refit is not None:
        show(done.refit)
    print(f"{arguments.folder}: step {done.step} of {arguments.run}, {which} weights")
    return 0


class DecoderStep(nn.Module):
    """One step of a VAE's decoder with its state as plain inputs and outputs; without state it is the first."""

    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latent: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        frames, after = self.vae.decode_step(state or None, latent)
        return frames, *after


class RefinerStep(nn.Module):
    """Refinement in one step, without a context latent."""

    def __init__(self, refiner: nn.Module) -> None:
        super().__init__()
        self.refiner = refiner

    def forward(self, decoded: Tensor, features: Tensor, noise: Tensor, sigma_0: Tensor) -> Tensor:
        return self.refiner(decoded, features, noise, sigma_0, 1)


@torch.no_grad()
def export_onnx(model: str, folder: Path) -> list[Path]:
    """Write the three files; heights, widths and numbers of latents stay free."""
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    require(not missing, f"{' and '.join(missing)} missing: pip install 'gnvc-vd[onnx]'", GnvcError)
    for path in folder.glob("*"):
        require(path.suffix == ".onnx", f"{path} is no ONNX file, and its folder would be replaced: name another")
    codec = load(model)
    light = codec.backbone.vae_preset.architecture == "light"
    require(light, f"{model}: ONNX files can be written for a light VAE only, and this is Wan's")
    size = (3, 8, 12)  # any; no two alike, so that none is taken for another
    window, noise = torch.zeros(2, 1, LATENT_CHANNELS, *size)
    features = torch.zeros(1, codec.bottleneck.preset.features, *size)
    latent, auto = window[:, :, :1], torch.export.Dim.AUTO
    _, *state = DecoderStep(codec.backbone.vae)(latent)
    states = [f"state_{number}" for number in range(len(state))]
    after = [f"next_{name}" for name in states]
    place, inner, places = {3: auto, 4: auto}, {2: auto, 3: auto}, {2: auto, 3: auto, 4: auto}
    decoder, refiner = DecoderStep(codec.backbone.vae).eval(), RefinerStep(codec.refiner).eval()
    refining = ["decoded", "features", "noise", "sigma_0"]
    graphs = {
        "vae_decoder_first": (decoder, (latent,), ["latent"], ["frames", *after], (place,)),
        "vae_decoder": (
            *(decoder, (latent, *state), ["latent", *states], ["frames", *after]),
            (place, tuple(inner for _ in state)),
        ),
        "refiner": (
            *(refiner, (window, features, noise, torch.zeros(1)), refining, ["refined"]),
            (places, places, places, {}),
        ),
    }
    with replacing(folder) as part:
        part.mkdir()
        for name, (module, inputs, names, outputs, shapes) in graphs.items():
            torch.onnx.export(
                module, inputs, part / f"{name}.onnx", input_names=names, output_names=outputs,
                dynamic_shapes=shapes, dynamo=True, external_data=False, verbose=False,
            )  # fmt: skip
    return [folder / f"{name}.onnx" for name in graphs]


def show(refit: Refit) -> None:
    print("quality   place  expected bpp")
    for quality in range(0, QUALITIES, 9):
        print(f"{quality:7} {refit.places[quality]:7.2f}  {refit.expected[quality]:12.5f}")


raise SystemExit(main())
