"""The log of a run: figures and pictures in its folder, and in trackers such as wandb.

RUN/run.json         the whole configuration, git revision, package versions, device
RUN/figures.jsonl    a line for each logged step
RUN/pictures/        pictures of validations
"""

import dataclasses
import importlib.metadata
import json
import platform
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from gnvc_vd.common.files import replacing
from gnvc_vd.common.provenance import commit, has_changes, processor
from gnvc_vd.conventions import Frame, UsageError
from gnvc_vd.train.settings import Training
from gnvc_vd.video.pictures import write_picture

PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "compressai", "numpy")
RUN, FIGURES, PICTURES = "run.json", "figures.jsonl", "pictures"

RATE = re.compile(r"validation_bpp_(\d+)")


class Log:
    """Writes the log, on the main process only."""

    def __init__(self, folder: Path, training: Training, accelerator: Accelerator, done: int) -> None:
        self.folder, self._accelerator = folder, accelerator
        if accelerator.is_main_process:
            (folder / PICTURES).mkdir(parents=True, exist_ok=True)
            # Later steps are done again.
            kept = [line for line in read_figures(folder / FIGURES) if line["step"] <= done]
            with replacing(folder / FIGURES) as part:
                part.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
            about = {"training": dataclasses.asdict(training), "environment": environment(accelerator)}
            (folder / RUN).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        absent = set(training.run.trackers) - {str(tracker) for tracker in accelerator.log_with}
        if absent:  # Accelerate would ignore it
            raise UsageError(f"the tracker {', '.join(sorted(absent))} is not installed")
        if training.run.trackers:
            flat = {name: str(value) for name, value in dataclasses.asdict(training).items()}
            accelerator.init_trackers("gnvc-vd", config=flat)

    def figures(self, step: int, values: dict[str, float]) -> None:
        if self._accelerator.is_main_process:
            with (self.folder / FIGURES).open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"step": step, **values}) + "\n")
        self._accelerator.log(values, step=step)

    def pictures(self, step: int, pictures: dict[str, Frame]) -> None:
        if not self._accelerator.is_main_process:
            return
        for name, picture in pictures.items():
            write_picture(self.folder / PICTURES / f"{step:08}-{name}.png", picture)
        for tracker in self._accelerator.trackers:
            layout = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            tracker.log_images({name: picture[None] for name, picture in pictures.items()}, step=step, **layout)


def read_figures(path: Path) -> list[dict[str, float]]:
    """Read the lines of figures.jsonl, except an incomplete last one."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def judged_curves(lines: Iterable[dict[str, float]]) -> dict[int, list[tuple[float, float]]]:
    """Rate–distortion curves of a codec's validations by step: (bits per pixel, PSNR) by rising quality."""
    curves = {}
    for line in lines:
        qualities = sorted(int(match[1]) for name in line if (match := RATE.fullmatch(name)))
        if qualities:
            points = [(line[f"validation_bpp_{one}"], line[f"validation_psnr_{one}"]) for one in qualities]
            curves[int(line["step"])] = points
    return curves


def environment(accelerator: Accelerator) -> dict[str, Any]:
    """Versions and devices on which a result may depend."""
    device = accelerator.device
    return {
        "git": commit(),
        "changed": has_changes(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "processes": accelerator.num_processes,
        "precision": accelerator.mixed_precision,
    }
