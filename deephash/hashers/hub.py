"""Model repositories: a folder of three files, downloaded from and uploaded to the Hugging Face hub."""

import errno
import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor

from deephash.hashers import storage
from deephash.io.files import describe_error, write_text, writing
from deephash.validation import InvalidInputError

FILES = (storage.HUB_DESCRIPTION_FILE, storage.HUB_WEIGHTS_FILE)
CARD_FILE = "README.md"
# The operating system refuses to write a download; errors of connections have other numbers or none.
REFUSED_BY_DISK = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG),
)
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def check_repository(repo: str) -> None:
    """Raise an error if a name is not of the form `user/name`."""
    if not REPOSITORY.fullmatch(repo):
        raise InvalidInputError(f"repository={repo!r}; expected user/name, as on the hub.")


def check_config(path: Path, message: str) -> None:
    """Raise an error with this message if a `config.json` does not describe a hasher."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        stored = None
    if not isinstance(stored, dict) or stored.get("format") != storage.FORMAT:
        raise InvalidInputError(message)


def write_repository(folder: Path, description: dict[str, Any], weights: dict[str, Tensor], card: str) -> None:
    """Write the files of a repository into a folder, which is created if missing; an existing card is kept.

    Raises:
        InvalidInputError: the folder contains the `config.json` of another library.
    """
    config = folder / storage.HUB_DESCRIPTION_FILE
    with writing(config):
        exists = config.exists()
    if exists:
        check_config(config, f"{config} does not describe a hasher; choose another folder, so that it is not replaced.")
    storage.write(folder, description, weights, FILES)
    if not (folder / CARD_FILE).exists():
        write_text(folder / CARD_FILE, card)


def find_folder(name: str | Path, **options: Any) -> Path:
    """Return the folder of a saved hasher, after downloading its two files if the name is a repository.

    Args:
        name: an existing folder, or `user/name`.
        options: revision, token, cache_dir, force_download and local_files_only of huggingface_hub.

    Raises:
        InvalidInputError: the name is neither a folder nor a repository, or the download fails.
    """
    if not isinstance(name, str | Path):
        raise InvalidInputError(f"{name!r} is neither a folder nor user/name on the hub; give one of them.")
    folder = Path(name)
    with suppress(OSError):  # A name can be too long for a folder.
        if folder.is_dir():
            return folder
    if not isinstance(name, str) or not REPOSITORY.fullmatch(name):
        raise InvalidInputError(f"{name} is neither a folder nor user/name on the hub; give one of them.")
    client = import_client()
    with hub_errors(name):
        config = Path(client.hf_hub_download(name, FILES[0], **options))
        # Weights can be large, so they are downloaded only if the repository contains a hasher.
        check_config(config, f"the repository {name} does not contain a hasher; give one that save_pretrained wrote.")
        # A folder of downloads is named by its commit, so both files come from the same commit.
        client.hf_hub_download(name, FILES[1], **options | {"revision": config.parent.name})
    return config.parent


def upload(
    repo: str,
    description: dict[str, Any],
    weights: dict[str, Tensor],
    card: str,
    *,
    commit_message: str,
    private: bool | None,
    token: str | None,
    revision: str | None,
    create_pr: bool,
) -> str:
    """Upload a repository's files in one commit, and return its URL; the repository is created if missing.

    Raises:
        InvalidInputError: `repo` is not `user/name`, or the hub refuses the upload.
    """
    check_repository(repo)
    client = import_client()
    with tempfile.TemporaryDirectory() as folder, hub_errors(repo):
        write_repository(Path(folder), description, weights, card)
        api = client.HfApi(token=token)
        name = api.create_repo(repo, private=private, exist_ok=True).repo_id
        commit = api.upload_folder(
            repo_id=name, folder_path=folder, commit_message=commit_message, revision=revision, create_pr=create_pr
        )
    return str(commit.commit_url)


def import_client() -> ModuleType:
    """Return huggingface_hub, which is optional; raise an error if it is not installed."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise InvalidInputError(
            "repositories of the hub need huggingface_hub, which is not installed: pip install 'deephash[hub]'."
        ) from error
    return huggingface_hub


@contextmanager
def hub_errors(repo: str) -> Iterator[None]:
    """Turn the errors of the hub into one line that says what to do."""
    from huggingface_hub import errors

    try:
        yield
    except InvalidInputError:
        raise
    except errors.GatedRepoError as error:
        raise InvalidInputError(
            f"{repo} requires consent; give it on the page of {repo}, then run `hf auth login`."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise InvalidInputError(
            f"the hub has no repository {repo} that you may see; check the name, or run `hf auth login`."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise InvalidInputError(f"{repo} has no such revision; give a branch, a tag or a commit.") from error
    except errors.LocalEntryNotFoundError as error:
        raise InvalidInputError(
            f"{repo} is not in the cache and the hub was not reached; check the connection, or give a folder."
        ) from error
    except errors.EntryNotFoundError as error:
        raise InvalidInputError(
            f"{repo} lacks {' or '.join(FILES)}; give a repository that save_pretrained or push_to_hub wrote."
        ) from error
    except Exception as error:  # Network errors come from the HTTP library that the client's version uses.
        cause: BaseException = error
        while cause.__cause__ is not None:  # A message of the client can refer to "the above error".
            cause = cause.__cause__
        responses = (getattr(each, "response", None) for each in (error, cause))
        status = next((response.status_code for response in responses if response is not None), None)
        if status in (401, 403):
            raise InvalidInputError(
                f"the hub refuses access to {repo} (status {status}); run `hf auth login` with a token that has access."
            ) from error
        if isinstance(cause, OSError) and cause.errno in REFUSED_BY_DISK:
            place = cause.filename2 or cause.filename or "a file of the hub's cache"
            raise InvalidInputError(
                f"{place} cannot be written ({cause.strerror}); free space, or name another folder by cache_dir or the "
                "environment variable HF_HOME."
            ) from error
        reason = describe_error(cause if "above error" in str(error) else error).removesuffix(".")
        raise InvalidInputError(f"the request to the hub for {repo} failed ({reason}); try again.") from error
