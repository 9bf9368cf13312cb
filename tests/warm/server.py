"""A process that has imported `vsim` and loaded its kernels, and forks once for every call.

    python tests/warm/server.py SOCKET

A caller connects to the socket, sends the length of a JSON object (8 bytes) with its standard
input, output and error as file descriptors, and the object: `arguments`, `folder`, `environment`.
It hears the number of the process that runs the command, and when that has ended its status as of
`wait`, a line each. The process is a real one: signals reach it, and what it prints goes where the
caller's descriptors lead. The server ends when its standard input does.
"""

import atexit
import gc
import json
import os
import select
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from typing import Any, NoReturn

import vsim_app

REPOSITORY = Path(__file__).parents[2]
BOUND = """\
generate: {prompt_tokens: 160, steps: 20, heads: 2}
memory: {hbm_share: [0.2, 0.3]}
policies: [lru]
"""
QUICKSTART = str(REPOSITORY / "scenarios" / "quickstart.yaml")


def warm_up() -> None:
    """Import and load what most commands need, by running some of them here."""
    with tempfile.TemporaryDirectory() as folder:
        bound = Path(folder) / "b.yaml"
        bound.write_text(BOUND)
        out = f"{folder}/out"
        for command in (
            ("run", QUICKSTART, "--set", "workload.synth.requests=20", "--out", out),
            ("bound", str(bound)),
        ):
            sys.argv = ["vsim", *command]
            shown = StringIO()
            try:
                with redirect_stdout(shown), redirect_stderr(shown):
                    vsim_app.main()
            except SystemExit as ended:
                if ended.code != 0:
                    raise SystemExit(shown.getvalue()) from None
    gc.collect()
    gc.freeze()  # or a fork's first collection would copy every page of the process


def serve(path: str) -> None:
    """Answer calls, one process each, until nobody holds this one's standard input any more."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(16)
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([listening, sys.stdin], [], [])
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if listening not in ready:
                break
            connection, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                _answer(connection)
            connection.close()
    with suppress(ChildProcessError):
        while True:
            os.wait()


def _answer(connection: socket.socket) -> NoReturn:
    """Run one command in a fork of its own and say how it ended."""
    size, streams, _, _ = socket.recv_fds(connection, 8, 3)
    text = b""
    while len(text) < int.from_bytes(size):
        text += connection.recv(1 << 20)
    call = json.loads(text)
    child = os.fork()
    if child == 0:
        connection.close()
        _run(streams, **call)
    for stream in streams:
        os.close(stream)
    with suppress(OSError):  # whoever called was killed
        connection.sendall(b"%d\n" % child)
    _, status = os.waitpid(child, 0)
    with suppress(OSError):
        connection.sendall(b"%d\n" % status)
    os._exit(0)


def _run(
    streams: Sequence[int], arguments: Sequence[str], folder: str, environment: dict[str, str]
) -> NoReturn:
    """Become `vsim`, with streams as a new process of Python opens them."""
    code = 1
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        encoding, _, errors = environment.get("PYTHONIOENCODING", "utf-8").partition(":")
        sys.stdin = open(0, encoding=encoding, closefd=False)  # noqa: SIM115
        sys.stdout = _written(1, encoding, errors or "strict")
        sys.stderr = _written(2, encoding, "backslashreplace")
        sys.argv = ["vsim", *arguments]
        sys.path[0] = str(Path(sys.executable).parent)
        sys.modules["__main__"] = vsim_app
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            vsim_app.main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        atexit._run_exitfuncs()
        if sys.stdout is not None:
            sys.stdout.flush()
    except BaseException:  # noqa: BLE001 - as Python ends
        traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stderr.flush()
        os._exit(code)


def _written(number: int, encoding: str, errors: str) -> Any:
    return open(
        number, "w", encoding=encoding, errors=errors, closefd=False,
        buffering=1 if number == 2 else -1,
    )  # fmt: skip


if __name__ == "__main__":
    path = sys.argv[1]
    warm_up()
    serve(path)
