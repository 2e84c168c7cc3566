"""An exported model folder and its card, to a model repository of the Hugging Face hub.

    model.json, the safetensors that it names, the card and what the card links to ──▶ owner/name

Nothing else is uploaded. Whoever loads the model by its id gets the same files, by the hashes in model.json.
"""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

from gnvc_vd.backbone.folder import DESCRIPTION, check_file, read_description
from gnvc_vd.backbone.sources import HUB_ID
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import GnvcError, UsageError

HUB_CARD = "README.md"  # the page that the hub shows
CARDS = (HUB_CARD, "MODEL_CARD.md")
LINK = re.compile(r"\]\(([^)#\s]+)")
LINKED = {".md", ".png", ".jpg", ".jpeg", ".svg"}  # never weights: those are named by model.json, with their sha256


def push(folder: Path, hub_id: str) -> str:
    """Upload a model folder in one commit, into a repository that is made if there is none.

    Args:
        hub_id: owner/name, or owner/name@branch for a branch that there is.

    Returns:
        The id of exactly this upload, owner/name@commit.
    """
    from huggingface_hub import HfApi

    require(HUB_ID.fullmatch(hub_id), f"{hub_id[:200]!r} is no hub id, which is owner/name or owner/name@branch")
    repository, _, branch = hub_id.partition("@")
    files = files_to_push(folder)
    with TemporaryDirectory() as staged:
        for name, path in files.items():
            place = Path(staged) / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(path.resolve())
        try:
            api = HfApi()
            api.create_repo(repository, exist_ok=True)
            done = api.upload_folder(
                repo_id=repository,
                folder_path=staged,
                revision=branch or None,
                commit_message=f"Upload {read_description(folder).name}",
            )
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise GnvcError(f"{hub_id}: the upload failed ({reason})") from error
    return f"{repository}@{done.oid}"


def files_to_push(folder: Path) -> dict[str, Path]:
    """What is uploaded, by its name there; a folder that holds anything else, hidden files apart, is refused."""
    description = read_description(folder)
    files = {name: check_file(folder, name, sha256) for name, sha256 in description.files.items()}
    card = next((folder / name for name in CARDS if (folder / name).is_file()), None)
    if card is None:
        raise UsageError(f"{folder}: no card; write {HUB_CARD} there: what the model is, its data and its licence")
    links = {Path(link).as_posix() for link in LINK.findall(card.read_text(encoding="utf-8"))}
    here = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }
    linked = {name: path for name, path in here.items() if name in links and path.suffix.lower() in LINKED}
    others = sorted(here.keys() - files.keys() - linked.keys() - {DESCRIPTION, card.name})
    require(not others, f"{folder}: holds {', '.join(others)}, which {DESCRIPTION} does not name nor the card show")
    return files | linked | {DESCRIPTION: folder / DESCRIPTION, HUB_CARD: card}
