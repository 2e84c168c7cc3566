"""GVC's bench at small sizes: every row and figure."""

import pytest

from gnvc_vd.bench import gvc_speed


@pytest.mark.slow
def test_every_figure_of_the_small_case_is_there() -> None:
    report = gvc_speed.measure(places=4096, size=1024, side=32)
    assert set(report.figures) == {
        "gvc_search_ms",
        "gvc_search_ratio",
        "gvc_assemble_ms",
        "gvc_decode_s",
        "gvc_decode_ratio",
    }
    assert all(figure > 0 for figure in report.figures.values())
