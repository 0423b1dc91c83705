"""No test, child process or notebook cell reaches the network; the loopback, which Jupyter needs, works."""

import os
import socket
import subprocess
import sys

import nbclient
import nbformat
import network_guard
import pytest

AWAY = "192.0.2.1"  # RFC 5737: an address for documentation, which belongs to nobody

TRY = f"""
import socket
results = []
with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
    for call in (
        lambda: socket.create_connection(("{AWAY}", 80), timeout=1),
        lambda: socket.create_connection(("example.org", 80), timeout=1),
        lambda: tcp.connect_ex(("{AWAY}", 80)),
        lambda: udp.sendto(b"x", ("{AWAY}", 53)),
        lambda: socket.gethostbyname("example.org"),
    ):
        try:
            call()
            results.append("went out")
        except OSError as error:
            results.append(type(error).__name__)
print(*results)
"""
REFUSED = " ".join(["Refused"] * 5)


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()


def test_this_process_is_refused(capsys, server):
    exec(TRY, {})
    assert capsys.readouterr().out.strip() == REFUSED
    for host in ("127.0.0.1", "localhost"):
        socket.create_connection((host, server[1]), timeout=5).close()


@pytest.mark.parametrize("host", ["10.0.0.1", "192.168.1.1", "0.0.0.0", "8.8.8.8", "localhost.example.org"])
def test_only_the_loopback_is_loopback(host):
    assert not network_guard._loopback(host)


def test_ipv6_and_local_sockets():
    assert network_guard._loopback("::1") and not network_guard._loopback("2001:db8::1")
    if hasattr(socket, "AF_UNIX"):
        a, b = socket.socketpair(socket.AF_UNIX)
        with a, b:
            a.sendmsg([b"x"])  # no address: the guard has nothing to say
            assert b.recv(1) == b"x"


def test_child_is_refused(server):
    code = TRY + f"socket.create_connection({server!r}, timeout=5).close()\nprint('loopback')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == [REFUSED, "loopback"]


def test_the_guard_travels_by_the_path():
    """A child without our PYTHONPATH has no guard: it is the guard that refuses, and not the machine."""
    code = "import sys; print('network_guard' in sys.modules)"
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    for environment, found in ((env, "False"), (None, "True")):
        run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert run.stdout.strip() == found


def test_notebook_cell_is_refused():
    cells = [nbformat.v4.new_code_cell(TRY), nbformat.v4.new_code_cell("1 + 1")]
    book = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(book, timeout=60, kernel_name="python3").execute()
    assert book.cells[0].outputs[0]["text"].strip() == REFUSED
    assert book.cells[1].outputs[0]["data"]["text/plain"] == "2"  # the kernel itself talks over the loopback


def test_our_warnings_are_errors_in_a_child(tmp_path):
    (tmp_path / "minildm").mkdir()
    ours, theirs = tmp_path / "minildm" / "__init__.py", tmp_path / "other.py"
    ours.write_text("import warnings\nwarnings.warn('ours')\n", encoding="utf-8")
    theirs.write_text("import warnings\nwarnings.warn('theirs')\n", encoding="utf-8")

    def run(code):
        return subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)

    assert "UserWarning: ours" in run("import minildm").stderr and run("import minildm").returncode == 1
    assert "UserWarning: theirs" in run("import other").stderr and run("import other").returncode == 0
