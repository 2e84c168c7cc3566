"""Ablations: variants of a codec, each trained in phases, exported and evaluated for every seed.

    variant, seed:  start ──train──▶ run ──export──▶ model ──train──▶ … ──export──▶ model ──evaluate──▶ points

    OUT/runs/VARIANT/seed-S/PHASE    OUT/models/VARIANT/seed-S/PHASE    OUT/evaluations/VARIANT/seed-S

Every arrow is a command line, recorded beside its run (`PHASE.json`) with all arrows before it, so that an interrupted
ablation resumes where it stopped, and changed settings, of an earlier phase too, raise an error instead of mixing old
results with new. A phase that variants share, with the same initial model and the same settings, is trained once, in
the first such variant's folder.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path

from omegaconf import OmegaConf

from gnvc_vd.common.files import write_text
from gnvc_vd.common.strict import parse, require
from gnvc_vd.conventions import GnvcError
from gnvc_vd.evaluate.evaluation import NAME

EXPERIMENT = "experiment="
Command = tuple[str, ...]


@dataclass(frozen=True)
class Phase:
    """A training and its export.

    Args:
        settings: further arguments of `scripts/train.py experiment=…`.
        export: further arguments of `scripts/export.py RUN FOLDER`.
        launch: the launcher's command, before the script; null: Python, in one process.
        common: whether the variants' `settings` do not apply to it.
    """

    experiment: str
    settings: tuple[str, ...] = ()
    export: tuple[str, ...] = ()
    launch: tuple[str, ...] | None = None
    common: bool = False


@dataclass(frozen=True)
class Variant:
    """A variant's own arguments, added to those of all variants.

    Args:
        settings: for every phase that is not common.
        phases: for single phases, by name; an `experiment=…` replaces the phase's own, and null leaves the phase out.
        evaluation: for its evaluation.
    """

    settings: tuple[str, ...] = ()
    phases: dict[str, tuple[str, ...] | None] = field(default_factory=dict)
    evaluation: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ablation:
    """An ablation, read from a file of configs/ablate.

    Args:
        phases: by name, in order.
        evaluation: arguments of `scripts/evaluate.py`, except folder and model.
        codec: the evaluation's codec whose model varies.
        anchor: the variant that others are compared with.
        start: initial model of the first phase; null: as its experiment says.
    """

    phases: dict[str, Phase]
    variants: dict[str, Variant]
    evaluation: tuple[str, ...]
    anchor: str
    codec: str = "gnvc-vd"
    start: str | None = None
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        require(self.phases and self.variants and self.seeds, "an ablation has phases, variants and seeds")
        require(len(set(self.seeds)) == len(self.seeds), f"each seed once: not {self.seeds}")
        require(self.anchor in self.variants, f"anchor: there is no variant {self.anchor!r}")
        for name in (*self.phases, *self.variants):
            require(NAME.fullmatch(name), f"{name!r} cannot name a folder")
        for name, variant in self.variants.items():
            unknown = ", ".join(variant.phases.keys() - self.phases.keys())
            require(not unknown, f"variants.{name}: there is no phase {unknown}; there are {', '.join(self.phases)}")
            left = [one for one in self.phases if variant.phases.get(one, ()) is not None]
            require(left, f"variants.{name}: all phases are left out")


def read_ablation(path: Path, seeds: Sequence[int] = ()) -> Ablation:
    """Read an ablation's file; `seeds`, if any, replace its own."""
    data = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    ablation = parse(Ablation, data, path.name)
    return replace(ablation, seeds=tuple(seeds)) if seeds else ablation


@dataclass(frozen=True)
class Task:
    """One training with its export, or one evaluation.

    Args:
        before: commands that made its initial model.
        record: file of these commands and its own, and of whether it has finished.
    """

    name: str
    commands: tuple[Command, ...]
    output: Path
    record: Path
    before: tuple[Command, ...] = ()

    @property
    def chain(self) -> tuple[Command, ...]:
        return *self.before, *self.commands

    def is_done(self) -> bool:
        """Whether it is finished; raises if it, or a phase before it, was finished or started with other settings."""
        if not self.record.is_file():
            return False
        record = json.loads(self.record.read_text(encoding="utf-8"))
        same = all(record.get(key, told) == told for key, told in self._told().items())  # old ones lack what is before
        old = dict.fromkeys((str(self.output), str(self.record), str(self.record.with_suffix(""))))  # a run is the last
        changed = f"{self.output}: it or what it starts from was made with other settings, as {self.record} says; "
        changed += f"remove {', '.join(old)} with any checkpoints, or give another --out"
        require(same, changed, GnvcError)
        return bool(record["ended"]) and self.output.is_dir()

    def run(self, execute: Callable[[Command], None]) -> None:
        self.record.parent.mkdir(parents=True, exist_ok=True)
        self.output.parent.mkdir(parents=True, exist_ok=True)
        self._write_record(ended=False)
        for command in self.commands:
            execute(command)
        self._write_record(ended=True)

    def _told(self) -> dict[str, list[list[str]]]:
        return {"commands": [list(one) for one in self.commands], "before": [list(one) for one in self.before]}

    def _write_record(self, ended: bool) -> None:
        write_text(self.record, json.dumps({"ended": ended, **self._told()}, indent=1) + "\n")


@dataclass(frozen=True)
class Scripts:
    """Paths of the three scripts, and a launcher for every training that replaces its phase's."""

    train: str
    export: str
    evaluate: str
    launch: Command = ()


class AblationPlan:
    """An ablation's tasks, in one output folder.

    Args:
        training, evaluation: arguments added to every training, and to every evaluation.
    """

    def __init__(
        self, ablation: Ablation, out: Path, scripts: Scripts, training: Command = (), evaluation: Command = ()
    ) -> None:
        self.ablation, self.out, self.scripts = ablation, out, scripts
        self.training, self.evaluation = training, evaluation
        self._owners: dict[tuple[object, ...], Task] = {}
        self.chains = {(name, seed): self._chain(name, seed) for name in ablation.variants for seed in ablation.seeds}

    def dependencies(self, variant: str, seed: int) -> list[tuple[str, int]]:
        """Dependencies: earlier chains that share a phase with this one."""
        outputs = {task.output for task in self.chains[variant, seed]}
        before = takewhile(lambda at: at != (variant, seed), self.chains)
        return [at for at in before if outputs & {task.output for task in self.chains[at]}]

    def _chain(self, variant: str, seed: int) -> list[Task]:
        tasks = list[Task]()
        different = self.ablation.variants[variant]
        for name, phase in self.ablation.phases.items():
            added = different.phases.get(name, ())
            if added is not None:
                own = added if phase.common else (*different.settings, *added)
                tasks.append(self._training_task(variant, seed, name, phase, own, tasks[-1] if tasks else None))
        return [*tasks, self._evaluation_task(variant, seed, tasks[-1])]

    def _training_task(
        self, variant: str, seed: int, name: str, phase: Phase, different: Command, last: Task | None
    ) -> Task:
        start, before = (str(last.output), last.chain) if last else (self.ablation.start, ())
        experiments = [word for word in different if word.startswith(EXPERIMENT)]
        others = [word for word in different if not word.startswith(EXPERIMENT)]
        first = experiments[-1] if experiments else EXPERIMENT + phase.experiment
        words = (first, *phase.settings, *self.training, *others, f"seed={seed}")
        key = (words, phase.export, start)
        if key not in self._owners:
            run, model = (self.out / kind / variant / f"seed-{seed}" / name for kind in ("runs", "models"))
            begin = () if start is None else (f"model.start={start}",)
            launch = self.scripts.launch or phase.launch or (sys.executable,)
            train = (*launch, self.scripts.train, *words, *begin, f"hydra.run.dir={run}")
            export = (sys.executable, self.scripts.export, str(run), str(model), *phase.export)
            record = run.with_name(f"{name}.json")
            self._owners[key] = Task(f"{variant}, seed {seed}, {name}", (train, export), model, record, before)
        return self._owners[key]

    def _evaluation_task(self, variant: str, seed: int, last: Task) -> Task:
        folder = self.out / "evaluations" / variant / f"seed-{seed}"
        command = (
            sys.executable,
            self.scripts.evaluate,
            *self.ablation.evaluation,
            f"folder={folder}",
            f"only=[{self.ablation.codec}]",
            f"codecs.{self.ablation.codec}.ours.model={last.output}",
            *self.evaluation,
            *self.ablation.variants[variant].evaluation,
        )
        record = folder.with_name(f"{folder.name}.json")
        return Task(f"{variant}, seed {seed}, evaluation", (command,), folder, record, last.chain)


def unfinished_tasks(plan: AblationPlan, only: Sequence[str] = ()) -> Iterator[Task]:
    """Unfinished tasks, each once, after its dependencies."""
    seen = set[Path]()
    for seed in plan.ablation.seeds:  # all variants of one seed first, for early comparisons
        for variant in only or plan.ablation.variants:
            for task in plan.chains[variant, seed]:
                if task.output not in seen and not task.is_done():
                    seen.add(task.output)
                    yield task


def execute(command: Command) -> None:
    """Run a command; if it fails, the ablation stops, and running the ablation again resumes it."""
    with subprocess.Popen(command) as process:
        try:
            code = process.wait()
        except BaseException:  # lets the command shut down by itself: an interrupted training can be resumed
            process.terminate()
            raise
    require(code == 0, f"this ended with {code}: {' '.join(command)}", GnvcError)
