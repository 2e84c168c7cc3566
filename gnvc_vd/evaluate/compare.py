"""`gnvc-vd compare`: measure a video against a reference with all metrics, in one pass.

    REF, TEST ──pictures──▶ PairMaker ──Pair──▶ each Measure.add ──▶ … ──▶ each Measure.value

Two frames of each video are in memory. A metric that cannot run is null, with its reason under `missing`.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, zip_longest
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from gnvc_vd.backbone.sources import repository_of
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import GnvcError
from gnvc_vd.metrics import fidelity, perceptual
from gnvc_vd.metrics.cvvdp import DISPLAY, ColorVideoVdp
from gnvc_vd.metrics.features import ClipF, FrechetDistance, clip_images, videomae
from gnvc_vd.metrics.fidelity import MsSsim, psnr_rgb, psnr_yuv
from gnvc_vd.metrics.flicker import FlickerSpectrum
from gnvc_vd.metrics.lattice import BlockLattice, Lattice
from gnvc_vd.metrics.optical_flow import FLOWS, FlowEstimator, dis, raft, remembering
from gnvc_vd.metrics.pairs import FrameMean, Measure, Pair, PairMaker
from gnvc_vd.metrics.perceptual import dists, lpips, st_lpips
from gnvc_vd.metrics.temporal import WarpingError
from gnvc_vd.metrics.vmaf import Vmaf
from gnvc_vd.metrics.weight_files import NETWORKS, checked_network
from gnvc_vd.video import RawVideo, Video, open_video
from gnvc_vd.video.reader import is_raw


@dataclass(frozen=True)
class Metric:
    """A metric: its label in tables and plots, a function that makes its measure, and which values are better."""

    label: str
    measure: Callable[["Panel"], Measure]
    lower_is_better: bool = False


def _psnr_of_planes(pair: Pair) -> float:
    return psnr_yuv(pair.reference_planes, pair.test_planes)


METRICS = {
    "cvvdp": Metric(f"ColorVideoVDP ({DISPLAY}), JOD", lambda panel: panel.visible()),
    "vmaf": Metric("VMAF", lambda panel: panel.enter_context(closing(Vmaf()))),
    "psnr_rgb": Metric("PSNR RGB, dB", lambda _: FrameMean(psnr_rgb)),
    "psnr_yuv": Metric("PSNR YUV 6:1:1, dB", lambda _: FrameMean(_psnr_of_planes)),
    "ms_ssim": Metric("MS-SSIM", lambda panel: panel.network(MsSsim(), fidelity.check_size)),
    "lpips_alex": Metric("LPIPS (AlexNet)", lambda panel: panel.network(lpips("alex")), lower_is_better=True),
    "lpips_vgg": Metric("LPIPS (VGG)", lambda panel: panel.network(lpips("vgg")), lower_is_better=True),
    "dists": Metric("DISTS", lambda panel: panel.network(dists()), lower_is_better=True),
    "st_lpips_alex": Metric("ST-LPIPS (AlexNet)", lambda panel: panel.network(st_lpips("alex")), lower_is_better=True),
    "st_lpips_vgg": Metric("ST-LPIPS (VGG)", lambda panel: panel.network(st_lpips("vgg")), lower_is_better=True),
    "e_warp": Metric("E_warp", lambda panel: WarpingError(panel.flow()), lower_is_better=True),
    "flicker": Metric("flicker, levels²", lambda panel: FlickerSpectrum(estimate=panel.flow()), lower_is_better=True),
    "clip_f": Metric("CLIP-F", lambda panel: ClipF(clip_images(network_folder("clip_f"), panel.device))),
    "frechet": Metric("Fréchet distance (VideoMAE)", lambda panel: panel.frechet(), lower_is_better=True),
    "lattice_2": Metric("lattice of stride 2, levels", lambda _: Lattice(2), lower_is_better=True),
    "lattice_4": Metric("lattice of stride 4, levels", lambda _: Lattice(4), lower_is_better=True),
    "lattice_8": Metric("lattice of stride 8, levels", lambda _: Lattice(8), lower_is_better=True),
    "lattice_16": Metric("lattice of blocks of 16, levels", lambda _: BlockLattice(), lower_is_better=True),
}


@dataclass(frozen=True)
class Comparison:
    """Result of `compare`: values by metric, None if `missing` has a reason; `viewing`: conditions for cvvdp."""

    frames: int
    width: int
    height: int
    viewing: str
    figures: dict[str, float | None]
    missing: dict[str, str]
    notices: tuple[str, ...]
    seconds: float
    seconds_by_metric: dict[str, float]
    flicker_spectrum: tuple[float, ...] = ()  # energies of flicker's bands, drift first

    def as_dict(self) -> dict[str, object]:
        """The keys of --json: the metrics and all other fields."""
        return self.figures | {key: value for key, value in vars(self).items() if key != "figures"}

    def as_text(self) -> str:
        lines = [f"{self.frames} frames of {self.width}×{self.height}"]
        for name, figure in self.figures.items():
            viewing = f"  JOD, {self.viewing}" if name == "cvvdp" else ""
            text = f"–  {self.missing[name]}" if figure is None else f"{figure:.4f}{viewing}"
            lines.append(f"{name:14}{text}")
        return "\n".join(lines)


def check_measures(metrics: Sequence[str], flow: str) -> None:
    """Raise UsageError if there is no such metric or flow."""
    unknown = [name for name in metrics if name not in METRICS]
    message = f"there is no metric {', '.join(unknown) or 'to compute'}; there are {', '.join(METRICS)}"
    require(metrics and not unknown, message)
    require(flow in FLOWS, f"there is no flow {flow!r}; there are {', '.join(FLOWS)}")


def compare(
    reference: str,
    test: str,
    frames: int | None = None,
    metrics: Sequence[str] = tuple(METRICS),
    raw: RawVideo | None = None,
    flow: str = "dis",
    device: str = "cpu",
) -> Comparison:
    """Compare the frames that both videos have, at most `frames` of them.

    Args:
        metrics: metrics to compute; the others count as missing.
        raw: size, rate and format of those of the two that are raw YUV.
        flow: optical flow for e_warp and flicker: dis or raft.
    """
    check_measures(metrics, flow)
    require(not reference == test == "-", "standard input holds one video, but two are compared")
    any_raw = is_raw(reference) or is_raw(test)
    require(raw is None or any_raw, "neither video is raw YUV; --size, --fps and --pix are for raw YUV")
    start = time.perf_counter()
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(open_video(source, raw if is_raw(source) else None)) for source in (reference, test)
        )
        sizes = [(video.info.width, video.info.height) for video in (first, second)]
        message = "{} is {}×{} and {} {}×{}: only videos of one size can be compared"
        require(sizes[0] == sizes[1], message.format(reference, *sizes[0], test, *sizes[1]), GnvcError)
        rate = first.info.rate
        panel = stack.enter_context(Panel(metrics, *sizes[0], rate, flow, device))
        notices = list(_notices(reference, first, test, second))
        pairing = PairMaker(first.info.colour, device)
        total = min((n for n in (frames, first.info.frames, second.info.frames) if n is not None), default=None)
        pairs = islice(zip_longest(first.pictures(), second.pictures()), frames)
        count = 0
        for one, other in tqdm(pairs, total=total, unit="frame", desc="comparing", disable=None):
            if one is None or other is None:
                shorter, longer = (reference, test) if one is None else (test, reference)
                notices.append(f"{shorter} ends after {count} frames and {longer} goes on: {count} are compared")
                break
            panel.add(pairing(one, other))
            count += 1
        figures = panel.figures()
        notices += panel.notices
    seconds = time.perf_counter() - start
    viewing = f"display {DISPLAY}, {float(rate):.6g} frames a second"
    missing, said = panel.missing, tuple(notices)
    return Comparison(count, *sizes[0], viewing, figures, missing, said, seconds, panel.seconds, panel.bands)


class Panel(ExitStack):
    """The measures of one comparison, the seconds of each, and the reasons of those that cannot run.

    `close` ends external programs.
    """

    device: str

    def __init__(self, metrics: Sequence[str], width: int, height: int, rate: Fraction, flow: str, device: str) -> None:
        super().__init__()
        self._size, self._rate, self._flow, self.device = (width, height), rate, flow, device
        self.missing: dict[str, str] = {}
        self.notices: list[str] = []  # complete after `figures`, as are the bands
        self.bands: tuple[float, ...] = ()
        self._estimate: FlowEstimator | None = None
        self.seconds = dict.fromkeys(METRICS, 0.0)
        self._running: dict[str, Measure] = {}
        for name, metric in METRICS.items():
            if name not in metrics:
                self.missing[name] = "not asked for"
                continue
            with self._time_metric(name):
                self._running[name] = metric.measure(self)
        self.seconds = dict.fromkeys(self._running, 0.0)  # without loading

    def network(self, module: nn.Module, check_size: Callable[[int, int], None] = perceptual.check_size) -> Measure:
        """The mean over frames of a network's output for two pictures, on the panel's device."""
        check_size(*self._size)
        on_device = module.to(self.device)
        return FrameMean(torch.inference_mode()(lambda pair: float(on_device(*pair.tensors))))

    def visible(self) -> ColorVideoVdp:
        return ColorVideoVdp(*self._size, self._rate, self.device)

    def flow(self) -> FlowEstimator:
        """The flow estimator, shared by all measures, so that each step's flow is computed once."""
        if self._estimate is None:
            self._estimate = remembering(raft(self.device) if self._flow == "raft" else dis)
        return self._estimate

    def frechet(self) -> FrechetDistance:
        return FrechetDistance(videomae(network_folder("frechet"), self.device))

    def add(self, pair: Pair) -> None:
        for name, measure in list(self._running.items()):
            with self._time_metric(name):
                measure.add(pair)

    def figures(self) -> dict[str, float | None]:
        """Values in the order of METRICS."""
        figures: dict[str, float | None] = dict.fromkeys(METRICS)
        for name, measure in list(self._running.items()):
            with self._time_metric(name):
                figures[name] = measure.value()
        for measure in self._running.values():
            if isinstance(measure, FlickerSpectrum):
                self.bands = measure.spectrum()
            if isinstance(measure, ClipF):
                self.notices.append(f"CLIP-F of the original is {measure.original():.4f}")
        return figures

    @contextmanager
    def _time_metric(self, name: str) -> Iterator[None]:
        """Add the seconds of the block to a metric; an error makes the metric a missing one."""
        start = time.perf_counter()
        try:
            yield
            self.seconds[name] += time.perf_counter() - start
        except GnvcError as error:
            self.missing[name] = str(error)
            self._running.pop(name, None)
            self.seconds.pop(name, None)


def network_folder(metric: str) -> Path:
    """Folder of a metric's network from the hub; raises UnavailableError if it is missing or another."""
    return checked_network(NETWORKS[metric], repository_of(NETWORKS[metric].name)[1])


def _notices(reference: str, first: Video, test: str, second: Video) -> Iterator[str]:
    for name, video in ((reference, first), (test, second)):
        yield from (f"{name}: {notice}" for notice in video.info.notices)
    if first.info.rate != second.info.rate:
        yield f"frame rates differ ({first.info.rate} and {second.info.rate}): frames are compared in their order"
