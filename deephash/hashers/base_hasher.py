"""Base class of hashers of one view and of two: a description, an identity, a folder on disk and on a model hub."""

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Self

from torch import nn

from deephash.hashers import hub, storage
from deephash.hashers.model_card import Evidence, render_card
from deephash.validation import InvalidInputError


class BaseHasher(nn.Module, ABC):
    """An encoder, a projection and a quantiser that are fitted, applied and saved as one."""

    @classmethod
    @abstractmethod
    def build(cls, description: dict[str, Any]) -> Self:
        """Build a hasher from a description that `describe` returned; its weights are loaded later.

        Raises:
            InvalidInputError: a class is unknown or does not accept the arguments.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return the classes and arguments of the parts, as JSON values."""

    @abstractmethod
    def check_fitted(self) -> None:
        """Raise `NotFittedError` unless the projection and every quantiser are fitted."""

    @property
    def identity(self) -> str:
        """SHA-256, in hex, of the description and the weights; hashers are equal exactly if their identities are."""
        return storage.identity(self.describe(), self.state_dict())

    def save(self, folder: str | Path) -> None:
        """Write `hasher.json` and `weights.safetensors` into a folder, which is created if missing.

        Each file is written whole or not at all.

        Raises:
            InvalidInputError: a part is not fitted, or an argument is not JSON-serialisable.
        """
        self.check_fitted()
        storage.write(Path(folder), self.describe(), self.state_dict())

    def save_pretrained(
        self, folder: str | Path, *, license: str | None = None, evidence: Evidence | None = None, repo: str = ""
    ) -> None:
        """Write the files of a model repository: `config.json`, `model.safetensors` and `README.md`, a model card.

        `from_pretrained` and `deephash.load` read such a folder, as do the commands of `deephash`. No file contains
        code or a pickle.

        Args:
            folder: output folder, which is created if missing. An existing `README.md` is kept.
            license: identifier of the licence of the weights, such as `mit` or `cc-by-4.0`. With None, the card states
                none.
            evidence: figures for the card, as returned by `deephash.report.run_evidence.read_evidence(RUN)`. With None,
                the card has no figures.
            repo: name of the repository for the example in the card. If empty, the name of the folder is used.

        Raises:
            InvalidInputError: a part is not fitted, the licence is not an identifier, or the folder contains the
                `config.json` of another library.
            StorageError: a file cannot be written.
        """
        self.check_fitted()
        path = Path(folder)
        card = render_card(self.describe(), repo or Path(os.path.abspath(path)).name, license, evidence)
        hub.write_repository(path, self.describe(), self.state_dict(), card)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
    ) -> Self:
        """Load a hasher from a folder, or from a repository of the Hugging Face hub, bit for bit, onto the CPU.

        Only `config.json` and `model.safetensors` are downloaded. Nothing in them makes Python import, build or run
        anything outside deephash and its installed plugins.

        Args:
            name: a folder of `save_pretrained` or `save`, or `user/name` on the hub (pip install 'deephash[hub]').
            revision: branch, tag or commit; None uses the main branch.
            token: access token. None uses the one that `hf auth login` stored, if any, and False uses none.
            cache_dir: folder of downloads; None uses that of huggingface_hub.
            force_download: whether to download files that are in the cache.
            local_files_only: whether to use only the cache, without a request to the hub.

        Returns:
            The hasher, in evaluation mode.

        Raises:
            InvalidInputError: the folder, repository or revision does not exist, access or connection fails, or the
                files are damaged, of another library, or of another class of hasher.
        """
        from deephash.hashers.loading import load

        folder = hub.find_folder(
            name,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
        )
        hasher = load(folder)
        if not isinstance(hasher, cls):
            kind = type(hasher).__name__
            raise InvalidInputError(f"{name} contains a {kind}; call deephash.{kind}.from_pretrained.")
        return hasher.eval()

    def push_to_hub(
        self,
        repo: str,
        *,
        license: str | None = None,
        evidence: Evidence | None = None,
        commit_message: str = "Upload hasher",
        private: bool | None = None,
        token: str | None = None,
        revision: str | None = None,
        create_pr: bool = False,
    ) -> str:
        """Upload the files of `save_pretrained` to a repository of the Hugging Face hub, in one commit.

        Args:
            repo: `user/name`; it is created if missing.
            license: identifier of the licence of the weights, for the card.
            evidence: figures for the card.
            commit_message: first line of the commit.
            private: whether a new repository is private; None uses the default of the account.
            token: access token with write permission; None uses the one that `hf auth login` stored.
            revision: branch to commit to; None uses main.
            create_pr: whether to open a pull request instead of committing.

        Returns:
            URL of the commit.

        Raises:
            InvalidInputError: a part is not fitted, `repo` is not `user/name`, the licence is not an identifier, or
                the hub refuses the upload.
        """
        self.check_fitted()
        card = render_card(self.describe(), repo, license, evidence)
        return hub.upload(
            repo,
            self.describe(),
            self.state_dict(),
            card,
            commit_message=commit_message,
            private=private,
            token=token,
            revision=revision,
            create_pr=create_pr,
        )
