"""Papers' test conditions by name: how many frames in which GOPs, of what size and colour, measured by what."""

from dataclasses import dataclass

from gnvc_vd.bitstream.gop import check_gop
from gnvc_vd.common.strict import parse, read_object, require
from gnvc_vd.evaluate.compare import METRICS
from gnvc_vd.evaluate.test_sets import ASSETS

FOLDER = ASSETS / "protocols"
PROTOCOLS = tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


@dataclass(frozen=True)
class Protocol:
    """Test conditions; `measures` says of each metric's key what exactly is measured."""

    format: int
    title: str
    source: str
    frames: int
    gop: int
    width: int
    height: int
    colour: str
    measures: dict[str, str]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_gop(self.gop)
        unknown = ", ".join(self.measures.keys() - METRICS.keys())
        require(not unknown, f"there is no metric {unknown}", ValueError)


def read_protocol(name: str) -> Protocol:
    require(name in PROTOCOLS, f"there is no protocol {name!r}; there are {', '.join(PROTOCOLS)}")
    return parse(Protocol, read_object(FOLDER / f"{name}.json"), name)
