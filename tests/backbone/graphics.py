"""A GPU as torch describes one, for what is decided by its description alone."""

from types import SimpleNamespace

import pytest
import torch


def graphics_card(monkeypatch: pytest.MonkeyPatch, major: int) -> None:
    """A GPU of a compute capability, which makes tensors of bfloat16 whether it has units for them or not."""
    for name, value in (
        ("is_available", True),
        ("current_device", 0),
        ("get_device_properties", SimpleNamespace(major=major)),
        ("_check_bf16_tensor_supported", True),
    ):
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
