"""From integers to bytes: exact networks, frozen tables, a guarded coder; and the likelihoods that train them."""

import gnvc_vd.common.compat  # noqa: F401 - compressai imports torchvision
