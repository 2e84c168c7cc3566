"""The frozen models. Nothing outside this folder knows diffusers."""

import gnvc_vd.common.compat  # noqa: F401 – before any module of this folder imports diffusers
