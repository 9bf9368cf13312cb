"""`vsim` by a warm process: hands a call to `server.py` and ends as the command did.

python -SE tests/warm/client.py SOCKET [ARGUMENT ...]
"""

import json
import os
import select
import signal
import socket
import sys


class Call:
    """A command that runs in a fork of the server; `pid` is its process.

    Args:
        path: the server's socket.
        arguments: of `vsim`.
        streams: its standard input, output and error, which stay open here.
        folder: what it runs in.
        environment: its environment.
    """

    def __init__(
        self, path: str, arguments: list[str], streams: tuple[int, int, int], folder: str,
        environment: dict[str, str],
    ) -> None:  # fmt: skip
        call = {"arguments": arguments, "folder": folder, "environment": environment}
        text = json.dumps(call).encode()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        socket.send_fds(self._socket, [len(text).to_bytes(8)], streams)
        self._socket.sendall(text)
        self._answers = self._socket.makefile("rb", buffering=0)
        self.pid = int(self._answers.readline())

    def has_ended(self) -> bool:
        """Whether its exit code is there; before `wait` only."""
        return bool(select.select([self._socket], [], [], 0)[0])

    def kill(self) -> None:
        """End it if it has not ended."""
        if not self._answers.closed and not self.has_ended():
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """The exit code, negative where a signal ended it."""
        status = int(self._answers.readline())
        self._answers.close()
        self._socket.close()
        return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    call = Call(sys.argv[1], sys.argv[2:], (0, 1, 2), os.getcwd(), dict(os.environ))
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, lambda number, frame: os.kill(call.pid, number))
    code = call.wait()
    sys.exit(code if code >= 0 else 128 - code)
