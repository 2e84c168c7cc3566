"""Train a part of gnvc-vd; the same command resumes an interrupted training in its folder.

python scripts/train.py                             lists the experiments
python scripts/train.py experiment=debug_overfit
torchrun --standalone --nproc_per_node 2 scripts/train.py experiment=debug_overfit
accelerate launch --config_file configs/accelerate/gpu_8.yaml scripts/train.py experiment=paper_stage1
"""

from pathlib import Path

import gnvc_vd.common.sleeping_threads  # noqa: F401 - before torch

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from gnvc_vd.conventions import UsageError
from gnvc_vd.train.compose import sources_of, training_of
from gnvc_vd.train.experiments import check_start, sentences, start
from gnvc_vd.train.loop import train
from gnvc_vd.train.slurm import join_step

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


@hydra.main(config_path=str(CONFIGS), config_name="train", version_base="1.3")
def main(config: DictConfig) -> None:
    with sentences("train"):
        join_step()
        sources = sources_of(config.data.train)
        if sources is None:
            raise UsageError("data.train is missing")
        training = training_of(config)
        check_start(training.model.start, CONFIGS)
        folder = Path(HydraConfig.get().runtime.output_dir)
        print(train(training, sources, sources_of(config.data.validation), folder))


if __name__ == "__main__":
    start(main, CONFIGS, "train")
