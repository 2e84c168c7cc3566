"""Decode latents to frames with onnxruntime alone: python examples/decode_onnx.py ONNX_FOLDER latents.npy frames.npy"""

import argparse
from pathlib import Path

import numpy as np
import onnxruntime

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folder", type=Path, help="made by: python scripts/export.py tiny FOLDER --onnx")
parser.add_argument("latents", type=Path, help="float32, 1 16 T h w")
parser.add_argument("frames", type=Path, help="written: uint8, frames × height × width × RGB")
arguments = parser.parse_args()
first, later = (onnxruntime.InferenceSession(arguments.folder / f"vae_decoder{name}.onnx") for name in ("_first", ""))
parts, state = [], []
for latent in np.split(np.load(arguments.latents), np.load(arguments.latents).shape[2], axis=2):
    step = later if parts else first
    part, *state = step.run(None, dict(zip((one.name for one in step.get_inputs()), (latent, *state), strict=True)))
    parts.append(part)  # 1 3 T H W in [−1, 1]: one frame, then four for each latent
frames = np.concatenate(parts, axis=2)[0].transpose(1, 2, 3, 0)
np.save(arguments.frames, np.rint((frames + 1) * 127.5).astype(np.uint8))
print(f"{len(frames)} frames")
