"""A search over all 64 qualities, on units whose sizes are known."""

from dataclasses import dataclass, field

import pytest

from gnvc_vd.bitstream import Unit, pack_stream
from gnvc_vd.conventions import GnvcError, UsageError
from gnvc_vd.learned.codec import EncodeOptions
from gnvc_vd.learned.rate_search import TargetSize, search
from tests.bitstream.streams import HEADER

SIZES = [round(100 * 1.06**quality) for quality in range(64)]


@dataclass
class Searched:
    """What a search coded, and said."""

    tried: list[int] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def coded(self, quality: int) -> list[Unit]:
        self.tried.append(quality)
        return [Unit(at, 25, quality, 0, b"hash", bytes(SIZES[quality])) for at in range(3)]

    def best(self, size: float, is_limit: bool) -> int:
        units = search(self.coded, HEADER, TargetSize(size, is_limit), lambda *_: None, self.said.append)
        assert len(self.tried) == len(set(self.tried)) <= 7
        return units[0].quality


FILES = [len(pack_stream(HEADER, Searched().coded(quality))) for quality in range(64)]


@pytest.mark.parametrize("quality", range(63))
def test_the_nearest_of_all_qualities_is_taken(quality: int) -> None:
    between = (FILES[quality] + FILES[quality + 1]) / 2
    for size, nearest in ((FILES[quality], quality), (between - 1, quality), (between + 1, quality + 1)):
        searched = Searched()
        assert searched.best(size, is_limit=False) == nearest and searched.said == []


@pytest.mark.parametrize("quality", range(63))
def test_a_limit_is_never_passed(quality: int) -> None:
    assert Searched().best(FILES[quality], is_limit=True) == quality
    assert Searched().best(FILES[quality + 1] - 1, is_limit=True) == quality
    assert FILES[quality] > 0.75 * FILES[quality + 1]


def test_what_is_out_of_reach_is_said() -> None:
    for size, is_limit, quality, which in (
        (1e6, False, 63, "highest"),
        (1e6, True, 63, "highest"),
        (1, False, 0, "lowest"),
    ):
        searched = Searched()
        assert searched.best(size, is_limit) == quality
        (said,) = searched.said
        assert said.startswith(f"the {which} rate for this video is ") and f"{FILES[quality]} bytes" in said
    with pytest.raises(GnvcError, match=f"the lowest rate for this video is .* {FILES[0]} bytes.; at most 10 bytes"):
        Searched().best(10, is_limit=True)


def test_one_rate_is_asked_for_at_most() -> None:
    with pytest.raises(UsageError, match="give only one of a rate in bits per pixel"):
        EncodeOptions(bpp=1, target_size=100)
