"""What is kept while training, against parameters counted by hand."""

from dataclasses import replace

import pytest
import torch

from gnvc_vd.backbone.weights import random_backbone
from gnvc_vd.learned.bottleneck.contextual import Contextual
from gnvc_vd.learned.bottleneck.kinds import bottleneck_of
from gnvc_vd.learned.refine.refiner import Refiner
from gnvc_vd.presets import BottleneckKind, preset
from lab.training_cost import costs, memory_of
from tests.train.runs import training

PARAMETERS: dict[tuple[str, BottleneckKind], dict[str, int]] = {  # of each part; docs/transform.md has them
    ("wan2.1-1.3b", "contextual"): {
        "anchor_analysis": 3_949_568,
        "anchor_synthesis": 4_024_528,
        "analysis": 4_458_752,
        "synthesis": 4_076_752,
        "extractor": 922_368,
        "anchor_entropy": 1_810_304,
        "entropy": 1_843_072,
        "state": 590_208,
    },
    ("wan2.1-1.3b", "transform"): {
        "rotation": 4_672,
        "smooth": 3_121_729,
        "details": 971_331,
        "higher": 978_247,
        "pyramid": 0,
        "correction": 4_871_104,
    },
    ("tiny", "contextual"): {
        "anchor_analysis": 204_368,
        "anchor_synthesis": 209_824,
        "analysis": 235_472,
        "synthesis": 212_128,
        "extractor": 22_112,
        "anchor_entropy": 114_656,
        "entropy": 116_704,
        "state": 36_960,
    },
    ("tiny", "transform"): {
        "rotation": 4_672,
        "smooth": 1_037_377,
        "details": 429_571,
        "higher": 434_183,
        "pyramid": 0,
        "correction": 182_368,
    },
}
KINDS: tuple[BottleneckKind, ...] = ("contextual", "transform")


@pytest.mark.parametrize(("name", "kind"), PARAMETERS)
def test_each_part_of_both_latent_codecs_has_as_many_parameters_as_is_said(name: str, kind: BottleneckKind) -> None:
    with torch.device("meta"):
        codec = bottleneck_of(preset(name).bottleneck(kind))
    parts = {part: sum(one.numel() for one in its.parameters()) for part, its in codec.named_children()}
    assert parts == PARAMETERS[name, kind]
    assert sum(parts.values()) == sum(one.numel() for one in codec.parameters())  # none outside the parts


def test_the_latent_codec_that_is_asked_for_is_the_one_that_is_counted() -> None:
    sizes, warmup = preset("nano"), training("warmup", 2)
    for kind in KINDS:
        with torch.device("meta"):
            codec = bottleneck_of(sizes.bottleneck(kind))
        found = memory_of(replace(warmup, model=replace(warmup.model, bottleneck=kind)))
        assert found.trained == sum(one.numel() for one in codec.parameters())


def test_a_step_of_either_latent_codec_is_counted() -> None:
    """A layer at a sixteenth of the picture that each has once a latent: its parameters, forward and backward."""
    warmup = training("warmup", 2)
    for kind, layer in (("contextual", "analysis.down"), ("transform", "correction.enter")):
        told = replace(warmup, model=replace(warmup.model, bottleneck=kind))
        (found,) = costs(told)
        with torch.device("meta"):
            codec = bottleneck_of(preset("nano").bottleneck(kind))
        least = codec.get_submodule(layer).weight.numel() * 2 * 2 * 3 * 2  # places, latents, and back once
        assert found.operations > 2 * least and found.working_bytes > 0


def test_what_is_kept_is_twenty_bytes_a_trained_parameter_and_the_frozen_weights() -> None:
    sizes = preset("nano")
    backbone, codec = random_backbone(sizes), Contextual(sizes.contextual)
    refiner = Refiner(backbone.dit, sizes.adaptor, sizes.contextual.features)
    trained = sum(value.numel() for value in [*refiner.adaptor().values(), *codec.parameters()])
    frozen = sum(one.numel() for part in (backbone.vae, backbone.dit) for one in part.parameters())
    found = memory_of(training("latent", 2))
    assert (found.trained, found.frozen_bytes) == (trained, 4 * frozen)
    assert (found.bytes, found.checkpoint_bytes) == (4 * frozen + 20 * trained, 16 * trained)
    # Of a block of width 32: four maps in each attention and two of 64 beside them. Of the adaptor's also the maps
    # at its ends. Around them: patches of 36 and 49 channels, 1 × 2 × 2; time; text of width 8; and the way out.
    block = 32 * (8 * 32 + 2 * 64)
    around = 32 * (4 * 36 + 6 * 32 + 8 + 32 + 64)
    assert found.divided_bytes == 4 * (2 * block + around) + 20 * (block + 2 * 32 * 32 + 32 * 4 * 49)


@pytest.mark.slow
def test_longer_clips_cost_more() -> None:
    short, long = (next(costs(training("latent", 2, frames=frames))) for frames in (5, 9))
    assert 1.3 < long.operations / short.operations < 2 and long.working_bytes > short.working_bytes
