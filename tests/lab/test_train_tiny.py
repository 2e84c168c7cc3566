"""tiny in the time that there is: what a leg is made of, how its time goes, and that stopping it costs little."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from gnvc_vd.codecs.load import load
from gnvc_vd.conventions import GnvcError, UsageError
from gnvc_vd.train.compose import training_of
from gnvc_vd.train.log import FIGURES, read_figures
from lab.tiny import train as tiny
from lab.tiny.card import CARD, LEGS, card, legs_of, write_beside
from lab.tiny.leg import RECORD, Leg, Part, Point, Record
from lab.tiny.phases import CODEC, ORDER, PHASES, SHARES, Device, compose, experiment, shares_of

TOLD = Record("100s", "cpu", "nothing", SHARES, ("model=nano",))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("goes_on", [False, True])
def test_every_phase_is_a_training_of_tiny(device: Device, goes_on: bool) -> None:
    for phase in PHASES:
        one = training_of(compose((*experiment(phase, device, goes_on), "data=tiny_device")))
        assert one.name == f"tiny_{phase}" and one.model.name == "tiny"
        assert one.stage.steps == 100 or (goes_on and phase == "vae" and one.stage.steps < 100)
        assert one.run.capture is (device == "cuda") and one.run.cpu is (device == "cpu")
        assert one.stage.optimisation.warmup < 10  # of what stands for a phase
    vae = training_of(compose((*experiment("vae", device, goes_on), "data=tiny_device"))).stage
    assert [span.coarsest for span in vae.spans][0 if goes_on else 1 :] == [1.5] * (len(vae.spans) - (not goes_on))
    assert {weights.lattice for weights in vae.all_weights} - {0.0} == {30.0}


def test_settings_that_are_none_are_one_sentence() -> None:
    with pytest.raises(UsageError, match=r"make no training: .*none_such"):
        compose((*experiment("vae", "cpu", False), "data=none_such"))


def test_shares_are_given_by_name() -> None:
    assert shares_of("") == SHARES and sum(SHARES.values()) - SHARES["prior"] == pytest.approx(1)
    assert shares_of("vae=0,pixel=0.5") == SHARES | {"vae": 0.0, "pixel": 0.5}
    assert shares_of("warmup=0,latent=0")["latents"] == 0  # nothing would train on them
    for wrong in ("vea=1", "vae", "vae=much", "vae=-1"):
        with pytest.raises(UsageError, match="a share is one of"):
            shares_of(wrong)
    with pytest.raises(UsageError, match="no phase has a share"):
        shares_of(",".join(f"{phase}=0" for phase in PHASES))


class Time:
    """A clock that is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_each_part_has_its_share_of_what_is_left(tmp_path: Path) -> None:
    clock = Time()
    leg = Leg(tmp_path / "leg", TOLD, ORDER, clock)
    assert leg.begin("vae") == pytest.approx(40)
    with leg.timed("vae"):
        clock.now += 70  # thirty too many
    leg.end("vae", steps=9)
    assert leg.begin("latents") == pytest.approx(30 * 0.05 / 0.6)
    with leg.timed("latents"):
        clock.now += 2.5
    leg.end("latents")
    assert leg.begin("prior") == leg.begin("warmup") == pytest.approx(27.5 * 0.25 / 0.55)  # beside one another
    with leg.timed("prior"), leg.timed("warmup"):
        clock.now += 12.5
    assert leg.begin("latent") == pytest.approx(15 * 0.08 / 0.3)
    assert leg.record.parts["vae"] == Part(pytest.approx(40), pytest.approx(70), True, 9)  # type: ignore[arg-type]


def test_a_leg_that_goes_on_keeps_its_parts_and_may_have_more_time(tmp_path: Path) -> None:
    clock, out = Time(), tmp_path / "leg"
    leg = Leg(out, TOLD, ORDER, clock)
    leg.begin("vae")
    with pytest.raises(KeyboardInterrupt), leg.timed("vae"):
        clock.now += 25
        raise KeyboardInterrupt
    again = Leg(out, replace(TOLD, budget="200s"), ORDER, clock)
    assert again.begin("vae") == pytest.approx(40) and again.record.parts["vae"].seconds == pytest.approx(25)
    again.raise_seconds("vae", 30.0)  # as its checkpoint says
    again.raise_seconds("vae", 20.0)
    assert again.record.parts["vae"].seconds == 30
    assert again.begin("pixel") == pytest.approx((200 - 30) * 0.15 / 0.6)
    with pytest.raises(UsageError, match="a leg with another shares"):
        Leg(out, replace(TOLD, shares=SHARES | {"vae": 0.5}), ORDER, clock)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("words")
    with pytest.raises(UsageError, match="holds other things than a leg"):
        Leg(tmp_path / "mine", TOLD, ORDER, clock)
    (out / RECORD).write_text("{}")
    with pytest.raises(GnvcError, match="lacks 'budget'"):
        Leg(out, TOLD, ORDER, clock)


def test_the_card_is_made_from_the_records_of_all_legs(tmp_path: Path) -> None:
    first = replace(TOLD, parts={"vae": Part(40, 41.2, True, 123)}, hardware="a processor", git="abcdef0123456789")
    second = replace(first, start="before/model", curve=(Point(0, 0.00412, 22.345), Point(63, 0.0801, 30.5)))
    write_beside(tmp_path, [first, second])
    assert legs_of(str(tmp_path)) == [first, second] and legs_of(None) == [] and legs_of("tiny") == []
    text = (tmp_path / CARD).read_text()
    assert text == card([first, second]) and text.count("| vae | 123 | 41 of 40 |") == 2
    assert "| 0 | 0.00412 | 22.34 |" in text and "100s on a processor, at commit abcdef012345" in text
    (tmp_path / LEGS).write_text('{"legs": 3}')
    with pytest.raises(GnvcError, match="no list of legs"):
        legs_of(str(tmp_path))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--data", "nowhere"), "nowhere: missing; python -m lab.tiny.fetch_data nowhere makes it"),
        (("--budget", "soon", "data=procedural"), "a budget is a positive time"),
        (("--from", "nowhere", "data=procedural"), "nowhere"),
        (("--shares", "warmup=0", "data=procedural"), "give warmup a share"),
        (("data=procedural", "model=none"), "these settings make no training"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    words: tuple[str, ...], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = tiny.main(["--budget", "9s", "--device", "cpu", "--out", str(tmp_path / "leg"), *words])
    said = capsys.readouterr().err
    assert code in (1, 2) and said.startswith("train: ") and sentence in said and said.count("\n") == 1


SMALL = (
    "model=nano", "data=procedural", "run.precision=no", "run.clips=1", "run.qualities=[32]",
    "stage.spans=[{steps: 100, frames: 5, size: 32, batch: 2}]", "++stage.perceptual=st_lpips_alex",
)  # fmt: skip


def begun(out: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "lab.tiny.train", "--device", "cpu", "--out", str(out), *words, *SMALL]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def parts(out: Path) -> dict[str, dict[str, float]]:
    path = out / RECORD
    return json.loads(path.read_text())["parts"] if path.is_file() else {}  # type: ignore[no-any-return]


def wait_until(process: subprocess.Popen[str], holds: Callable[[], object]) -> None:
    while not holds():
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)


@pytest.mark.slow
def test_a_leg_that_is_killed_and_stopped_goes_on_to_its_end(tmp_path: Path) -> None:
    out = tmp_path / "leg"
    words = ("--budget", "12s", "--from", "nothing")
    killed = begun(out, *words)
    wait_until(killed, lambda: (out / "runs" / "prior" / FIGURES).is_file())  # written by the process beside it
    beside = psutil.Process(killed.pid).children(recursive=True)
    killed.kill()
    killed.wait()
    assert beside and not psutil.wait_procs(beside, timeout=30)[1]  # it does not outlive it
    vae = (parts(out)["vae"], read_figures(out / "runs" / "vae" / FIGURES))
    stopped = begun(out, *words)
    wait_until(stopped, lambda: "latent" in parts(out))  # one more phase and the end are ahead
    stopped.send_signal(signal.SIGINT)
    said = stopped.communicate()[1]
    assert stopped.returncode == 130 and "train: stopped; the same command goes on" in said.splitlines()[-1], said
    last = begun(out, *words)
    printed, said_last = last.communicate()
    assert last.returncode == 0, said_last
    assert (parts(out)["vae"], read_figures(out / "runs" / "vae" / FIGURES)) == vae  # what was done is not done again
    assert all(part["ended"] for part in parts(out).values()) and set(parts(out)) == set(SHARES)
    assert printed.splitlines()[0].startswith("| quality") and printed.splitlines()[-1].startswith(f"{out / 'model'}; ")
    (leg,) = legs_of(str(out / "model"))
    assert [point.quality for point in leg.curve] == list(range(0, 64, 9))
    again = tmp_path / "again"  # another leg, of the codec's first phase alone
    shares = ",".join(f"{phase}=0" for phase in PHASES if phase != CODEC[0])
    more = begun(again, "--budget", "1s", "--from", str(out / "model"), "--shares", shares)
    assert more.wait() == 0 and [one.start for one in legs_of(str(again / "model"))] == ["nothing", str(out / "model")]
    before, after = (load(folder / "model") for folder in (out, again))
    assert before.backbone.hashes == after.backbone.hashes
