"""Measure rate–distortion points of codecs and write a report; the same command resumes an interrupted run.

python scripts/evaluate.py                             lists the experiments
python scripts/evaluate.py experiment=small
torchrun --standalone --nproc_per_node 2 scripts/evaluate.py experiment=small device=cpu
accelerate launch --config_file configs/accelerate/gpu_8.yaml scripts/evaluate.py experiment=uvg root=UVG
python scripts/evaluate.py -m launcher=slurm experiment=uvg root=UVG 'only=[x265],[vvenc],[gnvc-vd]'
"""

import sys
from datetime import timedelta
from pathlib import Path

import gnvc_vd.common.sleeping_threads  # noqa: F401 - before torch

import hydra
from accelerate import PartialState
from omegaconf import DictConfig

from gnvc_vd.evaluate.evaluation import evaluation_of
from gnvc_vd.evaluate.run import evaluate
from gnvc_vd.report.evaluation_report import write_report
from gnvc_vd.train.experiments import sentences, start

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
PATIENCE = timedelta(days=30)  # for which processes wait for slower ones


@hydra.main(config_path=str(CONFIGS), config_name="evaluate", version_base="1.3")
def main(config: DictConfig) -> None:
    with sentences("evaluate"):
        evaluation = evaluation_of(config)
        state = PartialState(cpu=evaluation.device == "cpu", timeout=PATIENCE)
        device = str(state.device) if evaluation.device == "auto" else evaluation.device
        done = evaluate(evaluation, device, state.process_index, state.num_processes, state.wait_for_everyone)
        for failure in done.failures:
            print(f"evaluate: {failure}", file=sys.stderr)
        if state.is_main_process:
            print(f"{done.made} points made here, {done.kept} were there")
            if done.points is not None:
                print(write_report(evaluation, done.points, Path(evaluation.folder) / "report"))
            else:
                print("no report yet: other points are missing")
    if done.failures:
        sys.exit(1)


if __name__ == "__main__":
    start(main, CONFIGS, "evaluate")
