"""`gnvc-vd compare`: every measure of one video against another, frame by frame, in one pass.

    REF, TEST ──pictures──▶ Pairing ──Pair──▶ each Measure.add ──▶ … ──▶ each Measure.value

Two frames of each video are held, however long they are. A measure that cannot run becomes null, with its reason.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice, zip_longest

import torch
from tqdm import tqdm

from gnvc_vd.conventions import GnvcError, UsageError
from gnvc_vd.metrics import fidelity, perceptual
from gnvc_vd.metrics.fidelity import MsSsim, psnr_rgb, psnr_yuv
from gnvc_vd.metrics.optical_flow import FLOWS, dis, raft
from gnvc_vd.metrics.pairs import FrameMean, Measure, Pair, Pairing
from gnvc_vd.metrics.perceptual import dists, lpips, st_lpips
from gnvc_vd.metrics.temporal import WarpingError
from gnvc_vd.metrics.vmaf import Vmaf
from gnvc_vd.video import Picture, RawVideo, Video, open_video
from gnvc_vd.video.reader import is_raw


@dataclass(frozen=True)
class Metric:
    """What tables and plots call it, and which way is better."""

    label: str
    lower_is_better: bool = False


METRICS = {
    "psnr_rgb": Metric("PSNR RGB, dB"),
    "psnr_yuv": Metric("PSNR YUV 6:1:1, dB"),
    "ms_ssim": Metric("MS-SSIM"),
    "lpips_alex": Metric("LPIPS (AlexNet)", lower_is_better=True),
    "lpips_vgg": Metric("LPIPS (VGG)", lower_is_better=True),
    "dists": Metric("DISTS", lower_is_better=True),
    "st_lpips_alex": Metric("ST-LPIPS (AlexNet)", lower_is_better=True),
    "st_lpips_vgg": Metric("ST-LPIPS (VGG)", lower_is_better=True),
    "vmaf": Metric("VMAF"),
    "e_warp": Metric("E_warp", lower_is_better=True),
}


@dataclass(frozen=True)
class Comparison:
    """What `compare` found: a figure per metric, None where `missing` says why."""

    frames: int
    width: int
    height: int
    figures: dict[str, float | None]
    missing: dict[str, str]
    notices: tuple[str, ...]
    seconds: float
    seconds_by_metric: dict[str, float]

    def as_dict(self) -> dict[str, object]:
        """What --json says: the metrics beside the rest."""
        rest = {key: value for key, value in vars(self).items() if key != "figures"}
        return self.figures | rest

    def as_text(self) -> str:
        lines = [f"{self.frames} frames of {self.width}×{self.height}"]
        for name, figure in self.figures.items():
            lines.append(f"{name:14}{f'{figure:.4f}' if figure is not None else f'–  {self.missing[name]}'}")
        return "\n".join(lines)


def check_measures(metrics: Sequence[str], flow: str) -> None:
    """Whether there is all that is asked for."""
    unknown = [name for name in metrics if name not in METRICS]
    if unknown or not metrics:
        raise UsageError(f"there is no metric {', '.join(unknown) or 'to compute'}; there are {', '.join(METRICS)}")
    if flow not in FLOWS:
        raise UsageError(f"there is no flow {flow!r}; there are {', '.join(FLOWS)}")


def compare(
    reference: str,
    test: str,
    frames: int | None = None,
    metrics: Sequence[str] = tuple(METRICS),
    raw: RawVideo | None = None,
    flow: str = "dis",
    device: str = "cpu",
) -> Comparison:
    """Compare the frames that both videos have, `frames` of them at most.

    Args:
        metrics: which to compute; the others are missing because nobody asked.
        raw: what those of the two that are headerless YUV hold.
        flow: what finds the motion for e_warp: dis or raft.
    """
    check_measures(metrics, flow)
    if reference == test == "-":
        raise UsageError("standard input holds one video; two are compared")
    if raw is not None and not (is_raw(reference) or is_raw(test)):
        raise UsageError("both videos say their size themselves; --size, --fps and --pix are for raw YUV")
    start = time.perf_counter()
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(open_video(source, raw if is_raw(source) else None)) for source in (reference, test)
        )
        sizes = [(video.info.width, video.info.height) for video in (first, second)]
        if sizes[0] != sizes[1]:
            shown = [f"{width}×{height}" for width, height in sizes]
            raise GnvcError(f"{reference} is {shown[0]} and {test} {shown[1]}: only videos of one size can be compared")
        panel = Panel(metrics, *sizes[0], flow, device)
        stack.callback(panel.close)
        notices = list(_notices(reference, first, test, second))
        pairing = Pairing(first.info.colour, device)
        total = min((n for n in (frames, first.info.frames, second.info.frames) if n is not None), default=None)
        pairs = _side_by_side(first, second, frames, (reference, test), notices)
        count = 0
        for one, other in tqdm(pairs, total=total, unit="frame", desc="comparing", disable=None):
            panel.add(pairing(one, other))
            count += 1
        figures = panel.figures()
    seconds = time.perf_counter() - start
    return Comparison(count, *sizes[0], figures, panel.missing, tuple(notices), seconds, panel.seconds)


class Panel:
    """The measures of one comparison: those that run, how long each took, and why the others do not."""

    def __init__(self, metrics: Sequence[str], width: int, height: int, flow: str, device: str) -> None:
        self.missing: dict[str, str] = {}
        self.seconds: dict[str, float] = {}
        self._running: dict[str, Measure] = {}
        self._vmaf = Vmaf()

        def network(module: torch.nn.Module, check_size: Callable[[int, int], None] = perceptual.check_size) -> Measure:
            check_size(width, height)
            on_device = module.to(device)
            return FrameMean(torch.inference_mode()(lambda pair: float(on_device(*pair.tensors))))

        makers: dict[str, Callable[[], Measure]] = {
            "psnr_rgb": lambda: FrameMean(psnr_rgb),
            "psnr_yuv": lambda: FrameMean(lambda pair: psnr_yuv(pair.reference_planes, pair.test_planes)),
            "ms_ssim": lambda: network(MsSsim(), fidelity.check_size),
            "lpips_alex": lambda: network(lpips("alex")),
            "lpips_vgg": lambda: network(lpips("vgg")),
            "dists": lambda: network(dists()),
            "st_lpips_alex": lambda: network(st_lpips("alex")),
            "st_lpips_vgg": lambda: network(st_lpips("vgg")),
            "vmaf": lambda: self._vmaf,
            "e_warp": lambda: WarpingError(raft(device) if flow == "raft" else dis),
        }
        assert list(makers) == list(METRICS)
        for name, make in makers.items():
            if name not in metrics:
                self.missing[name] = "not asked for"
                continue
            with self._missing_if_it_fails(name):
                self._running[name] = make()
        self.seconds = dict.fromkeys(self._running, 0.0)

    def add(self, pair: Pair) -> None:
        for name, measure in list(self._running.items()):
            with self._missing_if_it_fails(name), self._timed(name):
                measure.add(pair)

    def figures(self) -> dict[str, float | None]:
        """In the order of METRICS."""
        figures: dict[str, float | None] = dict.fromkeys(METRICS)
        for name, measure in list(self._running.items()):
            with self._missing_if_it_fails(name), self._timed(name):
                figures[name] = measure.value()
        return figures

    def close(self) -> None:
        self._vmaf.close()

    @contextmanager
    def _missing_if_it_fails(self, name: str) -> Iterator[None]:
        try:
            yield
        except GnvcError as error:
            self.missing[name] = str(error)
            self._running.pop(name, None)
            self.seconds.pop(name, None)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - start


def _notices(reference: str, first: Video, test: str, second: Video) -> Iterator[str]:
    for name, video in ((reference, first), (test, second)):
        yield from (f"{name}: {notice}" for notice in video.info.notices)
    if first.info.rate != second.info.rate:
        yield f"frame rates differ ({first.info.rate} and {second.info.rate}): frames are compared in their order"


def _side_by_side(
    first: Video, second: Video, frames: int | None, names: tuple[str, str], notices: list[str]
) -> Iterator[tuple[Picture, Picture]]:
    """Pairs while both videos go on; where only one does, a notice says so."""
    both = zip_longest(first.pictures(), second.pictures())
    for count, (one, other) in enumerate(islice(both, frames)):
        if one is None or other is None:
            shorter, longer = names if one is None else names[::-1]
            notices.append(f"{shorter} ends after {count} frames and {longer} goes on: {count} are compared")
            return
        yield one, other
