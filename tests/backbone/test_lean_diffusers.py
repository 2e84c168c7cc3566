"""diffusers in a program: without what stands beside it, the same velocities, and low-rank corrections nonetheless."""

import json
import subprocess
import sys

import pytest

VELOCITIES = """
import json, sys, torch
from dataclasses import replace
from gnvc_vd.backbone.weights import Options, random_backbone
from gnvc_vd.presets import preset
sizes = preset("nano")
backbone = random_backbone(sizes, Options(lean=sys.argv[1] == "lean"))
x = torch.randn(1, 16, 3, 4, 4, generator=torch.Generator().manual_seed(1))
backbone.dit
beside = sorted({"peft", "transformers", "accelerate", "torch._dynamo"} & set(sys.modules))
from gnvc_vd.learned.refine.refiner import Refiner
torch.manual_seed(2)
refiner = Refiner(backbone.dit, replace(sizes.adaptor, lora_rank=2), 8)
for name, parameter in refiner.named_parameters():
    if ".lora_" in name:
        torch.nn.init.normal_(parameter)
with torch.inference_mode(): velocity = refiner.velocity(x, 0.3, refiner.hints(x, x[:, :8], 0.3))
print(json.dumps([beside, velocity.flatten().tolist()]))
"""


def velocities(how: str) -> tuple[list[str], list[float]]:
    done = subprocess.run([sys.executable, "-c", VELOCITIES, how], capture_output=True, text=True, check=True)
    beside, values = json.loads(done.stdout.splitlines()[-1])
    return beside, values


@pytest.mark.slow
def test_velocities_are_those_of_diffusers_as_it_is() -> None:
    (lean, quick), (stock, wanted) = velocities("lean"), velocities("stock")
    assert lean == [] and stock == ["accelerate", "peft", "torch._dynamo", "transformers"]
    assert quick == wanted and len(set(wanted)) > 700  # not all alike


REST = """
from gnvc_vd.backbone.lean_diffusers import import_diffusers
import_diffusers(lean=True)
import diffusers, importlib.metadata, sys
assert diffusers.AutoencoderKLWan and diffusers.WanTransformer3DModel and diffusers.FluxTransformer2DModel
assert importlib.metadata.packages_distributions()["torch"] == ["torch"]
import huggingface_hub.constants, requests
assert huggingface_hub.constants.HF_HOME and huggingface_hub.HfApi().endpoint and requests.Session().headers
assert not [name for name, module in sys.modules.items() if module is None]
import torch
print(torch.compile(lambda x: 2 * x, backend="eager")(torch.ones(1)).item())
"""


@pytest.mark.slow
def test_what_was_hidden_is_there_again_after_the_import() -> None:
    done = subprocess.run([sys.executable, "-c", REST], capture_output=True, text=True, check=False)
    assert done.stdout == "2.0\n", done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("package", ["transformers", "huggingface_hub"])
def test_beside_what_is_there_already_diffusers_is_imported_as_it_is(package: str) -> None:
    """Transformers, which compressai's codecs bring, would ask for accelerate and not find it; a hub's client would
    make its functions of what stands for its modules."""
    code = (
        f"import {package}\nfrom gnvc_vd.backbone.lean_diffusers import import_diffusers\n"
        "import_diffusers(lean=True)\nimport huggingface_hub\n"
        "from diffusers.models.attention_dispatch import get_organization_overview as given\n"
        "print(given == huggingface_hub.get_organization_overview)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "True\n", done.stderr
