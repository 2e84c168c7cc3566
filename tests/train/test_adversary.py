"""A discriminator and whom it corrects: each side's gradient in closed form, and neither reaches the other."""

import pytest
import torch
from torch import Tensor

from gnvc_vd.train.adversary import REMEMBERED, Adversary, Pictures, PlainError, adversary_state, latent_of
from gnvc_vd.train.plan import BatchDraws

SIDE, BATCH = 32, 2


def adversary(opinion: float = 0.05) -> Adversary:
    torch.manual_seed(0)
    made = Adversary(SIDE)
    torch.nn.init.normal_(made.discriminator.leave.weight, std=opinion)
    return made


def pictures(frames: int = 9, side: int = SIDE, seed: int = 1) -> Pictures:
    generator = torch.Generator().manual_seed(seed)
    video = torch.rand(BATCH, 3, frames, side, side, generator=generator) * 2 - 1
    shown = video + 0.3 * torch.randn(video.shape, generator=generator)
    latents = torch.randn(BATCH, 16, 1 + frames // 4, side // 8, side // 8, generator=generator)
    return Pictures(shown.requires_grad_(), video, latents)


def draws(first: int = 0) -> BatchDraws:
    return BatchDraws(0, range(first, first + BATCH), torch.device("cpu"))


def first_frames() -> list[int]:
    return (draws().uniform() * 7).long().tolist()


def plain(video: Tensor) -> PlainError:
    return lambda shown: 5 * (shown - video).square().flatten(1).mean(1)


def seen(x: Tensor, at: int) -> Tensor:
    return x[:, at : at + 3].flatten(0, 1)  # 9 H W


def test_the_decoded_frames_are_pulled_as_far_as_the_plain_error_pulls_them_where_the_clip_is_told_from_them() -> None:
    module, given = adversary(), pictures()
    found = module(given, plain(given.video), draws())
    found["adversarial"].sum().backward()
    assert all(one.grad is None for one in module.parameters())
    assert given.shown.grad is not None and len(set(first_frames())) == BATCH
    for clip, at in enumerate(first_frames()):
        decoded = seen(given.shown[clip].detach(), at).requires_grad_()
        latent = given.latents[clip, :, (at + 1 + 3) // 4]
        scores = module.discriminator(decoded[None], latent[None])
        (direction,) = torch.autograd.grad((scores - 1).square().mean(), decoded)
        real = module.discriminator(seen(given.video[clip], at)[None], latent[None])
        certainty = 1 - ((real - 1).square().mean() + (scores + 1).square().mean()) / 2
        length = 10 / given.video[0].numel() * (decoded - seen(given.video[clip], at)).norm()
        wanted = certainty.clamp(0, 1) * length * direction / direction.norm()
        assert torch.allclose(seen(given.shown.grad[clip], at), wanted, rtol=1e-3, atol=1e-9)
        rest = given.shown.grad[clip].clone()
        rest[:, at : at + 3] = 0
        assert not rest.any() and found["adversarial"][clip].item() == pytest.approx(
            (scores - 1).square().mean().item()
        )


def test_one_without_an_opinion_has_no_say() -> None:
    module, given = Adversary(SIDE), pictures()
    found = module(given, plain(given.video), draws())
    assert found["discriminator"].tolist() == [1.0] * BATCH
    found["adversarial"].sum().backward()
    assert given.shown.grad is not None and not given.shown.grad.any()


def test_the_discriminator_is_judged_by_the_clip_what_is_decoded_and_what_was() -> None:
    module, first, second = adversary(), pictures(), pictures(seed=2)
    found = module(first, plain(first.video), draws())["discriminator"]
    again = module(second, plain(second.video), draws(7))["discriminator"]
    again.sum().backward()
    assert first.shown.grad is None and second.shown.grad is None
    assert all(one.grad is not None and one.grad.any() for one in module.parameters())

    def score(clips: Tensor, given: Pictures, clip: int, at: int, target: float) -> Tensor:
        latent = given.latents[clip, :, (at + 4) // 4].half().float()
        return (module.discriminator(seen(clips[clip], at)[None], latent[None]) - target).square().mean()

    starts = first_frames()
    for clip, at in enumerate(starts):
        alone = (score(first.video, first, clip, at, 1) + score(first.shown, first, clip, at, -1)) / 2
        assert found[clip].item() == pytest.approx(alone.item(), rel=1e-3)
    other = draws(7)
    later, remembered = (other.uniform() * 7).long().tolist(), (other.uniform() * BATCH).long().tolist()
    for clip, at in enumerate(later):
        now, past = score(second.shown, second, clip, at, -1), remembered[clip]
        before = score(first.shown, first, past, starts[past], -1)
        expected = score(second.video, second, clip, at, 1) / 2 + (now + before) / 4
        assert again[clip].item() == pytest.approx(expected.item(), rel=1e-3)


def test_the_oldest_is_forgotten_and_of_larger_clips_a_corner_is_kept() -> None:
    module = adversary()
    for step in range(REMEMBERED // BATCH + 1):
        given = pictures(frames=5, side=SIDE + 16, seed=step)
        module(given, plain(given.video), draws())
    assert int(module.count) == REMEMBERED + BATCH and set(adversary_state(module)) == {"frames", "latents", "count"}
    at = int(draws().uniform()[0] * 3)
    for seed, place in ((REMEMBERED // BATCH, 0), (1, BATCH)):
        given = pictures(frames=5, side=SIDE + 16, seed=seed)
        kept = seen(given.shown[0].detach(), at)[:, :SIDE, :SIDE].half()
        assert torch.equal(module.frames[place], kept)
        assert torch.equal(module.latents[place], given.latents[0, :, 1, : SIDE // 8, : SIDE // 8].half())


@pytest.mark.parametrize(("past", "latents"), [(0, [0, 1, 1, 1, 1, 2, 2, 2, 2]), (5, [2, 2, 2, 2])])
def test_frames_belong_to_the_latents_they_were_decoded_from(past: int, latents: list[int]) -> None:
    given = pictures()
    given = given._replace(past=past, latents=torch.arange(3.0).view(1, 1, 3, 1, 1).expand(BATCH, 16, 3, 1, 1))
    found = [int(latent_of(given, torch.full((BATCH,), frame))[0, 0, 0, 0]) for frame in range(len(latents))]
    assert found == latents


def test_it_learns_to_tell_and_the_decoded_follow() -> None:
    """Decoded frames are free numbers here: drawn against a discriminator that learns, they become like the clip."""
    module, given = adversary(), pictures(frames=5)
    still = torch.full_like(given.video, 0.5)
    video = still * (1 - 2 * (torch.arange(SIDE) % 2))  # a texture of columns
    shown = torch.zeros_like(video).requires_grad_()
    rates = [{"params": module.parameters(), "lr": 2e-3}, {"params": [shown], "lr": 1e-2}]
    optimiser = torch.optim.AdamW(rates, weight_decay=0)
    told: list[float] = []
    for step in range(80):
        optimiser.zero_grad()
        terms = module(given._replace(shown=shown, video=video), plain(torch.ones_like(video)), draws(step))
        (terms["adversarial"].mean() + terms["discriminator"].mean()).backward()
        optimiser.step()
        told.append(terms["discriminator"].mean().item())
    assert min(told[:40]) < 0.3
    likeness = torch.nn.functional.cosine_similarity(shown.detach().flatten(), video.flatten(), 0)
    assert likeness > 0.3
