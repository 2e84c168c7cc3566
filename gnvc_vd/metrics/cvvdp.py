"""ColorVideoVDP: the visibility of differences on a given display, by the authors' package.

    frame of both ──display, opponent colours──▶ filtered over ¼ s ──contrast pyramid, masking──▶ visibility per band
    visibilities of all frames ──pooled──▶ JOD: 10 where nothing is seen, less by one just-objectionable difference each

The package's own loop wants to know beforehand how many frames there are; its parts are called here frame by frame, as
frames come. Of its classes, those that download weights are never made.
"""

from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from gnvc_vd.conventions import Frame
from gnvc_vd.metrics import UnavailableError, check_sides
from gnvc_vd.metrics.pairs import Pair

DISPLAY = "standard_fhd"  # 24 inches, 1920 × 1080, 200 cd/m², office light, 0.6 m away; the package's description
COLOURS = "DKLd65"  # in which the metric takes frames
CHANNELS = 4  # luminance, red–green, violet–yellow, and what changes in luminance
SMALLEST = 32  # pixels


class ColorVideoVdp:
    """ColorVideoVDP (Mantiuk et al., SIGGRAPH 2024) of a video in JOD. It holds a quarter of a second."""

    def __init__(self, width: int, height: int, rate: Fraction, device: str) -> None:
        check_sides(SMALLEST, width, height)
        import gnvc_vd.common.compat  # noqa: F401 - before torchvision, which the package imports

        try:
            from pycvvdp.cvvdp_metric import cvvdp, cvvdp_frame_buffers
            from pycvvdp.lpyr_dec import weber_contrast_pyr
        except ImportError as error:
            raise UnavailableError(f"needs the package cvvdp, which cannot be imported: {error}") from error
        on = torch.device(device)
        metric = cvvdp(DISPLAY, quiet=True, device=on)
        metric.lpyr = weber_contrast_pyr(width, height, metric.pix_per_deg, on, contrast=metric.contrast)
        metric.F, _ = metric.get_temporal_filters(float(rate))
        metric.filter_len = len(metric.F[0])
        self._metric, self._past, self._size = metric, cvvdp_frame_buffers(), (height, width)
        # Channels, bands of each frame; as numbers, since small tensors would lie between the large ones of two frames,
        # and memory that was freed there could not be used again.
        self._visible: list[list[list[float]]] = []

    @torch.inference_mode()
    def add(self, pair: Pair) -> None:
        source = _OnePair(pair, *self._size, self._metric.display_photometry)
        filtered = self._metric.read_block_of_frames(source, CHANNELS, self._past, 1, COLOURS, len(self._visible), 1)
        visible, _ = self._metric.process_block_of_frames(filtered, (*self._size, 1), 2, self._metric.lpyr, False)
        self._visible.append(visible[0, :, 0].tolist())

    @torch.inference_mode()
    def value(self) -> float:
        if len(self._visible) < 2:
            raise UnavailableError("needs two frames")
        visible = torch.tensor(self._visible, device=self._metric.device)  # T channels bands
        return float(self._metric.do_pooling_and_jods(visible.transpose(0, 1)[None]))


class _OnePair:
    """A frame of both videos as the package's metric asks for them."""

    def __init__(self, pair: Pair, height: int, width: int, display: Any) -> None:
        self._pair, self._size, self._display = pair, (height, width), display

    def get_video_size(self) -> tuple[int, int, int]:
        return (*self._size, 2)  # as many frames as make it a video

    def get_batch_size(self) -> int:
        return 1

    def get_test_frame(self, number: int, device: torch.device, colorspace: str) -> Tensor:
        return self._shown(self._pair.test, device, colorspace)

    def get_reference_frame(self, number: int, device: torch.device, colorspace: str) -> Tensor:
        return self._shown(self._pair.reference, device, colorspace)

    def _shown(self, frame: Frame, device: torch.device, colorspace: str) -> Tensor:  # 1 3 1 H W in cd/m²
        levels = torch.tensor(frame, device=device).permute(2, 0, 1)[None, :, None]
        return self._display.source_2_target_colorspace(levels.float() / 255, colorspace)
