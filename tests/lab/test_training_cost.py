"""What is kept while training, against parameters counted by hand."""

import pytest

from gnvc_vd.backbone.weights import random_backbone
from gnvc_vd.learned.bottleneck.contextual import Contextual
from gnvc_vd.learned.refine.refiner import Refiner
from gnvc_vd.presets import preset
from lab.training_cost import costs, kept
from tests.train.runs import training


def test_what_is_kept_is_twenty_bytes_a_trained_parameter_and_the_frozen_weights() -> None:
    sizes = preset("nano")
    backbone, codec = random_backbone(sizes), Contextual(sizes.contextual)
    refiner = Refiner(backbone.dit, sizes.adaptor, sizes.contextual.features)
    trained = sum(value.numel() for value in [*refiner.adaptor().values(), *codec.parameters()])
    frozen = sum(one.numel() for part in (backbone.vae, backbone.dit) for one in part.parameters())
    found = kept(training("latent", 2))
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
