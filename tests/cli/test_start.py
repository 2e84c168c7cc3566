"""A command imports what it needs: module lists, since seconds would measure what else the machine does."""

import subprocess
import sys
from pathlib import Path

import pytest

import gnvc_vd

SHIPPED = Path(gnvc_vd.__file__).parent / "assets"
CLIP = SHIPPED / "clips/bunny.mp4"
STREAM = Path(__file__).parents[1] / "golden/tiny.gnvc"  # of a quality that is refined
HEAVY = {  # a tenth of a second each, or more
    *("numpy", "av", "torch", "torch._dynamo", "torch._inductor", "torch.fx.experimental.symbolic_shapes", "sympy"),
    *("diffusers", "transformers", "peft", "accelerate", "torchvision", "compressai", "scipy", "cv2", "matplotlib"),
    *("hydra", "wandb", "lpips", "pandas", "PIL", "huggingface_hub", "requests", "yaml", "onnx", "triton"),
    *("diffusers.models.transformers", "diffusers.models.autoencoders", "gnvc_vd.zeroshot.codec"),
}
REFINING = {"diffusers", "yaml", "PIL"}  # diffusers, and what it cannot do without


def imported(*arguments: object) -> set[str]:
    """Which of the heavy modules a command has imported when it ends well."""
    code = (
        "import sys\nfrom gnvc_vd.cli.main import main\ntry: ended = main(sys.argv[1:])\n"
        "except SystemExit as stop: ended = stop.code\nprint(ended, *sys.modules, file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    ended, *modules = done.stderr.splitlines()[-1].split()
    assert ended == "0", done.stderr
    return HEAVY & set(modules)


@pytest.mark.parametrize("arguments", [("--help",), ("encode", "--help"), ("info", STREAM)])
def test_help_and_info_import_no_torch(arguments: tuple[object, ...]) -> None:
    assert imported(*arguments) == {"numpy"}


def test_an_encoder_imports_torch_and_av_alone(tmp_path: Path) -> None:
    assert imported("encode", CLIP, tmp_path / "a.gnvc", "--frames", 5) == {"numpy", "av", "torch"}


def test_a_decoder_that_refines_nothing_imports_torch_and_av_alone(tmp_path: Path) -> None:
    assert imported("decode", STREAM, tmp_path / "a.y4m", "--no-refine") == {"numpy", "av", "torch"}


def test_no_garbage_is_collected_while_torch_is_imported(tmp_path: Path) -> None:
    """Nothing is garbage then, and to look for it takes as long as a tenth of the import, or more."""
    code = (
        "import gc, sys\nfrom gnvc_vd.cli.main import main\nimporting = []\n"
        "gc.callbacks.append(lambda *_: importing.append('torch' in sys.modules and not gc.get_freeze_count()))\n"
        "main(sys.argv[1:])\nprint(any(importing), gc.get_freeze_count() > 100_000, gc.isenabled(), file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, "decode", STREAM, tmp_path / "a.y4m", "--no-refine"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "False True True"


@pytest.mark.slow
def test_a_decoder_that_refines_imports_diffusers_without_what_stands_beside_it(tmp_path: Path) -> None:
    assert imported("decode", STREAM, tmp_path / "a.y4m") == {"numpy", "av", "torch", *REFINING}


@pytest.mark.slow
def test_beside_another_attention_diffusers_is_imported_as_it_is(tmp_path: Path) -> None:
    """It may fetch a kernel, and asks the hub first whether that is to be trusted."""
    modules = imported("decode", STREAM, tmp_path / "a.y4m", "--attention", "_native_math")
    assert modules >= {"huggingface_hub", "requests", "diffusers"}


@pytest.mark.slow
def test_nor_do_verifying_and_the_contextual_codec_import_more(tmp_path: Path) -> None:
    assert imported("verify", STREAM) == {"numpy", "av", "torch"}
    encode = ("encode", CLIP, tmp_path / "a.gnvc", "--frames", 5, "--model")
    assert imported(*encode, SHIPPED / "tiny-contextual") == {"numpy", "av", "torch"}
