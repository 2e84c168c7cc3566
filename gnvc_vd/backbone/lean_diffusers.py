"""diffusers' models imported without the packages that stand beside them. For programs; a library must not.

When diffusers is first imported it asks which of some packages are there, and from then on imports those with whatever
is asked of it. Wan's two networks need none of them, and they take half the time. What diffusers was not shown it never
sees later in that process, so its pipelines are of no use there.
"""

import sys

BESIDE = ("accelerate", "peft", "scipy", "torchvision", "transformers")


def import_diffusers(lean: bool) -> None:
    """Import diffusers, lean or as it is. If it is imported already, nothing changes."""
    hidden = {name: None for name in BESIDE if lean and not {name, "diffusers"} & sys.modules.keys()}
    sys.modules |= hidden  # type: ignore[arg-type]  # None is how Python says that there is no such module
    try:
        import diffusers.models.modeling_utils  # noqa: F401 - what all its models are built on
    finally:
        for name in hidden:
            del sys.modules[name]
