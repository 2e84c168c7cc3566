"""What a codec's training would cost, computed without weights: python lab/training_cost.py experiment=paper_stage1

Takes what scripts/train.py takes. Hours assume a share of a peak rate; nothing is run on a device.
"""

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from gnvc_vd.conventions import GnvcError
from gnvc_vd.train.compose import training_of
from gnvc_vd.train.experiments import register
from lab.cost_of_training import costs, kept

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
PEAK, SHARE = 312e12, 0.3  # operations a second of an A800 in bfloat16, and what of it is assumed to be reached


@hydra.main(config_path=str(CONFIGS), config_name="train", version_base="1.3")
def main(config: DictConfig) -> None:
    try:
        training = training_of(config)
        show = kept(training)
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
                f"{cost.operations / 1e12:.1f} T operations and {cost.working_bytes / 2**30:.1f} GiB a clip"
            )
        print(f"{hours:.0f} hours of a device that reaches {SHARE:.0%} of {PEAK / 1e12:.0f} T operations a second")
    except GnvcError as error:
        print(f"training_cost: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    register(CONFIGS)
    main()
