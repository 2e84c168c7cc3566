"""A prior's figures against closed forms, on a Gaussian source whose exact velocity is known."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gnvc_vd.backbone import flow
from gnvc_vd.backbone.image_condition import FIRST, FIRST_AND_LAST, condition_on
from gnvc_vd.backbone.weights import load_backbone, random_backbone
from gnvc_vd.presets import preset
from gnvc_vd.train.plan import BatchDraws
from gnvc_vd.train.setup import build
from gnvc_vd.train.stages.prior_stage import SIGMAS, PriorStage
from gnvc_vd.video.pictures import read_picture
from gnvc_vd.video.pixels import pixels_of, to_frames, to_model
from lab.linear_denoiser import LinearDenoiser
from lab.probe_clips import middle_clips
from lab.probe_prior import (
    STARTS,
    STEPS,
    SUPPOSED,
    ZERO,
    Attempt,
    Degraded,
    Loss,
    Predictor,
    attempts,
    best_attempts,
    degradations,
    error,
    losses,
    main,
    mean_attempts,
    mean_losses,
    predictors_of,
    samples,
)
from tests.conftest import smooth_clip
from tests.data.material import film
from tests.train.runs import training

LATENTS = 3
CPU = torch.device("cpu")


class Gaussian:
    """Blocks of 8×8 places, each of its own: covariance = channels ⊗ time ⊗ places, and a mean.

    The exact velocity goes through the covariances' own axes; it knows nothing of cosines.
    """

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        mixing = torch.linalg.qr(torch.randn(16, 16, generator=generator, dtype=torch.float64)).Q
        channels = mixing * torch.logspace(-2, 0.5, 16, dtype=torch.float64) @ mixing.T
        row = alike(8, 0.5)
        self.mean = torch.randn(16, LATENTS, 1, 1, generator=generator, dtype=torch.float64)
        axes = [torch.linalg.eigh(one) for one in (channels, alike(LATENTS, 0.8), torch.kron(row, row))]
        self.bases = [axis.eigenvectors for axis in axes]
        self.spectrum = torch.einsum("c,t,p->ctp", *(axis.eigenvalues for axis in axes))

    def drawn(self, clips: int, seed: int, side: int = 32) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        count = clips * (side // 8) ** 2
        noise = torch.randn(count, *self.spectrum.shape, generator=generator, dtype=torch.float64)
        return self.turned(noise * self.spectrum.sqrt(), side, side, back=True) + self.mean

    def velocity(self, x: Tensor, sigma: float) -> Tensor:
        signal = 1 - sigma
        gain = signal * self.spectrum / (signal**2 * self.spectrum + sigma**2)
        height, width = x.shape[3:]
        turned = self.turned(x - signal * self.mean, height, width)
        return (x - self.mean - self.turned(gain * turned, height, width, back=True)) / sigma

    def turned(self, x: Tensor, height: int, width: int, back: bool = False) -> Tensor:
        """Latents to coefficients by block, or back."""
        if back:
            places = torch.einsum("bctp,ic,jt,kp->bijk", x, *self.bases).unflatten(3, (8, 8))
            blocks = places.unflatten(0, (-1, height // 8, width // 8))  # B rows columns C T 8 8
            return blocks.permute(0, 3, 4, 1, 5, 2, 6).flatten(5, 6).flatten(3, 4)
        blocks = x.unflatten(4, (-1, 8)).unflatten(3, (-1, 8)).permute(0, 3, 5, 1, 2, 4, 6)
        return torch.einsum("bijk,ic,jt,kp->bctp", blocks.flatten(5, 6).flatten(0, 2), *self.bases)


def alike(count: int, shared: float) -> Tensor:
    """The covariance of numbers that share a part of their variance."""
    same = torch.full((count, count), shared, dtype=torch.float64)
    return same + (1 - shared) * torch.eye(count, dtype=torch.float64)


SOURCE = Gaussian()
EXACT = Predictor("exact", SOURCE.velocity)


@pytest.fixture(scope="module")
def linear() -> LinearDenoiser:
    return LinearDenoiser(SOURCE.drawn(48, seed=1))


@pytest.fixture(scope="module")
def clean() -> Tensor:
    return SOURCE.drawn(6, seed=2)


def draws(count: int = 6) -> BatchDraws:
    return BatchDraws(0, list(range(count)), CPU)


def decibels(ratio: float) -> float:
    return 10 * math.log10(ratio)


def test_the_exact_model_has_the_loss_of_wieners_closed_form_and_the_linear_denoiser_reaches_it(
    linear: LinearDenoiser, clean: Tensor
) -> None:
    found = mean_losses(losses([ZERO, EXACT, Predictor("linear", linear.velocity)], clean, draws(), 2))
    at = {(one.predictor, one.sigma): one.loss for one in found}
    assert set(at) == {(name, sigma) for name in ("zero", "exact", "linear") for sigma in SIGMAS}
    energy = 1 + float(SOURCE.spectrum.mean() + SOURCE.mean.square().mean())  # E ‖ε − x‖²
    for sigma in SIGMAS:
        closed = float((SOURCE.spectrum / ((1 - sigma) ** 2 * SOURCE.spectrum + sigma**2)).mean())
        assert at["zero", sigma] == pytest.approx(energy, rel=0.02)
        assert at["exact", sigma] == pytest.approx(closed, rel=0.02)
        assert 0.999 * at["exact", sigma] < at["linear", sigma] < 1.02 * at["exact", sigma]


def test_all_predictors_are_judged_by_the_same_noises(clean: Tensor) -> None:
    found = list(losses([ZERO, EXACT, replace(EXACT, name="again")], clean, draws(), 2))
    assert [one.loss for one in found[1::3]] == [one.loss for one in found[2::3]]
    assert [one.sigma for one in found[::3]] == [*SIGMAS, *SIGMAS]
    sequence = draws()
    noises = [sequence.normal_like(clean) for _ in range(2)]
    expected = [float((noise - clean).square().mean()) for noise in noises for _ in SIGMAS]
    assert [one.loss for one in found[::3]] == pytest.approx(expected, rel=1e-6)


def test_the_linear_denoiser_knows_the_mean_and_believes_what_it_sees_where_there_is_no_noise(
    linear: LinearDenoiser, clean: Tensor
) -> None:
    mean = SOURCE.mean.expand_as(clean)
    assert torch.allclose(linear.clean(0.4 * mean, 0.6), mean, atol=0.05)
    assert torch.allclose(linear.clean((1 - 1e-4) * clean, 1e-4), clean, atol=1e-3)
    assert torch.allclose(linear.clean(torch.zeros_like(clean), 1.0), mean, atol=0.05)
    x = clean.float()
    assert torch.equal(linear.velocity(x, 0.25), (x - linear.clean(x, 0.25)) / 0.25)


def test_parts_of_blocks_are_refused(linear: LinearDenoiser) -> None:
    with pytest.raises(ValueError, match="whole blocks"):
        linear.clean(torch.zeros(1, 16, LATENTS, 8, 12), 0.5)


def test_degraded_latents_have_the_stated_distortion() -> None:
    """White noise of unit variance: D = 2^(−2R); a step's error by the normal distribution; the blur by its weights."""
    white = torch.randn(1, 16, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    pixels = white.numel() // 4  # four coefficients to a pixel
    found = {one.by: error(one.latents, white) for one in degradations(white, pixels, (4.0, 8.0), (0.5, 2.0))}
    assert list(found) == ["coded at 4 bpp", "coded at 8 bpp", "rounded to 0.5", "rounded to 2", "blurred"]
    assert found["coded at 4 bpp"] == pytest.approx(decibels(2**-2), abs=0.15)
    assert found["coded at 8 bpp"] == pytest.approx(decibels(2**-4), abs=0.15)
    assert found["rounded to 0.5"] == pytest.approx(decibels(0.5**2 / 12), abs=0.05)
    normal = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64))
    x = torch.linspace(-8, 8, 16001, dtype=torch.float64)
    coarse = torch.trapezoid((x - 2 * (x / 2).round()).square() * normal.log_prob(x).exp(), x)
    assert found["rounded to 2"] == pytest.approx(decibels(float(coarse)), abs=0.05)
    own, squares = (62 / 2 + 2 * 3 / 4) / 64, (62 * 6 / 16 + 2 * 10 / 16) / 64  # 62 places inside, 2 at an edge
    assert found["blurred"] == pytest.approx(decibels(1 - 2 * own**2 + squares**2), abs=0.02)


def test_a_blur_leaves_what_is_even_and_spreads_what_is_not() -> None:
    even, spot = torch.full((1, 16, 2, 8, 8), 3.0), torch.zeros(1, 16, 2, 8, 8)
    spot[0, 0, 0, 4, 0] = 16.0
    blurred = [degradations(x, 64, (), ())[-1].latents for x in (even, spot)]
    assert torch.equal(blurred[0], even)
    assert blurred[1][0, 0, 0, 3:6, :3].tolist() == [[3, 1, 0], [6, 2, 0], [3, 1, 0]]  # its edge repeats
    assert blurred[1].sum() == 16


def test_errors_are_relative_to_the_variance_about_each_channels_mean(clean: Tensor) -> None:
    channels = clean.mean((0, 2, 3, 4), keepdim=True)
    assert error(channels.expand_as(clean), clean) == pytest.approx(0.0, abs=1e-9)
    assert error(clean + 0.1 * (clean - channels), clean) == pytest.approx(-20.0)
    assert error(clean, clean) == -100.0


def test_refinement_by_the_exact_velocity_has_the_error_of_its_closed_form(
    linear: LinearDenoiser, clean: Tensor
) -> None:
    """Euler multiplies a coefficient about its mean by 1 + Δσ (1 − g) / σ at each step (g: Wiener's gain): by G in all.

    error = (1 − G (1 − σ_0))² S + G² ((1 − σ_0)² s² + σ_0²), where s is the deviation of white damage.
    """
    damage, spectrum = 0.5, SOURCE.spectrum
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    harmed = Degraded("noisy", clean + damage * noise)
    found = list(attempts(harmed, clean, linear, [EXACT], draws().normal_like(clean)))
    at = {(one.mended, one.sigma): one.error for one in found}
    assert {one.degraded for one in found} == {"noisy"}
    assert len(found) == 1 + 2 * len(SUPPOSED) + len(STARTS) * (1 + len(STEPS))
    variance = float((clean - clean.mean((0, 2, 3, 4), keepdim=True)).square().mean())
    assert at["as it is", None] == pytest.approx(decibels(damage**2 / variance), abs=0.05)
    for name, steps in (("exact, 1 step", 1), ("exact, 5 steps", 5)):
        for sigma_0 in STARTS:
            signal, gain = 1 - sigma_0, torch.ones_like(spectrum)
            for step in range(steps):
                sigma, following = (sigma_0 * (steps - step - k) / steps for k in (0, 1))
                wiener = (1 - sigma) * spectrum / ((1 - sigma) ** 2 * spectrum + sigma**2)
                gain *= 1 + (following - sigma) * (1 - (1 - sigma) * wiener) / sigma - (following - sigma) * wiener
            expected = (1 - gain * signal) ** 2 * spectrum + gain**2 * (signal**2 * damage**2 + sigma_0**2)
            assert at[name, sigma_0] == pytest.approx(decibels(float(expected.mean()) / variance), abs=0.06)
    best = {one.mended: one for one in best_attempts(mean_attempts(found))}
    for name in ("exact, 1 step", "exact, 5 steps", "linear"):
        tried = {sigma: value for (mended, sigma), value in at.items() if mended == name}
        assert best[name].error == min(tried.values()) < best["as it is"].error - 2
        assert tried[best[name].sigma] == best[name].error
    ratio = (0.3 / 0.7) ** 2
    wrongly = spectrum / (spectrum + ratio)  # the linear denoiser, told less noise than there is
    expected = (1 - wrongly) ** 2 * spectrum + wrongly**2 * damage**2
    assert at["linear", 0.3] == pytest.approx(decibels(float(expected.mean()) / variance), abs=0.1)
    for sigma_0 in STARTS:  # fitted, it is nearly the exact one
        assert at["linear, 1 step", sigma_0] == pytest.approx(at["exact, 1 step", sigma_0], abs=0.1)
    assert at["exact, no noise", 0.3] == pytest.approx(decibels(float(expected.mean()) / variance), abs=0.06)


def test_without_a_linear_denoiser_nothing_is_said_of_it(clean: Tensor) -> None:
    found = attempts(Degraded("x", clean), clean, None, [], clean)
    assert list(found) == [Attempt("x", "as it is", None, -100.0)]


def test_means_are_over_clips_and_the_best_is_of_the_means() -> None:
    assert mean_losses([Loss("a", 0.1, 1.0), Loss("b", 0.1, 5.0), Loss("a", 0.3, 9.0), Loss("a", 0.1, 2.0)]) == [
        Loss("a", 0.1, 1.5),
        Loss("b", 0.1, 5.0),
        Loss("a", 0.3, 9.0),
    ]
    first = [Attempt("d", "m", 0.1, -9.0), Attempt("d", "m", 0.2, -6.0), Attempt("d", "n", None, -1.0)]
    second = [Attempt("d", "m", 0.1, -1.0), Attempt("d", "m", 0.2, -6.0), Attempt("d", "n", None, -3.0)]
    assert best_attempts(mean_attempts(first + second)) == [Attempt("d", "m", 0.2, -6.0), Attempt("d", "n", None, -2.0)]


def test_a_model_predicts_given_nothing_the_first_frame_and_the_first_and_last() -> None:
    backbone = load_backbone("nano")
    generator = torch.Generator().manual_seed(0)
    video, x = (
        torch.rand(1, 3, 5, 32, 32, generator=generator) * 2 - 1,
        torch.randn(1, 16, 2, 4, 4, generator=generator),
    )
    conditions = [None, *(condition_on(backbone.vae, video, given) for given in (FIRST, FIRST_AND_LAST))]
    expected = [backbone.dit.velocity(x, 0.3, condition) for condition in conditions]
    found = predictors_of(backbone, video)
    assert [one.name for one in found] == ["nothing", "first frame", "first and last"]
    with torch.inference_mode():
        assert all(torch.equal(one.velocity(x, 0.3), other) for one, other in zip(found, expected, strict=True))
    assert not torch.allclose(expected[0], expected[1]) and not torch.allclose(expected[1], expected[2])
    nano = preset("nano")
    plain = random_backbone(replace(nano, dit=replace(nano.dit, condition_channels=0)))
    assert [one.name for one in predictors_of(plain, video)] == ["nothing"]


def test_losses_are_those_that_a_training_is_validated_by() -> None:
    stage = build(replace(training("prior"), seed=7))
    assert isinstance(stage, PriorStage)
    clip = torch.randint(0, 256, (3, 5, 32, 32), generator=torch.Generator().manual_seed(0)).byte()
    validated = stage.validate([clip]).figures
    video = to_model(clip[None])
    clean, model = stage.vae.encode(video), predictors_of(stage.backbone, video)[:2]
    found = [one.loss for one in mean_losses(losses(model, clean, BatchDraws(7, [0], CPU), 1))]
    expected = [validated[f"cfm_{given}_{sigma}"] for sigma in SIGMAS for given in ("nothing", "first")]
    assert found == pytest.approx(expected, rel=1e-5)


def test_samples_follow_the_velocity_from_the_same_noise_and_are_decoded() -> None:
    vae = load_backbone("nano").vae
    target, noise = torch.randn(2, 1, 16, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    straight = Predictor("there", lambda x, _: flow.velocity(target, noise, 1.0))
    found = samples([straight, Predictor("nowhere", lambda x, _: torch.zeros_like(x))], vae, noise, 4)
    for name, latents in (("there", target), ("nowhere", noise)):
        expected = to_frames(vae.decode(latents)[0])
        assert found[name].shape == (5, 32, 32, 3)
        assert abs(found[name].astype(int) - expected).max() <= 1


def test_samples_of_the_exact_velocity_have_the_sources_spectrum() -> None:
    noise = torch.randn(2, 16, LATENTS, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kept: list[Tensor] = []

    class Vae:
        def decode(self, latents: Tensor) -> Tensor:
            kept.append(latents)
            return torch.zeros(1, 3, 9, 8, 8)

    samples([EXACT], Vae(), noise, 40)  # type: ignore[arg-type]
    turned = SOURCE.turned(kept[0] - SOURCE.mean, 32, 32).square().mean(0)
    loud = SOURCE.spectrum > 0.1
    assert float((turned / SOURCE.spectrum)[loud].mean()) == pytest.approx(1.0, abs=0.1)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("films")
    return [film(folder / f"{seed}.mkv", smooth_clip(64, 80, 15, seed)) for seed in range(2)]


def test_the_script_prints_figures_and_writes_samples(
    films: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab.probe_prior.STARTS", (0.1, 0.5))  # two are as good as five here
    picture = tmp_path / "samples.png"
    few = ("--frames", 5, "--size", 64, "--noises", 1, "--rates", 0.1, "--device", "cpu")
    told = ("nano", films[0], "--fit", films[1], *few, "--samples", picture, "--sample-steps", 2)
    assert main([*map(str, told)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [float(line[0]) for line in lines[1:6]] == list(SIGMAS) and all(len(line) == 6 for line in lines[1:6])
    backbone = load_backbone("nano")
    clip = next(middle_clips(films[0], 5, 64))
    clean = backbone.vae.encode(to_model(clip[None]))
    zero = (BatchDraws(0, [0], CPU).normal_like(clean) - clean).square().mean()
    assert float(lines[1][1]) == pytest.approx(float(zero), abs=1e-4)
    # A rate, a rounding and the blur: as it is, linear in two ways, two conditions in three.
    assert len(lines) == 6 + 2 + 3 * 9
    shown = read_picture(picture)
    assert shown.shape == (4 * 64, 5 * 64, 3)
    assert (shown[:64] == np.concatenate(list(pixels_of(clip)), axis=1)).all()


def test_the_script_refuses_in_one_sentence(
    films: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = {
        ("--fit", films[0]): (2, "is judged"),
        ("--fit", films[1], "--size", 48): (2, "64"),
        ("--noises", 0): (2, "at least 1"),
        ("--rounding", 0): (2, "above 0"),
        ("--frames", 6): (2, "1 + 4k"),
        ("--size", 128): (1, "no 128×128 crop"),
        ("--samples", tmp_path / "no" / "samples.png"): (1, "no folder"),
    }
    for told, (code, sentence) in wrong.items():
        assert main(["nano", str(films[0]), "--frames", "5", "--size", "64", *map(str, told)]) == code
        said = capsys.readouterr()
        assert said.out == "" and said.err.count("\n") == 1 and sentence in said.err
