"""What each phase minimises, where its gradients go, and where they must not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gnvc_vd.backbone import flow
from gnvc_vd.backbone.image_condition import condition_on
from gnvc_vd.backbone.weights import load_backbone
from gnvc_vd.codecs.load import load, save
from gnvc_vd.conventions import Frame, GnvcError, UsageError
from gnvc_vd.learned.bottleneck.base import BottleneckOutput
from gnvc_vd.presets import AdaptorPreset
from gnvc_vd.train import losses
from gnvc_vd.train.log import FIGURES, read_figures
from gnvc_vd.train.loop import train, validation_clips
from gnvc_vd.train.settings import Span, Weights
from gnvc_vd.train.setup import build, group_of
from gnvc_vd.train.stages.codec_stage import CodecStage
from gnvc_vd.train.stages.prior_stage import PriorStage
from gnvc_vd.train.stages.stage import Step
from gnvc_vd.train.stages.teacher import features_of
from gnvc_vd.train.stages.vae_stage import VaeStage
from tests.learned.refine.test_refiner import published_vace
from tests.train.runs import clips, training

STEP = Step(seed=0, number=3, steps=10, samples=[6, 7])


def video(frames: int = 9) -> Tensor:
    return torch.randint(0, 256, (2, 3, frames, 32, 32), generator=torch.Generator().manual_seed(0)).byte()


def codec_stage(
    phase: str,
    continuation: float = 0.0,
    noise_scale: float = 1.0,
    sigma_ratio: float | None = None,
    cfm_detached: bool = True,
    **weights: float,
) -> CodecStage:
    told = training(phase)
    stage = replace(told.stage, continuation=continuation, noise_scale=noise_scale, sigma_ratio=sigma_ratio)
    stage = replace(stage, cfm_detached=cfm_detached)
    if weights:
        stage = replace(stage, weights=Weights(**weights))
    module = build(replace(told, stage=stage))
    assert isinstance(module, CodecStage)
    torch.manual_seed(1)
    with torch.no_grad():  # an adaptor that says something
        for name, parameter in module.named_parameters():
            if group_of(name) == "adaptor":
                parameter.add_(0.05 * torch.randn_like(parameter))
    return module


def test_an_adaptor_starts_from_vace_weights_by_their_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GNVC_VD_WEIGHTS", str(tmp_path))
    told = training("latent")
    model = replace(told.model, vace="someone/vace", bfloat16=True)
    with pytest.raises(GnvcError, match=r"someone--vace@main: missing; .*fetch_weights"):
        build(replace(told, model=model))
    folder = tmp_path / "someone--vace@main" / "transformer"
    published = published_vace(folder, load_backbone("nano").dit, layers=(0,)).state_dict()
    stage = build(replace(told, model=model))
    assert isinstance(stage, CodecStage)
    found, name = stage.refiner.adaptor(), "vace_blocks.0.ffn.net.2.weight"
    assert torch.equal(found[name], published[name]) and stage.refiner.dit.model.proj_out.weight.dtype == torch.bfloat16


def test_a_trained_adaptor_is_never_left_out_unsaid(tmp_path: Path) -> None:
    told, codec = training("latent"), load("nano")
    save(codec, tmp_path / "untrained", "nano")
    with torch.no_grad():
        for value in codec.refiner.adaptor().values():
            value.add_(0.5)
    save(codec, tmp_path / "trained", "nano")

    def stage(start: str, **more: Any) -> CodecStage:
        model = replace(told.model, start=str(tmp_path / start), begin=None, vace=more.pop("vace", None))
        built = build(replace(told, model=model, **more))
        assert isinstance(built, CodecStage)
        return built

    name = "vace_blocks.0.ffn.net.2.weight"
    trained = codec.refiner.adaptor()
    assert torch.equal(stage("trained").refiner.adaptor()[name], trained[name])
    other = AdaptorPreset((0,), sees_latents=False)
    with pytest.raises(GnvcError, match="trained: its trained adaptor has other layers or inputs"):
        stage("trained", adaptor=other)
    assert stage("trained", adaptor=AdaptorPreset(())).refiner.adaptor() == {}
    assert stage("untrained", adaptor=other).refiner.preset == other
    published = published_vace(tmp_path / "transformer", codec.backbone.dit, layers=codec.refiner.preset.layers)
    begun = stage("untrained", vace=str(tmp_path)).refiner.adaptor()
    assert torch.equal(begun[name], published.state_dict()[name])


def gradients(module: nn.Module, term: Tensor) -> dict[str, float]:
    """The largest slope in each group that trains; frozen parameters have none."""
    module.zero_grad()
    term.backward()
    largest: dict[str, float] = {}
    for name, parameter in module.named_parameters():
        group = group_of(name)
        if not parameter.requires_grad:
            assert parameter.grad is None, name
        elif parameter.grad is not None:
            assert group is not None
            largest[group] = max(largest.get(group, 0.0), float(parameter.grad.abs().max()))
    return largest


@pytest.mark.parametrize("continuation", [0.0, 1.0])
def test_flow_matching_trains_the_adaptor_and_nothing_else(continuation: float) -> None:
    stage = codec_stage("latent", continuation)
    found = gradients(stage, stage(video(), STEP).terms["cfm"].sum())
    assert found.get("codec", 0.0) == 0.0 and found["adaptor"] > 0


def test_flow_matching_trains_the_codec_too_where_it_is_not_detached() -> None:
    """Of a velocity of zero, ‖t‖² with t = (x(σ₀) − x₁)/σ₀: its slope at x_c is 2 t (1 − σ₀)/σ₀, over the count."""
    attached, detached = codec_stage("latent", cfm_detached=False), codec_stage("latent")
    both = [stage(video(), STEP).terms["cfm"] for stage in (attached, detached)]
    assert torch.equal(*both) and gradients(attached, both[0].sum())["codec"] > 0
    attached.refiner.velocity = lambda x, *_: torch.zeros_like(x)  # type: ignore[assignment, method-assign]
    decoded: list[Tensor] = []

    def keep(_: nn.Module, __: object, output: BottleneckOutput) -> None:
        output.latents.retain_grad()
        decoded.append(output.latents)

    attached.bottleneck.register_forward_hook(keep)
    term = attached(video(), STEP).terms["cfm"]
    term.sum().backward()
    slope = decoded[0].grad
    assert slope is not None
    sigma_0, count = attached.stage.sigma_0, slope[0].numel()
    expected = 4 * term / count * ((1 - sigma_0) / sigma_0) ** 2
    assert torch.allclose(slope.square().flatten(1).sum(1), expected, rtol=1e-4)


def test_stage_one_is_the_sum_of_its_terms() -> None:
    stage = codec_stage("latent")
    loss = stage(video(), STEP)
    quality = losses.sample_quality(STEP.draws(torch.device("cpu")).uniform(), stage.rate, STEP.progress)
    weight = losses.lambda_of(quality, stage.rate)
    terms = loss.terms
    expected = (terms["rate"] + weight * (terms["decoded"] + terms["refined"])) / weight.sqrt()
    assert set(terms) == {"rate", "decoded", "refined", "cfm"}
    assert loss.total.item() == pytest.approx((expected.mean() + terms["cfm"].mean()).item(), rel=1e-5)


@pytest.mark.parametrize("continuation", [0.0, 1.0])
def test_stage_two_reaches_codec_and_adaptor_through_the_frozen_decoder(continuation: float) -> None:
    stage = codec_stage("pixel", continuation)
    loss = stage(video(), STEP)
    assert set(loss.terms) == {"rate", "decoded", "refined", "pixel"}
    found = gradients(stage, loss.terms["pixel"].sum())
    assert found["codec"] > 0 and found["adaptor"] > 0 and set(found) == {"codec", "adaptor"}


def test_the_warm_up_does_not_ask_the_refiner() -> None:
    stage = codec_stage("warmup")
    loss = stage(video(), STEP)
    assert set(loss.terms) == {"rate", "decoded"} and set(gradients(stage, loss.total)) == {"codec"}


@pytest.mark.parametrize("noise_scale", [1.0, 0.5])
def test_a_continued_window_is_given_the_clean_latent_before_it(noise_scale: float) -> None:
    """With the adaptor silent and the target known, what is left of the loss is the closed form behind the context."""
    stage = codec_stage("latent", continuation=1.0, noise_scale=noise_scale)
    seen: list[tuple[Tensor, Tensor]] = []

    def velocity(x: Tensor, sigma: Tensor, hints: Tensor) -> Tensor:
        seen.append((x, hints))
        return torch.zeros_like(x)

    stage.refiner.velocity = velocity  # type: ignore[assignment]
    clips = video()
    term = stage(clips, STEP).terms["cfm"]
    first = stage._first_latent(STEP, 3)
    clean = stage.vae.encode(clips.float() / 127.5 - 1)
    x, hints = seen[0]
    assert x.shape[2] == 3 - first + 1
    mask, context = hints[:, -1], hints[:, -17:-1]
    assert torch.equal(mask[:, 0], torch.ones_like(mask[:, 0])) and not mask[:, 1:].any()
    assert torch.equal(context[:, :, 0], clean[:, :, first - 1]) and not context[:, :, 1:].any()
    draws = STEP.draws(torch.device("cpu"))
    quality = losses.sample_quality(draws.uniform(), stage.rate, STEP.progress)
    coded = stage.bottleneck(clean, quality[:, None].expand(-1, 3), draws.uniform_like)
    noise = noise_scale * draws.normal_like(clean)
    start = flow.start_point(coded.latents, noise, 0.3)
    target = flow.velocity(clean, start, 0.3)[:, :, first:]
    assert torch.allclose(term, target.square().flatten(1).mean(1), rtol=1e-4)


def test_a_clip_s_refinement_starts_where_its_own_error_puts_it() -> None:
    stage = codec_stage("latent", continuation=0.0, sigma_ratio=0.5)
    seen: list[tuple[Tensor, Tensor]] = []

    def velocity(x: Tensor, sigma: Tensor, hints: Tensor) -> Tensor:
        seen.append((x, sigma))
        return torch.zeros_like(x)

    stage.refiner.velocity = velocity  # type: ignore[assignment]
    clips = video()
    terms = stage(clips, STEP).terms
    clean = stage.vae.encode(clips.float() / 127.5 - 1)
    draws = STEP.draws(torch.device("cpu"))
    quality = losses.sample_quality(draws.uniform(), stage.rate, STEP.progress)
    coded = stage.bottleneck(clean, quality[:, None].expand(-1, 3), draws.uniform_like)
    noise = draws.normal_like(clean)
    error = 0.5 * terms["decoded"].sqrt()
    starts = error / (1 + error)
    assert starts[0] != starts[1]
    begun = torch.cat([flow.start_point(coded.latents[i : i + 1], noise[i : i + 1], starts[i].item()) for i in (0, 1)])
    target = torch.cat([flow.velocity(clean[i : i + 1], begun[i : i + 1], starts[i].item()) for i in (0, 1)])
    assert torch.allclose(terms["cfm"], target.square().flatten(1).mean(1), rtol=1e-4)
    unrolled = [(x, sigma) for x, sigma in seen if torch.equal(sigma, starts)]
    assert torch.allclose(unrolled[0][0], begun, atol=1e-5)  # where the decoder's own steps begin
    assert stage.stage.refinement.sigma_ratio == 0.5


def test_streams_are_refined_as_training_unrolled_it() -> None:
    told = replace(training("latent").stage, sigma_0=0.1, noise_scale=0.5, unrolled=2).refinement
    assert (told.sigma_0, told.noise_scale, told.steps) == (0.1, 0.5, 2)


def test_a_sample_is_the_same_alone_and_in_a_batch() -> None:
    stage = codec_stage("latent")
    both = stage(video(), STEP)
    for place, number in enumerate(STEP.samples):
        alone = stage(video()[place : place + 1], STEP._replace(samples=[number]))
        for name, value in both.terms.items():
            assert torch.allclose(alone.terms[name], value[place : place + 1], rtol=2e-4), name


def test_the_priors_loss_is_the_squared_velocity_error() -> None:
    stage = build(training("prior"))
    assert isinstance(stage, PriorStage)
    clips, clean = video(), stage.vae.encode(video().float() / 127.5 - 1)
    draws = STEP.draws(torch.device("cpu"))
    draws.uniform()
    noise = draws.normal_like(clean)
    stage.dit.velocity = lambda x, sigma, condition: torch.zeros_like(x)  # type: ignore[assignment]
    expected = (noise - clean).square().flatten(1).mean(1)
    assert torch.allclose(stage(clips, STEP).terms["cfm"], expected, rtol=1e-4)


def test_a_clip_may_be_seen_with_several_noises_in_one_step() -> None:
    told = training("prior")
    stage = build(replace(told, stage=replace(told.stage, repeats=3, conditions=(0, 1, 0))))
    assert isinstance(stage, PriorStage)
    clips, seen = video(), []
    clean = stage.vae.encode(clips.float() / 127.5 - 1)
    velocity = stage.dit.velocity
    stage.dit.velocity = lambda *given: seen.append(given) or velocity(*given)  # type: ignore[method-assign, func-returns-value]
    term = stage(clips, STEP).terms["cfm"]
    x, sigma, condition = seen[0]
    assert len(set(sigma.tolist())) == 6 and term.shape == (2,)
    noise = (x - (1 - sigma.view(-1, 1, 1, 1, 1)) * clean.repeat_interleave(3, 0)) / sigma.view(-1, 1, 1, 1, 1)
    assert noise.std().item() == pytest.approx(1, abs=0.05) and not torch.allclose(noise[0], noise[1], atol=0.1)
    given = condition_on(stage.vae, clips.float() / 127.5 - 1, (0,))
    assert given is not None and torch.allclose(condition.channels[3:], given.channels[1:].expand(3, -1, -1, -1, -1))
    wanted = (velocity(x, sigma, condition) - (noise - clean.repeat_interleave(3, 0))).square().flatten(1).mean(1)
    assert torch.allclose(term, wanted.view(2, 3).mean(1), rtol=1e-3)


def test_the_prior_is_given_frames_in_the_stated_shares() -> None:
    stage = build(training("prior"))
    assert isinstance(stage, PriorStage)
    kinds = [stage._given_frames(STEP._replace(number=number)) for number in range(400)]
    shares = [kinds.count(kind) / 400 for kind in ((), (0,), (0, -1))]
    assert shares == pytest.approx([0.4, 0.3, 0.3], abs=0.07)


def test_a_vaes_terms_are_those_of_its_reconstruction() -> None:
    stage = build(training("vae"))
    assert isinstance(stage, VaeStage)
    loss, clips = stage(video(5), STEP), video(5).float() / 127.5 - 1
    mean, log_variance = stage.vae.posterior(clips)
    assert torch.allclose((mean - stage.vae.mean) / stage.vae.std, stage.vae.encode(clips), atol=1e-6)
    z = mean + (log_variance / 2).exp() * STEP.draws(torch.device("cpu")).normal_like(mean)
    shown = stage.vae.reconstruction(z)
    assert torch.allclose(shown.clamp(-1, 1), stage.vae.decode((z - stage.vae.mean) / stage.vae.std), atol=1e-5)
    assert torch.allclose(loss.terms["squared"], (shown - clips).square().flatten(1).mean(1))
    weights = stage.stage.weights
    total = sum(getattr(weights, name) * value.mean() for name, value in loss.terms.items())
    assert torch.equal(loss.total, total)
    assert set(gradients(stage, loss.total)) == {"encoder", "decoder"}


def vae_stage(**fields: object) -> VaeStage:
    told = training("vae")
    stage = build(replace(told, stage=replace(told.stage, **fields)))  # type: ignore[arg-type]
    assert isinstance(stage, VaeStage)
    return stage


def test_a_decoder_trains_alone() -> None:
    stage = vae_stage(trains=("decoder",))
    assert set(gradients(stage, stage(video(5), STEP).total)) == {"decoder"}


def test_latents_go_through_a_transform_code_of_each_clips_own_level() -> None:
    seen: list[Tensor] = []
    for coarsest in (0.0, 1.5):
        stage = vae_stage(coarsest=coarsest)
        shown = stage.vae.reconstruction
        stage.vae.reconstruction = lambda z, shown=shown: seen.append(z) or shown(z)  # type: ignore[method-assign]
        stage(video(), STEP)
    draws = STEP.draws(torch.device("cpu"))
    mean, _ = stage.vae.posterior(video().float() / 127.5 - 1)
    draws.normal_like(mean)
    level = losses.level_of(draws.uniform(1, 1, 1, 1), 1.5)
    assert level.unique().numel() == len(mean)
    assert torch.equal(seen[1], losses.code_latents(seen[0], level, draws.normal_like(mean))[0])


def test_a_span_may_have_weights_and_a_level_of_its_own() -> None:
    told = training("vae").stage
    rated = replace(told.weights, rate=0.5)
    spans = (Span(2, 9, 32, 2), Span(8, 9, 32, 2, weights=rated, coarsest=0.25))
    stage = vae_stage(spans=spans)
    before, after = (stage(video(), STEP._replace(number=number)) for number in (1, 2))
    assert "rate" not in before.terms and after.terms["rate"].min() > 0
    assert not torch.equal(before.terms["squared"], after.terms["squared"])  # the same but for the code
    total = sum(getattr(rated, name) * term.mean() for name, term in after.terms.items())
    assert torch.equal(after.total, total)
    for wrong in ({"spans": spans, "phase": "prior"}, {"weights": rated}):
        with pytest.raises(UsageError, match=r"in the phase vae only|set coarsest too"):
            replace(told, **wrong)  # type: ignore[arg-type]


class Looking(nn.Module):
    """A perceptual network that keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs: list[tuple[Tensor, Tensor]] = []

    def forward(self, shown: Tensor, original: Tensor) -> Tensor:
        self.pairs.append((shown, original))
        return (shown - original).square().flatten(1).mean(1)


@pytest.mark.parametrize("phase", ["vae", "pixel"])
def test_perception_looks_at_some_frames_of_each_clip_and_every_step_at_others(phase: str) -> None:
    stage = vae_stage() if phase == "vae" else codec_stage(phase)
    stage.stage = replace(stage.stage, continuation=0.0, weights=replace(stage.stage.weights, perceptual=1.0))
    stage.pictures.perceptual = looking = Looking()
    stage.pictures.frames = 3
    for first in (6, 8, 10):
        loss = stage(video(), STEP._replace(samples=[first, first + 1]))
        assert looking.pairs[-1][1].shape[2] == 3 and loss.terms["perceptual"].shape == (2,)
    clip = video().float() / 127.5 - 1
    places = [
        [next(t for t in range(9) if torch.equal(clip[b, :, t], seen[b, :, k])) for k in range(3)]
        for _, seen in looking.pairs
        for b in range(2)
    ]
    assert all(one == sorted(set(one)) for one in places) and len({tuple(one) for one in places}) > 2


def test_perception_sees_both_clips_in_one_view_and_at_two_sizes() -> None:
    stage = codec_stage("pixel")
    weights = replace(stage.stage.weights, perceptual=0.3, perceptual_half=0.2)
    stage.stage = replace(stage.stage, weights=weights)
    stage.pictures.perceptual = looking = Looking()
    stage.pictures.views, size = True, 64
    clips = torch.randint(0, 256, (2, 3, 5, size, size)).byte()
    terms = stage(clips, STEP).terms
    (shown, seen), (low, seen_low) = looking.pairs
    assert seen.shape[-1] == size - 7 and seen_low.shape[-1] == (size - 7) // 2
    for large, small in ((shown, low), (seen, seen_low)):
        assert torch.equal(nn.functional.avg_pool3d(large, (1, 2, 2)), small)
    assert torch.equal(terms["perceptual_half"], (low - seen_low).square().flatten(1).mean(1))
    clip = clips.float() / 127.5 - 1
    levels = [set(one.flatten().tolist()) for one in clip]
    assert all(set(one.flatten().tolist()) <= known for one, known in zip(seen, levels, strict=True))
    assert not torch.equal(shown, seen)


def test_a_term_of_weight_0_is_not_computed_and_none_of_pictures_means_no_picture() -> None:
    stage = codec_stage("pixel", decoded=1, lattice=2.0)
    loss = stage(video(), STEP)
    assert set(loss.terms) == {"rate", "decoded", "refined", "pixel", "lattice"}
    stage = codec_stage("pixel", decoded=1, refined=1)
    stage.vae.reconstruction = None  # type: ignore[assignment, method-assign]
    assert set(stage(video(), STEP).terms) == {"rate", "decoded", "refined"}


def test_a_saturated_pixel_has_a_gradient() -> None:
    """Of a decoder that shows everything whiter than white, what is cut off at 1 says nothing."""
    stage = codec_stage("pixel")
    with torch.no_grad():
        stage.vae.model.decoder.conv_out.bias += 9.0  # type: ignore[operator, union-attr]
        stage.vae.model.decoder.conv_out.weight *= 0.5  # type: ignore[operator, union-attr]
    clips = torch.full((2, 3, 5, 32, 32), 128).byte()
    loss = stage(clips, STEP)
    assert (loss.terms["pixel"] > 36).all()  # further off than any picture that is shown can be
    found = gradients(stage, loss.terms["pixel"].sum())
    assert found["codec"] > 0 and found["adaptor"] > 0


def behind_symbols(**weights: float) -> CodecStage:
    """Of a transform codec, what no symbol depends on."""
    told = training("pixel", frames=5)
    stage = replace(told.stage, trains=("correction", "adaptor"), weights=Weights(decoded=1, pixel=1, **weights))
    module = build(replace(told, stage=stage, model=replace(told.model, bottleneck="transform")))
    assert isinstance(module, CodecStage)
    return module


def test_what_lies_behind_the_symbols_trains_with_a_discriminator_and_no_symbol_changes() -> None:
    stage, clips = behind_symbols(adversarial=0.5), video(5)
    latents = stage.vae.encode(clips.float() / 127.5 - 1)

    def payloads() -> list[bytes]:
        codec = stage.codec().bottleneck
        return [one.data for one in codec.compress(latents, [20, 20])[0]]

    before, rate = payloads(), stage(clips, STEP).terms["rate"]
    decoded = stage.bottleneck(latents, torch.full((2, 2), 20)).latents.detach()
    optimiser = torch.optim.AdamW([one for one in stage.parameters() if one.requires_grad], 1e-2)
    for _ in range(3):
        loss = stage(clips, STEP)
        found = gradients(stage, loss.total)
        optimiser.step()
    assert set(found) == {"correction", "adaptor", "discriminator"} and all(found.values())
    assert payloads() == before and torch.equal(stage(clips, STEP).terms["rate"], rate)
    assert not torch.equal(stage.bottleneck(latents, torch.full((2, 2), 20)).latents, decoded)


def test_the_codec_is_its_correction_too() -> None:
    told = training("pixel", frames=5)
    stage = build(replace(told, model=replace(told.model, bottleneck="transform")))
    assert stage.bottleneck.correction.leave.weight.requires_grad  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"trains": ("codec", "adaptor")}, "behind the symbols"),
        ({"weights": Weights(perceptual=1, adversarial=1)}, "is relative to weights.pixel"),
        ({"spans": (Span(1, 1, 32, 1),)}, "5 frames"),
    ],
)
def test_an_adversary_that_cannot_be_meant_is_refused(fields: dict[str, object], sentence: str) -> None:
    right = replace(training("pixel").stage, trains=("correction",), weights=Weights(pixel=1, adversarial=1))
    with pytest.raises(UsageError, match=sentence):
        replace(right, **fields)  # type: ignore[arg-type]


def test_a_decoder_may_train_against_a_discriminator_and_its_encoder_may_not() -> None:
    opposed = Weights(absolute=1, adversarial=0.5)
    with pytest.raises(UsageError, match="behind the symbols"):
        vae_stage(weights=opposed)
    stage = vae_stage(weights=opposed, trains=("decoder",))
    loss = stage(video(5), STEP)
    terms = {name: one.mean() for name, one in loss.terms.items()}
    expected = terms["absolute"] + 0.5 * terms["adversarial"] + 0.01 * terms["discriminator"]
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert set(gradients(stage, loss.total)) == {"decoder", "discriminator"}


def test_a_light_decoder_is_judged_by_what_wans_own_makes_of_the_same_latents() -> None:
    told = training("light")
    weights = replace(told.stage.weights, adversarial=0.5)
    stage = build(replace(told, stage=replace(told.stage, weights=weights)))
    assert isinstance(stage, VaeStage) and stage.teacher is not None
    loss, clips = stage(video(), STEP), video().float() / 127.5 - 1
    wans = load_backbone("nano").vae
    mean, log_variance = wans.posterior(clips)
    z = mean + (log_variance / 2).exp() * STEP.draws(torch.device("cpu")).normal_like(mean)
    shown, decoded = wans.reconstruction(z).clamp(-1, 1), stage.vae.reconstruction(z)
    assert shown.std() > 0.2 and not torch.allclose(decoded, shown, atol=0.1)
    assert torch.allclose(loss.terms["absolute"], (decoded - shown).abs().flatten(1).mean(1), rtol=1e-4)
    steps = decoded.diff(dim=2) - shown.diff(dim=2)
    assert torch.allclose(loss.terms["temporal"], steps.abs().flatten(1).mean(1), rtol=1e-4)
    terms = {name: one.mean() for name, one in loss.terms.items()}
    expected = terms["absolute"] + 0.5 * terms["temporal"] + 0.1 * terms["features"]
    expected = expected + 0.5 * terms["adversarial"] + 0.01 * terms["discriminator"]
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert set(gradients(stage, loss.total)) == {"decoder", "discriminator"}
    assert all(one.grad is not None for one in stage.vae.model.decoder.parameters())


def test_features_of_a_light_decoder_are_compared_at_wans_own_places() -> None:
    """By Wan's decoder run by hand on the first latent, which is a frame at every resolution."""
    stage = build(training("light"))
    assert isinstance(stage, VaeStage) and stage.teacher is not None
    z = torch.randn(2, 16, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    wide, light = stage.teacher.vae.model, stage.vae.model.decoder
    coarse, fine = wide.decoder.mid_block, wide.decoder.up_blocks[0]
    with features_of(coarse, fine) as read:
        stage.teacher.vae.reconstruction(z)
    places = [[tuple(one.shape[2:]) for one in each] for each in read]
    assert places == [[(1, 4, 4)] * 3, [(1, 8, 8), (2, 8, 8), (2, 8, 8)]]
    first = coarse(wide.decoder.conv_in(wide.post_quant_conv(z[:, :, :1])))
    assert torch.allclose(read[0][0], first, atol=1e-5)
    with features_of(light.every_fourth, light.every_second) as own:
        stage.vae.reconstruction(z)
    apart = []
    for matrix, given, wanted in zip(stage.teacher.matrices, own, read, strict=True):
        theirs = torch.cat(wanted, 2).permute(0, 2, 3, 4, 1)
        wrong = (matrix(torch.cat(given, 1)) - theirs).square().flatten(1).sum(1)
        apart.append(wrong / theirs.square().flatten(1).sum(1))
    terms = stage.teacher(stage.vae, z)[2]
    assert torch.allclose(terms["features"], (apart[0] + apart[1]) / 2, rtol=1e-4)
    assert not coarse._forward_hooks and not light.every_fourth._forward_hooks
    with torch.no_grad():  # a matrix that knows nothing is as far off as the features are large
        for parameter in stage.teacher.matrices.parameters():
            parameter.zero_()
    assert torch.allclose(stage.teacher(stage.vae, z)[2]["features"], torch.ones(2))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"teacher": None}, "need model.teacher"),
        ({"teacher": "tiny"}, "learns from a backbone with Wan's own"),
        ({"light_decoder": None}, "give model.light_decoder"),
        ({"light_decoder": 7}, "even width"),
        ({"light_decoder": 512}, "not between 1 and 256"),
        ({"name": "tiny", "start": "tiny"}, "goes with the architecture 'wan'"),
    ],
)
def test_a_teacher_that_cannot_be_meant_is_refused(fields: dict[str, object], sentence: str) -> None:
    told = training("light")
    with pytest.raises(GnvcError, match=sentence):
        build(replace(told, model=replace(told.model, **fields)))  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_light_decoder_learns_what_a_small_vae_of_wans_class_decodes(tmp_path: Path) -> None:
    """Against random weights, whose pictures are a texture of their own that no start resembles."""
    torch.set_num_threads(1)
    told = training("light", 60)
    stage = replace(told.stage, optimisation=replace(told.stage.optimisation, rate=2e-3, ema=0.9))
    told = replace(told, stage=stage, model=replace(told.model, light_decoder=16))
    before = build(told).eval().validate(validation_clips(clips, told, 1)).figures
    train(told, clips, clips, tmp_path)
    lines = read_figures(tmp_path / FIGURES)
    after = lines[-1]
    assert after["validation_psnr"] > before["psnr"] + 2
    features = [line["features"] for line in lines if "features" in line]
    assert features[-1] < features[0] / 3


def test_a_teacher_teaches_the_decoder_alone() -> None:
    told = training("light")
    with pytest.raises(UsageError, match="where the decoder alone trains"):
        replace(told, stage=replace(told.stage, trains=("encoder", "decoder")))
    with pytest.raises(UsageError, match="where the decoder alone trains"):
        replace(training("prior"), model=told.model)


def test_latents_made_before_serve_where_no_pixel_is_needed() -> None:
    stage, clips = codec_stage("latent"), video()
    latents = stage.vae.encode(clips.float() / 127.5 - 1)
    with_video, with_latents = (stage(one, STEP).total for one in (clips, latents))
    assert with_video.item() == pytest.approx(with_latents.item(), rel=1e-5)
    with pytest.raises(GnvcError, match="no pixels"):
        codec_stage("pixel")(latents, STEP)
    prior = build(replace(training("prior"), stage=replace(training("prior").stage, conditions=(0, 1, 0))))
    with pytest.raises(GnvcError, match="cannot be conditioned on frames"):
        prior(latents, STEP)


def test_slopes_are_those_of_finite_differences() -> None:
    """Noise stands for rounding, so the rate changes smoothly from table to table, as the slope says."""
    stage = codec_stage("warmup")
    latents = torch.randn(2, 16, 2, 4, 4, generator=torch.Generator().manual_seed(3))
    bias = stage.bottleneck.anchor_entropy.hyper_levels

    def rate() -> Tensor:
        draws = STEP.draws(torch.device("cpu"))
        return stage.bottleneck(latents, torch.full((2, 2), 40), draws.uniform_like).bits.sum()

    stage.zero_grad()
    rate().backward()
    assert bias.grad is not None
    step = 1.0  # a whole table: levels are rounded, straight through
    with torch.no_grad():
        bias[0] += step
        above = rate()
        bias[0] -= 2 * step
        below = rate()
    assert bias.grad[0].item() == pytest.approx(((above - below) / (2 * step)).item(), rel=0.05)


def test_validations_have_the_lattice_of_what_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grey clips that come back with chequers of ±5 levels, which repeat at every even stride."""
    clips = [torch.full((3, 9, 64, 64), level, dtype=torch.uint8) for level in (100, 150)]
    chequers = np.indices((64, 64)).sum(0)[..., None] % 2 * 10 - 5

    def decoded(_: Tensor) -> Tensor:
        levels = torch.from_numpy(100 + chequers[..., 0]) / 127.5 - 1
        return levels.expand(1, 3, 9, 64, 64)

    def coded(_: object, video: Frame, *__: object) -> tuple[int, Frame]:
        return 100, (video + chequers).astype(np.uint8)

    vae, codec = build(training("vae", size=64)), codec_stage("warmup")
    monkeypatch.setattr(vae.vae, "decode", decoded)
    monkeypatch.setattr("gnvc_vd.train.stages.codec_stage._encode_and_decode", coded)
    found = {vae: vae.validate(clips).figures, codec: codec.validate(clips).figures}
    for stage, behind in ((vae, ""), (vae, "_at_0.02_bpp"), (codec, "_32")):
        figures = [found[stage][f"lattice_{stride}{behind}"] for stride in (2, 4, 8)]
        assert figures == pytest.approx([5, 5, 5], abs=0.1), behind
