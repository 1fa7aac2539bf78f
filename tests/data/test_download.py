"""Downloads over a real loopback connection that breaks, refuses or sends wrong data."""

import hashlib
import io
import os
import shutil
import socket
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from deephash.data.download import DownloadError, download, extract
from deephash.validation import InvalidInputError

CONTENT = np.random.default_rng(0).bytes(1_000_003)
CHECKSUM = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


class Server:
    """A file server of one file, whose answers a test chooses.

    Args:
        cuts: bytes that each answer sends before the connection breaks; None sends all.
        statuses: HTTP statuses of the first answers.
        ranges: whether it heeds the Range header.
    """

    def __init__(self, content=CONTENT, cuts=(), statuses=(), ranges=True):
        self.content, self.cuts, self.statuses, self.ranges = content, list(cuts), list(statuses), ranges
        self.asked = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                server.answer(self)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        self.address = f"http://127.0.0.1:{self.http.server_address[1]}/file.bin"

    def answer(self, request):
        wanted = request.headers.get("Range")
        self.asked.append(wanted)
        request.close_connection = True
        if self.statuses and (status := self.statuses.pop(0)) != 200:
            request.send_response(status)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        if start >= len(self.content) and start:
            request.send_response(416)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        request.send_header("Content-Length", str(len(self.content) - start))
        request.end_headers()
        cut = self.cuts.pop(0) if self.cuts else None
        request.wfile.write(self.content[start : None if cut is None else start + cut])
        if cut is not None:
            request.wfile.flush()
            request.connection.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def serve():
    servers = []

    def start(**behaviour):
        servers.append(Server(**behaviour))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def fetch(server, path, checksum=CHECKSUM):
    return download([server.address], path, checksum, pause=0.001, timeout=5)


def test_a_file_arrives_whole_and_is_not_fetched_twice(serve, tmp_path):
    server = serve()
    path = fetch(server, tmp_path / "new" / "file.bin")
    assert path.read_bytes() == CONTENT
    fetch(server, path)
    assert server.asked == [None]
    assert [file.name for file in path.parent.iterdir()] == ["file.bin"]


def test_md5_is_checked_too(serve, tmp_path):
    fetch(serve(), tmp_path / "file.bin", "md5:" + hashlib.md5(CONTENT).hexdigest().upper())
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_broken_connection_is_resumed_where_it_broke(serve, tmp_path):
    server = serve(cuts=[300_000, 1, 400_000])
    fetch(server, tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=300001-", "bytes=700001-"]


def test_what_an_earlier_process_left_is_resumed(serve, tmp_path):
    (tmp_path / "file.bin.partial").write_bytes(CONTENT[:123_456])
    server = serve()
    fetch(server, tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.asked == ["bytes=123456-"]


def test_a_whole_partial_file_is_taken_as_it_is(serve, tmp_path):
    (tmp_path / "file.bin.partial").write_bytes(CONTENT)
    fetch(serve(), tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("left", [b"x" * 5000, CONTENT + b"x"])
def test_a_damaged_partial_file_is_fetched_from_the_start(serve, tmp_path, left):
    (tmp_path / "file.bin.partial").write_bytes(left)
    server = serve()
    fetch(server, tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(left)}-", None]


def test_a_server_without_ranges_starts_again(serve, tmp_path):
    server = serve(cuts=[300_000], ranges=False)
    fetch(server, tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-"]


def test_a_connection_that_always_breaks_leaves_only_a_partial_file(serve, tmp_path):
    server = serve(cuts=[500] + [0] * 20)
    with pytest.raises(DownloadError, match=r"could not be downloaded from http.*\(5 attempts\)"):
        fetch(server, tmp_path / "file.bin")
    assert len(server.asked) == 5
    assert [file.name for file in tmp_path.iterdir()] == ["file.bin.partial"]
    fetch(serve(), tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_passing_status_is_tried_again(serve, tmp_path):
    server = serve(statuses=[503, 429, 200])
    fetch(server, tmp_path / "file.bin")
    assert len(server.asked) == 3


def test_a_missing_file_is_said_at_once(serve, tmp_path):
    server = serve(statuses=[404] * 9)
    with pytest.raises(
        DownloadError, match=r"file.bin: HTTP 404 Not Found. Try again later, or download it by other means"
    ):
        fetch(server, tmp_path / "file.bin")
    assert len(server.asked) == 1
    assert not list(tmp_path.iterdir())


def test_the_next_address_is_tried(serve, tmp_path):
    gone, wrong, good = serve(statuses=[404]), serve(content=b"something else"), serve()
    addresses = [server.address for server in (gone, wrong, good)]
    download(addresses, tmp_path / "file.bin", CHECKSUM, pause=0.001)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing(serve, tmp_path):
    with pytest.raises(DownloadError, match=f"the checksum is not {CHECKSUM}, so the file was deleted"):
        fetch(serve(content=CONTENT[:-1] + b"x"), tmp_path / "file.bin")
    assert not list(tmp_path.iterdir())


def test_a_changed_file_under_the_final_name_is_refused(serve, tmp_path):
    (tmp_path / "file.bin").write_bytes(b"changed")
    with pytest.raises(DownloadError, match=r"does not have the checksum .*; delete it to download it again"):
        fetch(serve(), tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == b"changed"


def test_no_server_is_one_clear_line(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/file.bin"
        with pytest.raises(DownloadError, match=r"the connection failed: .*refused") as caught:
            download([address], tmp_path / "file.bin", CHECKSUM, pause=0.001)
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_said_before_it_is_full(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(
        DownloadError, match=r"no space left in .* while downloading file.bin; free space and start again"
    ):
        fetch(serve(), tmp_path / "file.bin")
    assert not (tmp_path / "file.bin").exists()


def test_other_disk_errors_are_not_hidden(serve, tmp_path):
    (tmp_path / "file.bin.partial").mkdir()
    with pytest.raises(
        DownloadError, match=r"file.bin.partial cannot be written \(Is a directory\); the bytes received so far"
    ):
        fetch(serve(), tmp_path / "file.bin")


class FtpServer:
    """As much of an FTP server as serves one file over passive connections, with REST."""

    def __init__(self, cuts=()):
        self.cuts, self.asked = list(cuts), []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"ftp://127.0.0.1:{self.listener.getsockname()[1]}/pub/file.bin"
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                self.talk(connection)

    def talk(self, connection):
        def say(line):
            connection.sendall(line.encode() + b"\r\n")

        say("220 ready")
        start, data = 0, None
        for line in connection.makefile("r"):
            verb, _, argument = line.strip().partition(" ")
            if verb in ("USER", "TYPE"):
                say("230 yes" if verb == "USER" else "200 yes")
            elif verb == "SIZE":
                say(f"213 {len(CONTENT)}" if argument == "/pub/file.bin" else "550 no such file")
            elif verb == "REST":
                start = int(argument)
                say("350 yes")
            elif verb in ("PASV", "EPSV"):
                data = socket.create_server(("127.0.0.1", 0))
                port = data.getsockname()[1]
                say(f"227 entering (127,0,0,1,{port >> 8},{port & 255})" if verb == "PASV" else f"229 in (|||{port}|)")
            elif verb == "RETR":
                self.asked.append(start)
                say("150 coming")
                sink, _ = data.accept()
                cut = self.cuts.pop(0) if self.cuts else None
                with sink, data:
                    sink.sendall(CONTENT[start : None if cut is None else start + cut])
                say("226 done" if cut is None else "426 aborted")
            elif verb == "QUIT":
                say("221 bye")
                return

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()


@pytest.fixture
def serve_ftp():
    servers = []

    def start(**behaviour):
        servers.append(FtpServer(**behaviour))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def test_ftp_resumes_where_it_broke(serve_ftp, tmp_path):
    server = serve_ftp(cuts=[250_000])
    fetch(server, tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.asked == [0, 250_000]


def test_ftp_says_when_there_is_no_such_file(serve_ftp, tmp_path):
    address = serve_ftp().address.replace("file.bin", "absent.bin")
    with pytest.raises(DownloadError, match="550 no such file"):
        download([address], tmp_path / "file.bin", CHECKSUM, pause=0.001)


def archive_of(path, members):
    with tarfile.open(path, "w:gz") as file:
        for name, contents in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(contents)
            file.addfile(info, io.BytesIO(contents))
    return path


def test_an_archive_is_unpacked_whole(tmp_path):
    archive = archive_of(tmp_path / "a.tar.gz", {"top/x": b"1", "top/deep/y": b"2", "beside": b"3"})
    extract(archive, tmp_path / "out", "top")
    assert (tmp_path / "out" / "deep" / "y").read_bytes() == b"2"
    assert {file.name for file in tmp_path.iterdir()} == {"a.tar.gz", "out"}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "cannot be unpacked"),
        (lambda path: path.write_bytes(b"no archive"), "cannot be unpacked .*; delete it to download it again"),
        (lambda path: archive_of(path, {"top/x": b"1", "../evil": b"2"}), "cannot be unpacked .*outside"),
        (lambda path: archive_of(path, {"other/x": b"1"}), "has no folder top, so it is the wrong archive"),
    ],
)
def test_bad_archives_leave_nothing(tmp_path, spoil, message):
    inner = tmp_path / "inner"
    inner.mkdir()
    archive = archive_of(inner / "a.tar.gz", {"top/x": np.random.default_rng(0).bytes(5000)})
    spoil(archive)
    with pytest.raises(InvalidInputError, match=message):
        extract(archive, inner / "out", "top")
    assert [file.name for file in inner.iterdir()] == ["a.tar.gz"]
    assert [file.name for file in tmp_path.iterdir()] == ["inner"]


def test_a_zip_archive_is_unpacked_and_checked(tmp_path):
    archive = tmp_path / "a.zip"
    content = np.random.default_rng(0).bytes(5000)
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("top/x", content)
    extract(archive, tmp_path / "out", "top")
    assert (tmp_path / "out" / "x").read_bytes() == content
    damaged = bytearray(archive.read_bytes())
    damaged[2000] ^= 1
    archive.write_bytes(damaged)
    with pytest.raises(InvalidInputError, match=r"a.zip cannot be unpacked \(Bad CRC-32"):
        extract(archive, tmp_path / "again", "top")
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("../evil", content)
    with pytest.raises(InvalidInputError, match=r"cannot be unpacked \(../evil leads out of its folder"):
        extract(archive, tmp_path / "again")
    assert {file.name for file in tmp_path.iterdir()} == {"a.zip", "out"}


def test_without_a_published_checksum_a_whole_file_is_taken(serve, tmp_path):
    server = serve(cuts=[400_000])
    assert fetch(server, tmp_path / "file.bin", None).read_bytes() == CONTENT
    assert fetch(server, tmp_path / "file.bin", None).exists()
    assert server.asked == [None, "bytes=400000-"]


def test_unpacking_leaves_a_folder_of_the_users_own(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("top/x", "1")
    (tmp_path / "data.partial").mkdir()
    (tmp_path / "data.partial" / "mine").write_text("precious")
    old = tmp_path / "data.0123abcd.partial"  # of a call that was killed
    old.mkdir()
    os.utime(old, (0, 0))
    extract(tmp_path / "a.zip", tmp_path / "data", "top")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "data", "data.partial"]
    assert (tmp_path / "data.partial" / "mine").read_text() == "precious"
