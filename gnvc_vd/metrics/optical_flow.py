"""Dense optical flow, warping along it, and masks of visible pixels.

A flow F from a first frame to a second says, in pixels (x, y), that what is at p in the first is at p + F(p) in the
second. Warping is backward: W(z)(p) = z(p + F(p)), bilinear, so it brings the second frame to where the first is.
"""

from collections.abc import Callable
from threading import Lock

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 – everyone's name for it
from numpy.typing import NDArray
from torch import Tensor

from gnvc_vd.conventions import Frame
from gnvc_vd.metrics import check_sides
from gnvc_vd.metrics.weight_files import RAFT_LARGE, from_torch_home

FlowField = NDArray[np.float32]  # H W 2
Mask = NDArray[np.bool_]  # H W
FlowEstimator = Callable[[Frame, Frame], FlowField]
FLOWS = ("dis", "raft")  # what finds the motion, by name
DIS_SMALLEST_SIDE = 32
RAFT_SMALLEST_SIDE = 128
ONE_AT_A_TIME = Lock()  # OpenCV's number of threads is the whole process's


def dis(first: Frame, second: Frame) -> FlowField:
    """OpenCV's DIS (Kroeger et al., ECCV 2016), preset medium, on grey at full size. Needs no weights.

    One thread: its stripes are as many as its threads, and flow does not propagate across them.
    """
    import cv2

    height, width = first.shape[:2]
    check_sides(DIS_SMALLEST_SIDE, width, height)
    with ONE_AT_A_TIME:
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (first, second)]
            estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
            return np.asarray(estimator.calc(grey[0], grey[1], None), np.float32)  # type: ignore[call-overload]
        finally:
            cv2.setNumThreads(threads)


def raft(device: str = "cpu") -> FlowEstimator:
    """torchvision's RAFT-large (Teed and Deng, ECCV 2020) with its weights from $TORCH_HOME; 12 updates."""
    tensors = from_torch_home(RAFT_LARGE)
    import gnvc_vd.common.compat  # noqa: F401, I001 - before torchvision
    from torchvision.models.optical_flow import raft_large

    network = raft_large(weights=None).eval().to(device)
    network.load_state_dict(tensors)

    @torch.inference_mode()
    def estimate(first: Frame, second: Frame) -> FlowField:
        height, width = first.shape[:2]
        check_sides(RAFT_SMALLEST_SIDE, width, height, "RAFT ")
        frames = torch.from_numpy(np.stack([first, second])).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
        frames = F.pad(frames, (0, -width % 8, 0, -height % 8), mode="replicate")
        flow = network(frames[:1], frames[1:])[-1][0, :, :height, :width]
        return flow.permute(1, 2, 0).float().cpu().numpy()

    return estimate


def remembering(estimate: FlowEstimator) -> FlowEstimator:
    """The flow between the same two frames is found once, for measures that take the same steps."""
    last: list[tuple[Frame, Frame, FlowField]] = []  # there and back

    def once(first: Frame, second: Frame) -> FlowField:
        found = next((flow for a, b, flow in last if a is first and b is second), None)
        if found is None:
            found = estimate(first, second)
            last[:] = [*last[-1:], (first, second, found)]
        return found

    return once


def warp(z: Tensor, flow: FlowField) -> Tensor:
    """B C H W brought to the first frame's place; outside the picture its edge goes on."""
    height, width = flow.shape[:2]
    x, y = _targets(flow, z)
    grid = torch.stack([2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1], dim=-1)
    grid = grid.expand(len(z), -1, -1, -1)
    return F.grid_sample(z, grid, mode="bilinear", padding_mode="border", align_corners=True)


def visible(forward: FlowField, backward: FlowField) -> Mask:
    """Where the first frame's pixels are seen in the second: there and back again ends where it began.

    |F + B∘F|² ≤ 0.01 (|F|² + |B∘F|²) + 0.5 (Sundaram et al., ECCV 2010), and p + F(p) lies inside the picture.
    """
    height, width = forward.shape[:2]
    there = torch.from_numpy(forward).double()
    x, y = _targets(forward, there)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    back = warp(torch.from_numpy(backward).double().permute(2, 0, 1)[None], forward)[0].permute(1, 2, 0)
    missed = (there + back).square().sum(-1)
    allowed = 0.01 * (there.square().sum(-1) + back.square().sum(-1)) + 0.5
    return (inside & (missed <= allowed)).numpy()


def _targets(flow: FlowField, like: Tensor) -> tuple[Tensor, Tensor]:
    """p + F(p)."""
    field = torch.from_numpy(flow).to(like)
    height, width = flow.shape[:2]
    y, x = torch.meshgrid(torch.arange(height).to(like), torch.arange(width).to(like), indexing="ij")
    return x + field[..., 0], y + field[..., 1]
