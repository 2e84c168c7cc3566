"""Clips made on the training's device, here the CPU: those that loader processes make, decoded once and bounded."""

from collections.abc import Sequence
from itertools import count, islice
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gnvc_vd.conventions import UsageError
from gnvc_vd.data import material as material_module
from gnvc_vd.data import procedural
from gnvc_vd.data.clips import ClipSpec, Mixture, VideoClips
from gnvc_vd.data.device import Bank, DeviceClips
from gnvc_vd.data.manifests import Entry, write_manifest
from gnvc_vd.data.material import Film, Material, Photo
from gnvc_vd.data.photos import PhotoClips
from gnvc_vd.data.procedural import ProceduralClips
from gnvc_vd.data.samples import Clips, LoaderOptions
from tests.conftest import smooth_clip
from tests.data.material import film, photo

SPEC = ClipSpec(frames=5, height=32, width=48, short_side=40, seed=2)
HERE = LoaderOptions()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("device")
    for number in range(4):
        photo(folder / "photos" / f"{number}.png", seed=number)
    (folder / "films").mkdir()
    film(folder / "films" / "as_it_is.mkv", smooth_clip(40, 56, 12, seed=5))
    film(folder / "films" / "shrunk.mkv", smooth_clip(64, 80, 20, seed=6))
    return folder


def mixture(folder: Path, spec: ClipSpec = SPEC) -> Mixture:
    parts: list[tuple[Clips, float]] = [
        (PhotoClips(folder / "photos", spec), 0.5),
        (VideoClips(folder / "films", spec), 0.3),
        (ProceduralClips(spec), 0.2),
    ]
    return Mixture(parts, spec.seed)


def banked(folder: Path, clips: int, uses: int = 1, material: Material | None = None) -> DeviceClips:
    return DeviceClips(mixture(folder), SPEC, Bank(clips, uses), material or Material())


def drawn(source: Clips, taken: Sequence[list[int]]) -> dict[int, Tensor]:
    """Each number's clip; a number that is asked for twice must give one clip."""
    found: dict[int, Tensor] = {}
    for numbers, clips in zip(taken, source.batches(taken, HERE), strict=True):
        for number, clip in zip(numbers, clips, strict=True):
            assert torch.equal(found.setdefault(number, clip), clip)
    return found


def in_batches(numbers: range, size: int) -> list[list[int]]:
    return [list(numbers[start : start + size]) for start in range(0, len(numbers), size)]


def test_a_bank_shows_what_loader_processes_would(folder: Path) -> None:
    """Photographs and made-up clips to the byte; films to one level, where they are shrunk in floats."""
    usual, parts = mixture(folder), set()
    found = drawn(banked(folder, 7), in_batches(range(40), 4))
    for number, clip in found.items():
        part = usual.source_of(number)[0]
        assert (clip.int() - usual[number].int()).abs().max() <= (part == 1), (number, part)
        parts.add(part)
    assert len(found) == 40 and parts == {0, 1, 2}


def test_a_number_shows_the_same_whatever_else_is_asked_for(folder: Path) -> None:
    """Other batches, two processes' shares, a beginning in the middle of a bank, the same few numbers again."""
    numbers = range(48)
    whole = drawn(banked(folder, 6, uses=3), in_batches(numbers, 4))
    ways = [
        in_batches(numbers, 1),
        in_batches(numbers, 16),
        [one[:2] for one in in_batches(numbers, 4)],
        [one[2:] for one in in_batches(numbers, 4)],
        in_batches(range(23, 41), 4),
        [[number % 22 for number in one] for one in in_batches(numbers, 4)],
        [[40], [3], [39, 2]],
    ]
    for taken in ways:
        source = banked(folder, 6, uses=3)
        for number, clip in drawn(source, taken).items():
            assert torch.equal(clip, whole[number]), (number, taken)
            assert torch.equal(source[number], clip)


def test_every_clip_of_a_bank_is_shown_once_in_each_turn_and_in_another_order() -> None:
    spec, bank = ClipSpec(1, 16, 16, seed=4), Bank(64, 3)
    source = DeviceClips(ProceduralClips(spec), spec, bank, Material())
    turns = [[source.source_number(64 * turn + place) for place in range(64)] for turn in range(6)]
    first, second = list(range(64)), list(range(64, 128))
    assert turns[0] == first and turns[3] == second, "the first turn is the source's own order"
    assert [sorted(turn) for turn in turns] == [first] * 3 + [second] * 3
    orders = [tuple(content % 64 for content in turn) for turn in turns]
    assert len({orders[0], orders[1], orders[2], orders[4], orders[5]}) == 5
    with pytest.raises(IndexError):
        source.source_number(-1)


def test_numbers_that_repeat_without_end_are_shown_without_end() -> None:
    spec, bank = ClipSpec(1, 16, 16, seed=4), Bank(4, 2)
    source = DeviceClips(ProceduralClips(spec), spec, bank, Material())
    shown = list(islice(source.batches(([number % 3] for number in count()), HERE), 20))
    assert all(torch.equal(one[0], source[place % 3]) for place, one in enumerate(shown))


def test_made_up_clips_are_made_on_the_materials_device_from_the_first_span_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which the material learns when it is loaded, after it was given to the source."""
    monkeypatch.setattr(procedural, "moving_clip", lambda draws, background, *_: background)
    source, material = ProceduralClips(SPEC), Material()
    source.register_files(material)
    material.device = torch.device("meta")
    assert source[0].device.type == "meta"


def test_a_bank_holds_what_is_still_to_be_shown_and_no_more(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 12 clips shown twice, two processes make their own; one that begins late makes the rest."""
    made: list[int] = []
    original = Mixture.__getitem__
    monkeypatch.setattr(Mixture, "__getitem__", lambda self, number: made.append(number) or original(self, number))
    source = banked(folder, 12, uses=2)
    for taken in (in_batches(range(24), 4), [[0, 1], [4, 5], [8, 9]], [[22], [23]]):
        made.clear()
        wanted = {source.source_number(number) for numbers in taken for number in numbers}
        for _ in source.batches(taken, HERE):
            assert made == sorted(wanted), "all of them before the first is shown"


def folder_or_manifest(folder: Path, sized: bool) -> Path:
    """The photographs with their sizes in a manifest, or in their files only."""
    listed = folder / "listed.jsonl"
    write_manifest(listed, "photos", [Entry(f"photos/{n}.png", width=160, height=120) for n in range(4)])
    return listed if sized else folder / "photos"


@pytest.mark.parametrize("sized", [True, False])
def test_files_are_decoded_once_for_clips_of_all_shapes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, sized: bool
) -> None:
    read: list[Path] = []
    for kind in (Photo, Film):
        original = kind.read

        def counted(self: Photo | Film, *rest: object, original: object = original) -> Tensor:
            read.append(self.path)
            return original(self, *rest)  # type: ignore[operator, no-any-return]

        monkeypatch.setattr(kind, "read", counted)
    listed = folder_or_manifest(folder, sized)
    material = Material()
    for spec in (SPEC, ClipSpec(9, 16, 16), SPEC):
        parts: list[tuple[Clips, float]] = [(PhotoClips(listed, spec), 1), (VideoClips(folder / "films", spec), 1)]
        drawn(DeviceClips(Mixture(parts), spec, Bank(8), material), in_batches(range(12), 4))
    assert sorted(path.name for path in read) == ["0.png", "1.png", "2.png", "3.png", "as_it_is.mkv", "shrunk.mkv"]


@pytest.mark.parametrize("sized", [True, False])
def test_more_than_the_memory_is_refused_before_anything_is_decoded(
    folder: Path, monkeypatch: pytest.MonkeyPatch, sized: bool
) -> None:
    """Four photographs of 120 × 160, 12 frames of 40 × 56 and 20 of 64 × 80; clips of 5 × 32 × 48."""
    listed = folder_or_manifest(folder, sized)
    parts: list[tuple[Clips, float]] = [(PhotoClips(listed, SPEC), 1), (VideoClips(folder / "films", SPEC), 1)]
    source = DeviceClips(Mixture(parts), SPEC, Bank(100), Material())
    kept, bank = 3 * (4 * 120 * 160 + 12 * 40 * 56 + 20 * 64 * 80), 103 * 3 * 5 * 32 * 48
    taken = in_batches(range(1000), 4)
    with monkeypatch.context() as patched:
        patched.setattr(material_module, "read_picture", None)
        patched.setattr(material_module, "read_frames", None)
        with pytest.raises(UsageError) as refused:
            next(iter(source.batches(taken, LoaderOptions(memory=(kept + bank - 1) / 1e9))))
    said = str(refused.value)
    assert f"{kept / 1e9:.3g} GB" in said and f"{bank / 1e9:.3g} GB" in said and f"{(kept + bank) / 1e9:.3g} GB" in said
    assert "103 clips of 0.023 MB" in said
    next(iter(source.batches(taken, LoaderOptions(memory=(kept + bank) / 1e9))))
    next(iter(source.batches(taken[:3], LoaderOptions(memory=(kept + 12 * 3 * 5 * 32 * 48) / 1e9))))  # no more clips


def test_photographs_beyond_the_longest_side_are_counted_and_kept_as_they_are_shrunk(tmp_path: Path) -> None:
    path = photo(tmp_path / "photos" / "one.png", 120, 161)
    for longest, size in ((200, (120, 161)), (100, (75, 100)), (60, (45, 60))):
        for file in (Photo(path, longest, 120, 161), Photo(path, longest)):
            assert file.read().shape == (3, *size) and file.nbytes == 3 * size[0] * size[1]


def test_what_cannot_be_read_is_passed_over_as_ever(folder: Path, tmp_path: Path) -> None:
    for name in ("0.png", "1.png"):
        (tmp_path / name).write_bytes((folder / "photos" / name).read_bytes())
    (tmp_path / "broken.png").write_bytes((folder / "photos" / "2.png").read_bytes()[:500])
    photo(tmp_path / "small.png", 20, 30)
    usual = PhotoClips(tmp_path, SPEC)
    source = DeviceClips(PhotoClips(tmp_path, SPEC), SPEC, Bank(8), Material())
    found = drawn(source, in_batches(range(16), 4))
    assert all(torch.equal(found[number], usual[number]) for number in range(16))
    assert source.skipped == usual.skipped == {"broken.png": "cannot be read", "small.png": "is too short or too small"}


def test_a_bank_has_clips_and_each_is_used() -> None:
    for clips, uses in ((0, 1), (1, 0)):
        with pytest.raises(UsageError, match="a bank has clips"):
            Bank(clips, uses)
