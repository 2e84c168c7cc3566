"""What a run says of itself."""

from dataclasses import replace
from pathlib import Path

import pytest

from gnvc_vd.conventions import UsageError
from gnvc_vd.train.loop import train
from tests.train.runs import SETTINGS, clips, training


def test_a_tracker_that_is_not_installed_is_said_not_passed_over(tmp_path: Path) -> None:
    one = training("warmup", 2, frames=5, run=replace(SETTINGS, trackers=("comet_ml",)))
    with pytest.raises(UsageError, match="comet_ml is not installed"):
        train(one, clips, None, tmp_path)
