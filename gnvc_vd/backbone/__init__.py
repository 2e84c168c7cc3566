"""The frozen models. Nothing outside this room knows diffusers."""

import gnvc_vd.common.compat  # noqa: F401 – before any module of this room imports diffusers
