"""What a codec's training would cost, computed on tensors without data: no weights, no time, no device.

python -m lab.training_cost experiment=paper_stage1      takes what scripts/train.py takes

Operations (a multiplication and an addition are two) are of one clip, forward and backward, counted by torch. Memory is
what lives at once beside what is kept (weights, gradients, moments, averages), with blocks checkpointed where the
training does so, all of it in float32: bfloat16 takes less, an allocator's slack and a kernel's workspace come on top.
Clips of one pass are counted as so many times one. Hours assume a share of a peak rate.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import hydra
import torch
from omegaconf import DictConfig
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

from gnvc_vd.backbone.dit import WanDit, build_dit
from gnvc_vd.backbone.weights import Backbone, Options, new_vae
from gnvc_vd.conventions import GnvcError
from gnvc_vd.metrics.perceptual import LearnedDistance
from gnvc_vd.metrics.trunks import Trunk
from gnvc_vd.presets import preset
from gnvc_vd.train.compose import training_of
from gnvc_vd.train.experiments import register
from gnvc_vd.train.settings import Span, Stage, Training
from gnvc_vd.train.setup import group_of
from gnvc_vd.train.sharding import is_divided
from gnvc_vd.train.stages.codec_stage import CodecStage
from gnvc_vd.train.stages.stage import Step
from lab.computed import compute

VGG_STAGES = (64, 128, 256, 512, 512)  # channels that LPIPS compares
# Bytes: weight, gradient, two moments and the average, all float32. DDP exchanges gradients where they lie; while
# passes are accumulated, it has a second copy of them.
KEPT_PER_TRAINED = 4 * 5
SAVED_PER_TRAINED = 4 * 4  # bytes in a checkpoint: weight, average and two moments
CONFIGS = Path(__file__).resolve().parents[1] / "configs"
PEAK, SHARE = 312e12, 0.3  # operations a second of an A800 in bfloat16, and what of it is assumed to be reached
TRANSFORMER = "refiner.dit.model."


@dataclass(frozen=True)
class Memory:
    """What is there all the time."""

    trained: int  # parameters
    frozen_bytes: int
    divided_bytes: int  # of all that is kept: what run.shard divides over processes

    @property
    def bytes(self) -> int:
        return self.frozen_bytes + KEPT_PER_TRAINED * self.trained

    @property
    def checkpoint_bytes(self) -> int:
        return SAVED_PER_TRAINED * self.trained


@dataclass(frozen=True)
class SpanCost:
    """Of one clip of a span."""

    span: Span
    operations: int
    working_bytes: int


def memory_of(training: Training) -> Memory:
    with FakeTensorMode(allow_non_fake_inputs=True):
        stage = _stage(training, training.stage)
        parameters = dict(stage.named_parameters())
    per_frozen = 2 if training.model.bfloat16 else 4
    trained = sum(one.numel() for one in parameters.values() if one.requires_grad)
    frozen = sum(one.numel() for one in parameters.values() if not one.requires_grad)
    divided = sum(
        one.numel() * (KEPT_PER_TRAINED if one.requires_grad else per_frozen)
        for name, one in parameters.items()
        if name.startswith(TRANSFORMER) and is_divided(name.removeprefix(TRANSFORMER), one)
    )
    return Memory(trained, per_frozen * frozen, divided)


def costs(training: Training) -> Iterator[SpanCost]:
    """Each span of a codec's training, as its stage says (windows at the GOP's start)."""
    for span in training.stage.spans:
        with FakeTensorMode(allow_non_fake_inputs=True):
            stage = _stage(training, replace(training.stage, continuation=0.0))
            clip = torch.zeros(1, 3, span.frames, span.size, span.size, dtype=torch.uint8)

            def step(stage: CodecStage = stage, clip: torch.Tensor = clip) -> None:
                stage(clip, Step(0, 0, 1, [0])).total.backward()

            computed = compute(step, gradients=True)
        yield SpanCost(span, computed.operations, computed.peak_bytes)


def _stage(training: Training, stage: Stage) -> CodecStage:
    sizes = preset(training.model.name)
    vae = new_vae(sizes.vae, Options(kernels="stock"))
    dit = WanDit(build_dit(sizes.dit), sizes.dit, torch.zeros(1, sizes.dit.text_dim))
    unread = replace(training.model, start=None, vace=None)  # no weights
    backbone = Backbone("", sizes.vae, sizes.dit, vae, lambda: dit, {})
    backbone.dit = dit  # not moved to a device, as fake tensors cannot be
    made = CodecStage(replace(training, model=unread, stage=stage.without_perceptual()), backbone)
    made.stage = stage
    if stage.weights.perceive:
        with unset_fake_temporarily():  # it skips initialisation in a way that fake tensors do not know
            heads = [torch.ones(1, channels, 1, 1) for channels in VGG_STAGES]
            made.pictures.perceptual = LearnedDistance(Trunk("vgg"), heads).requires_grad_(False)
    for name, parameter in made.named_parameters():
        parameter.requires_grad_(group_of(name) in stage.groups)
    return made.train()


@hydra.main(config_path=str(CONFIGS), config_name="train", version_base="1.3")
def main(config: DictConfig) -> None:
    try:
        training = training_of(config)
        show = memory_of(training)
        print(
            f"trained parameters {show.trained / 1e6:.0f} M, kept on the device {show.bytes / 2**30:.1f} GiB "
            f"({show.divided_bytes / 2**30:.1f} GiB of them divided over processes by run.shard=true), "
            f"a checkpoint {show.checkpoint_bytes / 1e9:.1f} GB"
        )
        hours = 0.0
        for cost in costs(training):
            span = cost.span
            work = cost.operations * span.steps * span.batch
            hours += work / (PEAK * SHARE) / 3600
            print(
                f"{span.steps} steps of {span.batch} × {span.frames} frames {span.size}²: "
                f"{cost.operations / 1e12:.1f} T operations and {cost.working_bytes / 2**30:.1f} GiB a clip; "
                f"with what is kept, {(show.bytes + span.batch * cost.working_bytes) / 2**30:.1f} GiB in one pass, "
                f"{(show.bytes + cost.working_bytes) / 2**30:.1f} GiB a clip on each device"
            )
        print(f"{hours:.0f} hours of a device that reaches {SHARE:.0%} of {PEAK / 1e12:.0f} T operations a second")
    except GnvcError as error:
        print(f"training_cost: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    register(CONFIGS)
    main()
