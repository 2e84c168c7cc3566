"""Ablations: what is run for whom, once, in which order; and two depths through all of it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gnvc_vd.conventions import GnvcError, UsageError
from gnvc_vd.evaluate.variants import Ablation, AblationPlan, Phase, Scripts, Variant, read_ablation, unfinished_tasks
from tests.evaluate.evaluations import made_up_set

CONFIGS = Path("configs/ablate")
PROGRAMS = Scripts("train.py", "export.py", "evaluate.py")
PHASES = {
    "warmup": Phase("warm", common=True),
    "one": Phase("first", ("rate=1",), launch=("accelerate", "launch")),
    "two": Phase("second", export=("--refit",)),
}
VARIANTS = {
    "full": Variant(),
    "flat": Variant(("adaptor.layers=[]",)),
    "bare": Variant(phases={"two": ("experiment=other",)}, evaluation=("bare=true",)),
    "late": Variant(phases={"one": None}),
}
ABLATION = Ablation(PHASES, VARIANTS, ("experiment=uvg",), "full", seeds=(0, 1))


def planned(out: Path, **changes: object) -> AblationPlan:
    return AblationPlan(ABLATION, out, PROGRAMS, **changes)  # type: ignore[arg-type]


def test_a_chain_goes_from_model_to_model(tmp_path: Path) -> None:
    tasks = planned(tmp_path, training=("data=d",), evaluation=("root=r",)).chains["flat", 1]
    run, model = ({name: tmp_path / kind / "flat/seed-1" / name for name in PHASES} for kind in ("runs", "models"))
    warm = tmp_path / "models/full/seed-1/warmup"  # trained once, for all
    assert [task.output for task in tasks] == [
        warm,
        model["one"],
        model["two"],
        tmp_path / "evaluations/flat/seed-1",
    ]
    assert tasks[1].commands == (
        (
            *("accelerate", "launch", "train.py", "experiment=first", "rate=1", "data=d", "adaptor.layers=[]"),
            *("seed=1", f"model.start={warm}", f"hydra.run.dir={run['one']}"),
        ),
        (sys.executable, "export.py", str(run["one"]), str(model["one"])),
    )
    assert tasks[2].commands[1][-1] == "--refit"
    (judged,) = tasks[3].commands
    assert judged[:3] == (sys.executable, "evaluate.py", "experiment=uvg") and judged[-1] == "root=r"
    assert f"codecs.gnvc-vd.ours.model={model['two']}" in judged and "only=[gnvc-vd]" in judged


def test_variants_differ_by_what_they_say_and_share_the_rest(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    full, bare, late = (plan.chains[name, 0] for name in ("full", "bare", "late"))
    assert bare[:2] == full[:2] and bare[2].commands[0][2] == "experiment=other"
    assert bare[3].commands[0][-1] == "bare=true"
    assert len(late) == 3 and f"model.start={full[0].output}" in late[1].commands[0]
    assert plan.dependencies("full", 0) == [] and plan.dependencies("bare", 0) == [("full", 0), ("flat", 0)]
    names = [task.name for task in unfinished_tasks(plan)]
    assert len(names) == len(set(names)) == 2 * (4 + 3 + 2 + 2)  # the warm-up once a seed, and full's first for two
    assert names[:4] == [f"full, seed 0, {one}" for one in (*PHASES, "evaluation")]
    assert next(task.name for task in unfinished_tasks(plan, ["late"])) == "full, seed 0, warmup"


def test_what_is_done_is_not_done_again_and_must_be_what_is_asked_for(tmp_path: Path) -> None:
    def pretend(command: tuple[str, ...]) -> None:
        if command[1] == "export.py":
            Path(command[3]).mkdir(parents=True)

    def stop(command: tuple[str, ...]) -> None:
        raise KeyboardInterrupt

    task = next(unfinished_tasks(planned(tmp_path)))
    with pytest.raises(KeyboardInterrupt):
        task.run(stop)
    assert next(unfinished_tasks(planned(tmp_path))).name == task.name
    task.run(pretend)
    assert next(unfinished_tasks(planned(tmp_path))).name == "full, seed 0, one"
    task.output.rmdir()
    assert next(unfinished_tasks(planned(tmp_path))).name == task.name
    with pytest.raises(GnvcError, match=r"made with other settings, as .*warmup\.json says; remove .*, or give"):
        list(unfinished_tasks(planned(tmp_path, training=("data=other",))))


def test_what_starts_from_a_phase_that_changed_is_made_anew_too(tmp_path: Path) -> None:
    """One after the other says what to remove, until nothing is left of the variant but the warm-up of all."""

    def pretend(command: tuple[str, ...]) -> None:
        folder = command[3] if command[1] == "export.py" else command[-1].partition("=")[2]  # the run's, or a model's
        words = {word.partition("=")[0]: word.partition("=")[2] for word in command}
        Path(words.get("folder", folder)).mkdir(parents=True)

    def planned_with(words: tuple[str, ...]) -> AblationPlan:
        variants = {"base": Variant(), "flat": Variant(phases={"one": words})}
        return AblationPlan(Ablation(PHASES, variants, ("experiment=uvg",), "base"), tmp_path, PROGRAMS)

    for task in unfinished_tasks(planned_with(("rate=2",))):
        task.run(pretend)
    changed = planned_with(("rate=3",))
    for name in ("models/flat/seed-0/one", "models/flat/seed-0/two", "evaluations/flat/seed-0"):
        with pytest.raises(GnvcError, match=f"{name}: it or what it starts from was made with other") as caught:
            list(unfinished_tasks(changed))
        told = str(caught.value).partition("remove ")[2].partition(" with any checkpoints")[0]
        for path in map(Path, told.split(", ")):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert [task.name for task in unfinished_tasks(changed)] == [
        f"flat, seed 0, {one}" for one in ("one", "two", "evaluation")
    ]
    assert not list(tmp_path.rglob("flat/seed-0/*"))
    record = changed.chains["base", 0][1].record  # as an earlier version wrote it: it counts
    record.write_text(
        json.dumps({key: value for key, value in json.loads(record.read_text()).items() if key != "before"})
    )
    assert changed.chains["base", 0][1].is_done()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"anchor": "none"}, "anchor: there is no variant 'none'"),
        ({"seeds": (1, 1)}, "each seed once"),
        ({"variants": {}}, "an ablation has phases, variants and seeds"),
        ({"variants": VARIANTS | {"../full": Variant()}}, "'../full' cannot name a folder"),
        ({"variants": {"full": Variant(phases={"three": ()})}}, "there is no phase three; there are warmup, one, two"),
        ({"variants": {"full": Variant(phases=dict.fromkeys(PHASES))}}, "all phases are left out"),
    ],
)
def test_what_makes_no_ablation_is_refused(change: dict[str, object], reason: str) -> None:
    given = {"phases": PHASES, "variants": VARIANTS, "evaluation": (), "anchor": "full"} | change
    with pytest.raises(UsageError, match=reason):
        Ablation(**given)  # type: ignore[arg-type]


def test_the_ablations_that_ship_are_of_what_is_there() -> None:
    for path in CONFIGS.glob("*.yaml"):
        ablation = read_ablation(path)
        named = [phase.experiment for phase in ablation.phases.values()]
        for variant in ablation.variants.values():
            words = [word for added in variant.phases.values() for word in added or ()]
            named += [word.removeprefix("experiment=") for word in words if word.startswith("experiment=")]
        assert all(Path(f"configs/train/experiment/{name}.yaml").is_file() for name in named), path
        judged = ablation.evaluation[0].removeprefix("experiment=")
        assert Path(f"configs/evaluate/experiment/{judged}.yaml").is_file()
        files = [phase.launch[-1] for phase in ablation.phases.values() if phase.launch is not None]
        assert all(Path(file).is_file() for file in files)


SMALL = """
# Two depths.
phases:
  stage1:
    experiment: tiny_latent
    settings: &small
      [model=nano, model.start=null, model.bottleneck=contextual, data=procedural, run.clips=1, "run.qualities=[32]",
       "stage.spans=[{steps: 4, frames: 5, size: 32, batch: 2}]", run.save_every=1, run.validate_every=0]
  stage2: {experiment: tiny_pixel, settings: *small}
variants:
  depth-0: {settings: ["adaptor.layers=[]"]}
  depth-2: {settings: ["adaptor.layers=[0,1]"]}
anchor: depth-2
evaluation: [experiment=small, "codecs.gnvc-vd.ours.levels=[0,63]", "metrics=[psnr_yuv]", device=cpu]
"""


def ablate(printed: Path, *words: str) -> subprocess.Popen[str]:
    """Start it; what it prints goes to a file, which unlike a pipe never fills up while nobody reads."""
    command = [sys.executable, "scripts/ablate.py", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with printed.open("w") as stream:
        return subprocess.Popen(command, env=environment, start_new_session=True, stdout=stream, stderr=stream)


@pytest.mark.slow
def test_two_depths_go_through_all_phases_and_a_kill(tmp_path: Path) -> None:
    made_up_set(tmp_path, sequences=1)
    (tmp_path / "small.yaml").write_text(SMALL)
    out, printed = tmp_path / "out", tmp_path / "printed"
    words = ("run", f"{tmp_path}/small.yaml", "--out", str(out), "--train", "++stage.perceptual=st_lpips_alex")
    words += ("--evaluate", f"manifest={tmp_path}/set.json", f"root={tmp_path}")
    killed = ablate(printed, *words)
    while not list(out.glob("runs/depth-0/seed-0/stage2/checkpoints/step-*")):
        assert killed.poll() is None, printed.read_text()
        time.sleep(0.1)
    os.killpg(killed.pid, signal.SIGKILL)  # as a cluster does with a job
    killed.wait()
    first = out / "models/depth-0/seed-0/stage1/model.json"
    before = first.stat().st_mtime_ns
    assert ablate(printed, *words).wait() == 0, printed.read_text()
    assert "| depth-0 |" in printed.read_text() and "against depth-2" in printed.read_text()
    assert first.stat().st_mtime_ns == before  # what was done is not done again
    assert (out / "study/psnr_yuv.png").is_file()
    assert ablate(printed, *words, "--dry-run").wait() == 0 and printed.read_text().strip() == ""


def test_jobs_of_a_cluster_wait_for_the_phases_they_share(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(SMALL.replace("stage1:\n", "stage1:\n    common: true\n", 1))
    stand_in = tmp_path / "sbatch"  # numbers its jobs, and keeps what it was asked for
    stand_in.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/jobs\nwc -l < {tmp_path}/jobs\n')
    stand_in.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = [sys.executable, "scripts/ablate.py", "run", f"{tmp_path}/one.yaml", "--sbatch", "--gpus=8 --time=9:00"]
    done = subprocess.run([*command, "--out", f"{tmp_path}/out"], env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["1  depth-0, seed 0", "2  depth-2, seed 0"], done.stderr
    first, second = (tmp_path / "jobs").read_text().splitlines()
    assert "--gpus=8 --time=9:00 --wrap" in first and "--dependency" not in first
    assert "--dependency=afterok:1" in second and "--only depth-2 --seeds 0" in second
