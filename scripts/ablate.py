"""Run an ablation (train, export and evaluate every variant of a codec), or compare finished variants.

python scripts/ablate.py run                               lists the ablations of configs/ablate
python scripts/ablate.py run depth --evaluate root=UVG     the adaptor's depth at Wan's size
python scripts/ablate.py run depth --evaluate root=UVG --sbatch "--gpus=8 --time=72:00:00"
python scripts/ablate.py study outputs/ablate/depth/evaluations --anchor every-2
python scripts/ablate.py study outputs/evaluate/steps --anchor 5

`run` resumes an interrupted ablation. `study` compares any folders of runs: evaluations of `run`, a multirun of
scripts/evaluate.py, or trainings, by their last validation.
"""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import gnvc_vd.common.sleeping_threads  # noqa: F401 - before torch

from tqdm import tqdm

from gnvc_vd.common.interruption import interruptible
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import GnvcError, UsageError
from gnvc_vd.evaluate.variants import AblationPlan, Scripts, execute, read_ablation, unfinished_tasks
from gnvc_vd.report.ablation import study
from gnvc_vd.train.experiments import first_sentence

ROOT = Path(__file__).resolve().parents[1]
ABLATIONS = ROOT / "configs" / "ablate"


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    try:
        with interruptible() as interruption:
            arguments.call(arguments)
    except GnvcError as error:
        print(f"ablate: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        print("ablate: stopped; the same command goes on from here", file=sys.stderr)
        return interruption.code or 130
    return 0


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="train, export and evaluate every variant, then compare them")
    run.add_argument("ablation", nargs="?", help="one of configs/ablate, or a .yaml file (default: list them)")
    run.add_argument("--out", type=Path, metavar="FOLDER", help="folder of all results (outputs/ablate/NAME)")
    run.add_argument("--only", nargs="+", default=[], metavar="VARIANT", help="these variants (default: all)")
    run.add_argument("--seeds", nargs="+", type=int, default=[], metavar="N", help="instead of the ablation's own")
    run.add_argument("--train", nargs="+", default=[], metavar="KEY=VALUE", help="settings of every training")
    run.add_argument("--evaluate", nargs="+", default=[], metavar="KEY=VALUE", help="settings of every evaluation")
    run.add_argument(
        "--launch", default="", metavar="WORDS", help="command that launches every training (the ablation's)"
    )
    run.add_argument("--sbatch", metavar="OPTIONS", help="submit a SLURM job for each variant and seed instead")
    run.add_argument("--dry-run", action="store_true", help="print the remaining commands, and run none")
    run.set_defaults(call=run_ablation)
    compare = commands.add_parser("study", help="write tables and plots of finished variants")
    compare.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="a folder of runs, or runs")
    compare.add_argument("--codec", help="which of an evaluation's codecs varies (needed where it has several)")
    compare.add_argument("--anchor", help="the variant that BD-rates compare with (default: the first)")
    compare.add_argument("--out", type=Path, metavar="FOLDER", help="where to write (FOLDER/ablation of the first)")
    compare.set_defaults(call=compare_runs)
    return whole


def run_ablation(arguments: argparse.Namespace) -> None:
    if arguments.ablation is None:
        print("\n".join(["python scripts/ablate.py run NAME, where NAME is one of", *map(_line, _ablations())]))
        return
    path = _path_of(arguments.ablation)
    ablation = read_ablation(path, arguments.seeds)
    unknown = ", ".join(one for one in arguments.only if one not in ablation.variants)
    require(not unknown, f"there is no variant {unknown}; there are {', '.join(ablation.variants)}")
    train, export, evaluate = (str(ROOT / "scripts" / f"{name}.py") for name in ("train", "export", "evaluate"))
    scripts = Scripts(train, export, evaluate, tuple(shlex.split(arguments.launch)))
    out = arguments.out or Path("outputs/ablate") / path.stem
    plan = AblationPlan(ablation, out, scripts, tuple(arguments.train), tuple(arguments.evaluate))
    if arguments.sbatch is not None:
        submit(plan, arguments)
        return
    left = list(unfinished_tasks(plan, arguments.only))
    if arguments.dry_run:
        print("\n".join(shlex.join(command) for task in left for command in task.commands))
        return
    for task in tqdm(left, unit="task", disable=None):
        tqdm.write(f"ablate: {task.name}", file=sys.stderr)
        task.run(execute)
    if not list(unfinished_tasks(plan)):
        print(study([out / "evaluations"], out / "study", ablation.codec, ablation.anchor).read_text(encoding="utf-8"))


def submit(plan: AblationPlan, arguments: argparse.Namespace) -> None:
    """Submit a job for each variant and seed, which waits for earlier jobs that share a phase with it."""
    jobs = dict[tuple[str, int], str]()
    own = ["--out", str(plan.out.resolve()), "--launch", arguments.launch]
    for option in ("train", "evaluate"):
        words = getattr(arguments, option)
        own += [f"--{option}", *words] if words else []
    for variant, seed in plan.chains:
        if arguments.only and variant not in arguments.only:
            continue
        words = [
            sys.executable,
            __file__,
            "run",
            str(arguments.ablation),
            "--only",
            variant,
            "--seeds",
            str(seed),
            *own,
        ]
        before = ":".join(jobs[at] for at in plan.dependencies(variant, seed) if at in jobs)
        first = [f"--dependency=afterok:{before}"] if before else []
        name = f"--job-name={plan.out.name}-{variant}-{seed}"
        options = ["--parsable", name, *first, *shlex.split(arguments.sbatch), "--wrap", shlex.join(words)]
        try:
            done = subprocess.run(["sbatch", *options], capture_output=True, text=True, check=False)
        except OSError as error:
            raise GnvcError(f"sbatch: {error.strerror}; on a machine without SLURM leave --sbatch out") from error
        require(done.returncode == 0, f"sbatch: {done.stderr.strip() or done.returncode}", GnvcError)
        jobs[variant, seed] = done.stdout.strip().partition(";")[0]
        print(f"{jobs[variant, seed]}  {variant}, seed {seed}")


def compare_runs(arguments: argparse.Namespace) -> None:
    out = arguments.out or arguments.folders[0] / "ablation"
    print(study(arguments.folders, out, arguments.codec, arguments.anchor).read_text(encoding="utf-8"))


def _ablations() -> list[Path]:
    return sorted(ABLATIONS.glob("*.yaml"))


def _line(path: Path) -> str:
    return f"  {path.stem:10}  {first_sentence(path.read_text(encoding='utf-8'))}"


def _path_of(name: str) -> Path:
    given = Path(name)
    path = given if given.suffix == ".yaml" else ABLATIONS / f"{name}.yaml"
    there = ", ".join(one.stem for one in _ablations())
    require(path.is_file(), f"there is no ablation {name}; there are {there}, or give a .yaml file")
    return path


if __name__ == "__main__":
    sys.exit(main())
