"""Build the latent codec of a preset."""

from gnvc_vd.learned.bottleneck.base import Bottleneck
from gnvc_vd.learned.bottleneck.contextual import Contextual
from gnvc_vd.learned.bottleneck.transform import Transform
from gnvc_vd.presets import BottleneckPreset, TransformPreset


def bottleneck_of(preset: BottleneckPreset, thrift: float = 0.0) -> Bottleneck:
    return Transform(preset, thrift) if isinstance(preset, TransformPreset) else Contextual(preset, thrift)
