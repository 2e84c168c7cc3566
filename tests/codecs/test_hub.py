"""Models by hub id: pushed, fetched, and loaded offline. The hub is a folder here, behind huggingface_hub's names."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from inspect import signature
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.utils import filter_repo_objects

from gnvc_vd.backbone.folder import read_description, write_description
from gnvc_vd.backbone.weights import load_backbone, save_backbone
from gnvc_vd.cli.main import main
from gnvc_vd.codecs.load import highest_refined_quality, load, save
from gnvc_vd.conventions import Colour, GnvcError, UsageError
from gnvc_vd.learned.codec import EncodeOptions
from gnvc_vd.train.push import files_to_push, push
from gnvc_vd.video import Video, VideoInfo, create_video, open_video
from tests.backbone.image_folders import save_image_folder
from tests.backbone.test_layouts import save_text_encoder
from tests.conftest import Script, smooth_clip

DOWNLOAD = signature(snapshot_download)  # of the one that the tests replace
COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = {"vae.safetensors", "dit.safetensors", "empty_prompt.safetensors", "codec.safetensors", "adaptor.safetensors"}


class Hub:
    """Repositories as folders ROOT/owner/name/revision; what is called of HfApi, and snapshot_download.

    Every call must be one that huggingface_hub's own function of this name takes.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.made, self.messages = root, list[str](), list[str]()

    def __call__(self) -> "Hub":
        return self

    def create_repo(self, repo_id: str, *, exist_ok: bool) -> None:
        signature(HfApi.create_repo).bind(None, repo_id, exist_ok=exist_ok)
        assert exist_ok
        self.made.append(repo_id)

    def upload_folder(
        self, *, repo_id: str, folder_path: str, revision: str | None, commit_message: str
    ) -> SimpleNamespace:
        told = {"folder_path": folder_path, "revision": revision, "commit_message": commit_message}
        signature(HfApi.upload_folder).bind(None, repo_id=repo_id, **told)
        if revision == "forbidden":
            raise ConnectionError("403 Forbidden\nmore lines")
        self.messages.append(commit_message)
        for name in (revision or "main", COMMIT):
            shutil.copytree(folder_path, self.root / repo_id / name, dirs_exist_ok=True)
        return SimpleNamespace(oid=COMMIT)

    def snapshot_download(self, repo_id: str, *, revision: str, local_dir: Path, allow_patterns: list[str]) -> None:
        told = {"revision": revision, "local_dir": local_dir, "allow_patterns": allow_patterns}
        DOWNLOAD.bind(repo_id, **told)
        repository = self.root / repo_id / revision
        if not repository.is_dir():
            raise FileNotFoundError(f"404 {repo_id}@{revision}")
        names = [path.relative_to(repository).as_posix() for path in repository.rglob("*") if path.is_file()]
        for name in filter_repo_objects(names, allow_patterns=allow_patterns):
            (local_dir / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(repository / name, local_dir / name)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A hub beside an empty folder of weights."""
    made = Hub(tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.HfApi", made)
    monkeypatch.setattr("huggingface_hub.snapshot_download", made.snapshot_download)
    monkeypatch.setenv("GNVC_VD_WEIGHTS", str(tmp_path / "weights"))
    return made


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "small"
    save(load("nano"), folder, "small")
    return folder


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    """A model folder with a card."""
    folder = tmp_path / "small"
    shutil.copytree(saved, folder)
    (folder / "README.md").write_text("# small\n\n![curves](curves.png) and `secret.txt`\n")
    (folder / "curves.png").write_bytes(b"a picture")
    return folder


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.mkv"
    with create_video(path, 48, 32, Fraction(25)) as out:
        for frame in smooth_clip(32, 48, 5):
            out.write(frame)
    return path


def test_a_pushed_model_is_fetched_and_codes_as_its_folder_does(
    hub: Hub, model: Path, film: Path, script: Script, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert script("export.py", model, "--push", "someone/small") == 0
    assert capsys.readouterr().out.strip() == f"someone/small@{COMMIT}"
    assert (hub.made, hub.messages) == (["someone/small"], ["Upload small"])
    assert script("fetch_weights.py", "someone/small", f"someone/small@{COMMIT}") == 0
    for name in ("someone/small", f"someone/small@{COMMIT}"):
        codec = load(name)
        assert codec.shown_identity == load(model).shown_identity and highest_refined_quality(name) == 63
        streams = [
            made.encode(open_video(str(film)), EncodeOptions(quality=40, scenecut=False))
            for made in (codec, load(model))
        ]
        assert streams[0] == streams[1]
        assert load_backbone(name).hashes == load_backbone(model).hashes
    (tmp_path / "a.gnvc").write_bytes(streams[0])
    assert main(["verify", str(tmp_path / "a.gnvc"), "--model", "someone/small"]) == 0
    assert main(["decode", str(tmp_path / "a.gnvc"), str(tmp_path / "out"), "--model", f"someone/small@{COMMIT}"]) == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == 5


def test_exactly_what_the_description_and_the_card_name_is_uploaded_and_fetched(
    hub: Hub, model: Path, script: Script, tmp_path: Path
) -> None:
    (model / ".cache").mkdir()
    (model / ".cache" / "note").write_text("of a download")  # hidden files stay
    push(model, "someone/small@candidate")
    repository = hub.root / "someone" / "small" / "candidate"
    assert names_in(repository) == WEIGHTS | {"model.json", "README.md", "curves.png"}
    for stranger in ("other.safetensors", "model.pkl", "modelling.py"):
        (repository / stranger).write_bytes(b"anything")
    assert script("fetch_weights.py", "someone/small@candidate") == 0
    fetched = tmp_path / "weights" / "someone--small@candidate"
    assert names_in(fetched) == WEIGHTS | {"model.json", "README.md"}


def test_a_card_by_the_packages_name_becomes_the_hubs(hub: Hub, model: Path) -> None:
    (model / "README.md").rename(model / "MODEL_CARD.md")
    push(model, "someone/small")
    assert (hub.root / "someone" / "small" / "main" / "README.md").read_text().startswith("# small")
    assert "MODEL_CARD.md" not in names_in(hub.root / "someone" / "small" / "main")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: (folder / "README.md").unlink(), "no card; write README.md there"),
        (lambda folder: (folder / "secret.txt").write_text("x"), r"holds secret\.txt, which model\.json does not name"),
        (lambda folder: (folder / "start.safetensors").write_bytes(b"x"), r"holds start\.safetensors, which"),
        (lambda folder: (folder / "README.md").write_text("[code](run.py)"), r"holds curves\.png, which"),
        (lambda folder: (folder / "dit.safetensors").write_bytes(b"x"), "is not the stated"),
        (lambda folder: (folder / "codec.safetensors").unlink(), "missing"),
        (lambda folder: (folder / "model.json").unlink(), "not a model folder"),
    ],
)
def test_what_should_not_be_published_is_refused_in_a_sentence(
    hub: Hub,
    model: Path,
    script: Script,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], object],
    sentence: str,
) -> None:
    spoil(model)
    assert script("export.py", model, "--push", "someone/small") in (1, 2)
    said = capsys.readouterr().err
    assert re.search(sentence, said) and said.count("\n") == 1 and said.startswith("export: ")
    assert not hub.made and not hub.root.exists()


def test_weights_and_programs_are_not_uploaded_because_a_card_links_to_them(hub: Hub, model: Path) -> None:
    (model / "README.md").write_text("[a](run.py) [b](start.safetensors) [c](curves.png) [d](../film.mkv)")
    for name in ("run.py", "start.safetensors"):
        (model / name).write_bytes(b"x")
    with pytest.raises(UsageError, match=r"holds run\.py, start\.safetensors, which"):
        files_to_push(model)


def test_a_wrong_id_and_a_refusing_hub_are_said(
    hub: Hub, model: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script("export.py", model, "--push", "small") == 2
    assert "'small' is no hub id" in capsys.readouterr().err
    assert script("export.py", model, "--push", "someone/small@forbidden") == 1
    assert capsys.readouterr().err == "export: someone/small@forbidden: the upload failed (403 Forbidden)\n"
    for arguments in ([model], ["run", model, "--push", "someone/small"]):
        assert script("export.py", *arguments) == 2
        assert "FOLDER alone with --push" in capsys.readouterr().err
    assert script("export.py", "norun", "--half", model) == 1  # RUN and FOLDER may stand apart, as before
    assert "run.json: missing" in capsys.readouterr().err


def test_what_is_not_on_this_machine_is_said_with_what_to_do(
    hub: Hub, film: Path, tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["encode", str(film), str(tmp_path / "a.gnvc"), "--model", "someone/small@v2"]) == 1
    place = tmp_path / "weights" / "someone--small@v2"
    assert capsys.readouterr().err == (
        "gnvc-vd: someone/small@v2 is not on this machine: run `python scripts/fetch_weights.py someone/small@v2`, "
        f"or put a model folder or diffusers folder of someone/small at {place}\n"
    )
    assert script("fetch_weights.py", "someone/small@v2") == 1
    assert "the download failed (404 someone/small@v2)" in capsys.readouterr().err
    with pytest.raises(GnvcError, match="no such preset or folder"):
        load("../small")  # a path that is not there is no hub id


def test_changed_files_are_refused_when_they_are_fetched_and_when_they_are_loaded(
    hub: Hub, model: Path, script: Script, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    push(model, "someone/small")
    weights = hub.root / "someone" / "small" / "main" / "codec.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    assert script("fetch_weights.py", "someone/small") == 1
    assert "is not the stated" in capsys.readouterr().err
    with pytest.raises(GnvcError, match="is not the stated"):
        load("someone/small")
    description = json.loads((model / "model.json").read_text())
    description["codec"]["files"]["../../x.safetensors"] = "0"
    (tmp_path / "weights" / "someone--small@main" / "model.json").write_text(json.dumps(description))
    with pytest.raises(GnvcError, match="outside the folder"):
        load("someone/small")


def test_a_codec_brings_the_backbone_that_it_refers_to(hub: Hub, model: Path, script: Script, tmp_path: Path) -> None:
    backbone = tmp_path / "backbone"
    save_backbone(load_backbone(model), backbone, "backbone")
    (backbone / "README.md").write_text("# backbone")
    push(backbone, "someone/backbone")
    script("fetch_weights.py", "someone/backbone")
    save(replace(load(model), backbone=load_backbone("someone/backbone")), tmp_path / "slim", "slim",
         location="someone/backbone@main")  # fmt: skip
    (tmp_path / "slim" / "README.md").write_text("# slim")
    assert set(files_to_push(tmp_path / "slim")) == {
        "model.json",
        "README.md",
        "codec.safetensors",
        "adaptor.safetensors",
    }
    push(tmp_path / "slim", "someone/slim")
    shutil.rmtree(tmp_path / "weights")
    assert script("fetch_weights.py", "someone/slim") == 0
    frames = [list(load(name).decode(stream_of(model))) for name in ("someone/slim", model)]
    assert all(np.array_equal(a, b) for a, b in zip(*frames, strict=True))


def test_of_a_diffusers_folder_the_backbone_is_fetched_and_nothing_that_could_run(
    hub: Hub, script: Script, tmp_path: Path
) -> None:
    wanted = {"vae/config.json", "vae/a.safetensors", "transformer/config.json", "transformer/b.safetensors"}
    others = {"model_index.json", "text_encoder/c.safetensors", "vae/a.bin", "transformer/model.py", "d.safetensors"}
    for name in wanted | others:
        path = hub.root / "someone" / "video" / "main" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    assert script("fetch_weights.py", "someone/video") == 0
    assert names_in(tmp_path / "weights" / "someone--video@main") == wanted
    assert script("fetch_weights.py", "--text-encoder", "someone/video") == 0
    assert names_in(tmp_path / "weights" / "someone--video@main") == wanted | {"text_encoder/c.safetensors"}


def test_an_image_conditioned_release_comes_with_its_image_encoder(hub: Hub, script: Script, tmp_path: Path) -> None:
    """And with the text encoder when that is asked for, by which the empty prompt is embedded."""
    release, fetched = hub.root / "someone" / "i2v" / "main", tmp_path / "weights" / "someone--i2v@main"
    save_image_folder(release, images=1)
    (release / "empty_prompt.safetensors").unlink()
    save_text_encoder(release)
    assert script("fetch_weights.py", "someone/i2v") == 0 and not (fetched / "text_encoder").exists()
    assert script("fetch_weights.py", "someone/i2v", "--text-encoder") == 0
    assert script("embed_prompt.py", fetched) == 0
    backbone = load_backbone("someone/i2v")
    assert "image_encoder/model.safetensors" in backbone.files and backbone.dit.text.shape == (1, 512, 8)
    assert backbone.image_encoder.embed(smooth_clip(32, 48, 1)).shape == (1, 257, 16)


def test_a_model_that_refers_to_itself_is_refused(
    hub: Hub, model: Path, script: Script, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name, other in (("one", "two"), ("two", "one")):
        push(model, f"someone/{name}")
        folder = hub.root / "someone" / name / "main"
        description = read_description(folder)
        backbone = replace(description.backbone, location=f"someone/{other}")
        write_description(folder, replace(description, backbone=backbone))
    assert script("fetch_weights.py", "someone/one") == 1
    assert "someone/one: refers to itself for its backbone" in capsys.readouterr().err
    with pytest.raises(GnvcError, match="refers to itself"):
        load("someone/one")


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def stream_of(model: Path) -> bytes:
    info = VideoInfo(48, 32, Fraction(25), None, Colour("bt709", "limited"), "", "")
    return load(model).encode(Video(info, ((frame, None) for frame in smooth_clip(32, 48, 5))), quality=30)
