"""Measuring what the codecs achieve."""

import gnvc_vd.common.compat  # noqa: F401 - metrics and baselines import torchvision
