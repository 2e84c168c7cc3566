"""The mean of two adaptors on one codec."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gnvc_vd.bitstream.refinement import Refinement
from gnvc_vd.codecs.load import load, save
from gnvc_vd.conventions import GnvcError
from lab.tiny.average_adaptors import average, main


def test_an_adaptor_meets_another_halfway(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    codec = load("nano")
    own = {name: value.clone() for name, value in codec.refiner.adaptor().items()}
    save(codec, tmp_path / "one", "one")
    codec.refiner.load_adaptor({name: value + 1 for name, value in own.items()}, "here")
    save(codec, tmp_path / "other", "other")
    average(tmp_path / "one", tmp_path / "other", tmp_path / "met")
    met = load(tmp_path / "met")
    assert met.coded_identity == codec.coded_identity
    found = met.refiner.adaptor()
    assert found.keys() == own.keys() and all(torch.allclose(found[name], own[name] + 0.5) for name in own)
    with pytest.raises(GnvcError, match="other sizes than the model's"):
        average(tmp_path / "one", "tiny", tmp_path / "none")
    save(replace(codec, refinement=Refinement(9)), tmp_path / "c", "c")
    assert main([str(tmp_path / "one"), str(tmp_path / "c"), str(tmp_path / "none")]) == 1
    assert "refines in another way" in capsys.readouterr().err and not (tmp_path / "none").exists()
