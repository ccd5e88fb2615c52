"""Model folders from the Hugging Face hub, or from its cache where there is no network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    IncompleteSnapshotError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from r1omni.types import R1OmniError

# Public ids of the towers that the released checkpoints name by a folder of their authors.
PUBLIC_IDS = {
    "siglip-base-patch16-224": "google/siglip-base-patch16-224",
    "whisper-large-v3": "openai/whisper-large-v3",
    "bert-base-uncased": "google-bert/bert-base-uncased",
}
_SETTINGS = ("*.json", "*.txt", "*.jinja")
# A repository may hold the same weights many times over (fp32, Flax, ...): one form is fetched.
_WEIGHTS = (
    ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model-*.bin", "pytorch_model.bin.index.json"),
)
_HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(\w[\w./-]*))?")


def is_hub_id(text: str) -> bool:
    """Whether a text has the form `owner/name` or `owner/name@revision`."""
    return _HUB_ID.fullmatch(text) is not None


def split_id(hub_id: str) -> tuple[str, str | None]:
    """`owner/name`, and the revision (a commit, tag or branch) or None."""
    found = _HUB_ID.fullmatch(hub_id)
    assert found is not None, hub_id
    return found[1], found[2]


def fetch_settings(hub_id: str) -> Path:
    """Configuration and tokenizer of a repository; returns the folder they lie in.

    The folder has the name of the commit: what belongs together is fetched by it.

    Raises:
        R1OmniError: the repository is not there, not open, or not to be reached and not cached.
    """
    return _fetch(hub_id, _SETTINGS)


def fetch_weights(hub_id: str) -> Path:
    """Weights of a repository, safetensors where it has them; returns the folder.

    Raises:
        R1OmniError: as `fetch_settings`.
    """
    safe, pickled = _WEIGHTS
    folder = _fetch(hub_id, safe)
    if any(folder.glob("*.safetensors")):
        return folder
    return _fetch(hub_id, pickled)


def _fetch(hub_id: str, patterns: Sequence[str]) -> Path:
    repository, revision = split_id(hub_id)
    try:
        found = snapshot_download(repository, revision=revision, allow_patterns=list(patterns))
        return Path(found)
    except GatedRepoError:
        remedy = "accept its terms on its page and log in with `hf auth login`"
    except RevisionNotFoundError:
        remedy = f"it has no revision {revision!r}; name a commit, tag or branch of it"
    except RepositoryNotFoundError:
        remedy = "there is none of that name; a private one needs `hf auth login`"
    except IncompleteSnapshotError:
        remedy = "the hub cannot be reached and only a part is in the cache; download it again"
    except LocalEntryNotFoundError:
        remedy = "the hub cannot be reached and it is not in the cache; give a local folder"
    except (OSError, ValueError) as error:  # the disk, the network, the form of the id
        remedy = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise R1OmniError(f"{hub_id} cannot be had from the hub: {remedy}")
