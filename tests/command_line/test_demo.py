"""`deephash demo`: its errors, its warning, and the addresses it listens on."""

import importlib
import socket
import sys

import pytest


@pytest.fixture
def served(monkeypatch):
    """What would be served, noted instead."""
    pytest.importorskip("fastapi", reason="needs pip install 'deephash[demo]'")
    calls = []
    server = importlib.import_module("deephash.web.demo.demo_server")
    monkeypatch.setattr(server, "serve", lambda *arguments: calls.append(arguments[:5]))
    return calls


def test_loopback_is_the_default(deephash, served, fitted_run):
    ended = deephash("demo", fitted_run)
    assert (ended.status, ended.err) == (0, "")
    assert served == [([fitted_run], "127.0.0.1", 8000, (), "auto")]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "some.example"])
def test_other_addresses_are_warned_of(deephash, served, fitted_run, host):
    ended = deephash("demo", fitted_run, "--host", host, "--name", "box.example")
    assert ended.status == 0
    assert ended.err.startswith(f"warning: anyone who can reach {host} port 8000 sees the data")
    assert served[0][1:4] == (host, 8000, ["box.example"])


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost"])
def test_loopback_addresses_are_not_warned_of(deephash, served, fitted_run, host):
    assert deephash("demo", fitted_run, "--host", host).err == ""


@pytest.mark.needs("fastapi")
def test_missing_run_is_one_line(deephash, tmp_path):
    ended = deephash("demo", tmp_path / "nowhere", "--port", "0")
    assert ended.status == 2
    assert ended.err == f"error: {tmp_path / 'nowhere'} does not exist; give the folder of a run of train.py.\n"


@pytest.mark.needs("fastapi")
def test_taken_port_is_one_line(deephash, fitted_run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = deephash("demo", fitted_run, "--port", port)
    assert ended.status == 2
    assert ended.err.startswith(
        f"error: the server cannot listen on host=127.0.0.1 port={port} (Address already in use"
    )
    assert ended.err.count("\n") == 1


@pytest.mark.needs("fastapi")
def test_address_of_another_machine_is_one_line(deephash, fitted_run):
    ended = deephash("demo", fitted_run, "--host", "192.0.2.7", "--port", "0")
    assert ended.status == 2
    assert "the server cannot listen on host=192.0.2.7 port=0" in ended.err


def test_missing_library_names_the_extra(deephash, fitted_run, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("deephash.web.demo.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    ended = deephash("demo", fitted_run)
    assert ended.status == 2
    assert "pip install 'deephash[demo]'" in ended.err


def test_names_of_a_public_address_are_this_machines():
    from deephash.web.http_service.host_names import find_own_names

    assert find_own_names("127.0.0.1") == ["127.0.0.1"]
    assert find_own_names("0.0.0.0")[:2] == ["0.0.0.0", socket.gethostname()]
