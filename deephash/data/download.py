"""Downloads that resume, verify checksums, and never leave a partial file under the final name."""

import errno
import hashlib
import os
import secrets
import shutil
import tarfile
import time
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from deephash.data.transfer import ConnectionLostError, RefusedError, open_ftp, open_http
from deephash.data.transfer_progress import transfer_bar
from deephash.io.files import flush, remove_leftovers
from deephash.validation import InvalidInputError, StorageError

LARGE, MAX_EXPANSION = 1 << 28, 100
"""An archive that unpacks to more than LARGE bytes and to more than MAX_EXPANSION times its size raises an error."""

ATTEMPTS = 5
"""Maximum number of consecutive attempts per address that receive no further byte."""


class DownloadError(InvalidInputError):
    """A failed download; the message is one line with the reason and a remedy."""


def download(
    addresses: Sequence[str],
    path: Path,
    checksum: str | None,
    *,
    pause: float = 1.0,
    timeout: float = 30.0,
) -> Path:
    """Download a file unless it exists.

    Bytes are appended to `path` + ".partial", which a later call, in this process or another, resumes. Only a
    complete file with the right checksum gets its final name.

    Args:
        addresses: http, https or ftp addresses of the file, tried in this order.
        path: destination; missing folders are created.
        checksum: "md5:" or "sha256:" and the hexadecimal digest that the file must have. None if the publisher has
            none. The file is then complete at the length that the server reports, and code that reads it must verify
            its contents, for example by the internal checksums of a zip archive.
        pause: seconds before the second attempt, doubled for each later one.
        timeout: seconds without data after which a connection counts as lost.

    Returns:
        `path`.

    Raises:
        DownloadError: no address serves the file, its checksum is wrong, or the disk is full.
    """
    if path.exists():
        if _matches(path, checksum):
            return path
        raise DownloadError(f"{path} does not have the checksum {checksum}; delete it to download it again.")
    partial = path.with_name(path.name + ".partial")
    failures = []
    for address in addresses:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            resumed = partial.exists()
            _fetch(address, partial, path.name, pause, timeout)
            if resumed and not _matches(partial, checksum):
                # The earlier part may be damaged; download from the start.
                partial.unlink()
                _fetch(address, partial, path.name, pause, timeout)
        except RefusedError as error:
            failures.append(f"{address}: {error}")
            continue
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise DownloadError(
                    f"no space left in {path.parent} while downloading {path.name}; free space and start again: the "
                    "download resumes."
                ) from error
            raise DownloadError(
                f"{partial} cannot be written ({error.strerror or error}); the bytes received so far are kept: "
                "set another folder with data.cache."
            ) from error
        if not _matches(partial, checksum):
            partial.unlink()
            failures.append(f"{address}: the checksum is not {checksum}, so the file was deleted")
            continue
        flush(partial)
        partial.replace(path)
        flush(path.parent)
        return path
    raise DownloadError(
        f"{path.name} could not be downloaded from {'; '.join(failures)}. Try again later, or download it "
        f"by other means and save it as {path}."
    )


@contextmanager
def download_for_block(addresses: Sequence[str], path: Path, checksum: str | None) -> Iterator[Path]:
    """Download an archive for the block, and delete it afterwards unless it existed before."""
    existed = path.exists()
    yield download(addresses, path, checksum)
    if not existed:
        path.unlink()


def extract(archive: Path, folder: Path, top: str = ".") -> None:
    """Unpack one folder of a tar or zip archive atomically.

    Links, devices and paths that leave the archive's folder raise an error; the checksums of a zip archive are
    verified.

    Args:
        archive: a tar archive, optionally compressed, or a zip archive.
        folder: destination; it must not exist.
        top: the folder inside the archive to unpack.

    Raises:
        InvalidInputError: a damaged or unsafe archive, an archive without that folder or with an extreme compression
            ratio, or a full or read-only disk.
    """
    # A unique name, since a plain one may belong to the user.
    partial = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}.partial")
    try:
        remove_leftovers(folder.parent, folder.name)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if zipfile.is_zipfile(archive):
            _extract_zip(archive, partial)
        else:
            _extract_tar(archive, partial)
        if not (partial / top).is_dir():
            raise InvalidInputError(f"{archive} has no folder {top}, so it is the wrong archive; delete it.")
        if hasattr(os, "sync"):
            os.sync()  # Flush the files before the folder gets its name.
        (partial / top).replace(folder)
    except InvalidInputError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise StorageError(
                f"{partial} cannot be written ({error.strerror}); {archive} is complete: free space and start again."
            ) from error
        raise _build_damage_error(archive, error) from error
    except Exception as error:  # tarfile, zipfile and the decompressors raise several classes
        raise _build_damage_error(archive, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _build_damage_error(archive: Path, error: Exception) -> InvalidInputError:
    reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__  # several lines if no format fits
    return InvalidInputError(f"{archive} cannot be unpacked ({reason}); delete it to download it again.")


def _check_expansion(archive: Path, sizes: Iterable[int], folder: Path) -> None:
    """Raise an error if an archive would fill the disk or has the compression ratio of a hostile archive.

    Raises:
        StorageError: not enough free space.
        ValueError: an extreme compression ratio.
    """
    length, total = archive.stat().st_size, 0
    for size in sizes:
        total += size
        if total > max(LARGE, MAX_EXPANSION * length):
            raise ValueError(f"it would unpack from {length} to more than {total} bytes")
    free = shutil.disk_usage(folder.parent).free
    if total > free:
        raise StorageError(
            f"{folder.parent} has {free} bytes free and {archive} unpacks to {total}; the archive is complete: free "
            "space and start again."
        )


def _extract_tar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as file:
        _check_expansion(archive, (member.size for member in file), folder)
        file.extractall(folder, filter="data")


def _extract_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        _check_expansion(archive, (member.file_size for member in file.infolist()), folder)
        for member in file.infolist():
            # Python ignores these parts of a path, but no published archive has them.
            if member.filename.startswith("/") or ".." in Path(member.filename).parts:
                raise zipfile.BadZipFile(f"{member.filename} leads out of its folder")
        file.extractall(folder)


def _matches(path: Path, checksum: str | None) -> bool:
    if checksum is None:
        return True
    kind, _, digest = checksum.partition(":")
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest() == digest.lower()


def _fetch(address: str, partial: Path, name: str, pause: float, timeout: float) -> None:
    """Download `partial` to its full length, and reconnect as needed."""
    source = open_ftp if urlsplit(address).scheme == "ftp" else open_http
    failed = 0
    while True:
        have = partial.stat().st_size if partial.exists() else 0
        try:
            with source(address, have, timeout) as transfer, partial.open("r+b" if have else "wb") as file:
                start, total = transfer.start, transfer.total
                if total is not None and total - start > shutil.disk_usage(partial.parent).free:
                    raise OSError(errno.ENOSPC, "the rest of the file does not fit")
                file.seek(start)
                file.truncate()
                with transfer_bar(name, start, total) as show:
                    for chunk in transfer.chunks:
                        file.write(chunk)
                        show(len(chunk))
            if total is None or partial.stat().st_size == total:
                return
            raise ConnectionLostError(f"it ended after {partial.stat().st_size} of {total} bytes")
        except ConnectionLostError as error:
            now = partial.stat().st_size if partial.exists() else 0
            failed = 1 if now > have else failed + 1
            if failed >= ATTEMPTS:
                raise RefusedError(f"{error} ({ATTEMPTS} attempts)") from error
            time.sleep(pause * 2 ** (failed - 1))
