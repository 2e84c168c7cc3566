"""What a decoder computes in: tried once for a processor, kept, and read again."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gnvc_vd.backbone import decoder_precision
from gnvc_vd.backbone.decoder_precision import FILE, cpu_is_faster, decoder_dtype, seconds
from gnvc_vd.backbone.sources import user_cache
from tests.backbone.graphics import graphics_card

CPU = torch.device("cpu")


@pytest.fixture
def tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[torch.dtype]]:
    """Types that were tried, on a processor that is twice as fast in bfloat16, in an empty home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(decoder_precision, "has_units", lambda: True)
    types = list[torch.dtype]()

    def time_of(kind: torch.dtype) -> float:
        types.append(kind)
        return 1.0 if kind is torch.float32 else 0.5

    monkeypatch.setattr(decoder_precision, "seconds", time_of)
    cpu_is_faster.cache_clear()
    yield types
    cpu_is_faster.cache_clear()


def test_a_processor_is_tried_once(tried: list[torch.dtype]) -> None:
    for _ in range(3):
        assert decoder_dtype("auto", CPU) is torch.bfloat16
        cpu_is_faster.cache_clear()  # another program
    assert tried == [torch.float32, torch.bfloat16]
    (kept,) = json.loads((user_cache() / FILE).read_text()).values()
    assert kept is True


def test_a_cache_that_cannot_be_read_is_made_anew(tried: list[torch.dtype]) -> None:
    path = user_cache() / FILE
    path.parent.mkdir(parents=True)
    for count, content in enumerate((b"\xff", b"[]", b'{"x": 1}'), 1):
        path.write_bytes(content)
        assert decoder_dtype("auto", CPU) is torch.bfloat16 and len(tried) == 2 * count
        cpu_is_faster.cache_clear()


def test_without_units_nothing_is_tried(tried: list[torch.dtype], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_precision, "has_units", lambda: False)
    assert decoder_dtype("auto", CPU) is torch.float32 and tried == [] and not user_cache().exists()
    assert decoder_dtype("bf16", CPU) is torch.bfloat16 and decoder_dtype("fp32", CPU) is torch.float32


@pytest.mark.parametrize(("major", "kind"), [(7, torch.float32), (8, torch.bfloat16), (9, torch.bfloat16)])
def test_a_gpu_that_emulates_bfloat16_computes_in_float32(
    major: int, kind: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphics_card(monkeypatch, major)
    assert torch.cuda.is_bf16_supported()
    assert decoder_dtype("auto", torch.device("cuda")) is kind


def test_a_trial_is_of_time_that_passed() -> None:
    assert all(0 < seconds(kind) < 1 for kind in (torch.float32, torch.bfloat16))
