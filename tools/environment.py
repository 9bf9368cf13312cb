"""Make an environment with vsim and all that its tests need: `python3 tools/environment.py FOLDER`.

uv installs in a third of pip's time. It knows nothing of how pip was told where to find packages,
so that is handed on to it; what it can't do for whatever reason, pip does. Nothing is compiled that
nobody imports, which is four fifths of all modules.
"""

import os
import subprocess
import sys
from ast import literal_eval
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

PINS = "constraints.txt"
HERE = ("-e", ".[dev]")
BY_PIP = ("-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-compile")
AS_UV_CALLS_IT: Mapping[str, str] = MappingProxyType({
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
})  # fmt: skip


def make(folder: Path) -> int:
    """Make it, or bring it up to date; return the exit code of what installed last."""
    # The second is for the environment that builds vsim; old pips know only the first.
    pinned = {**os.environ, "PIP_CONSTRAINT": PINS, "PIP_BUILD_CONSTRAINT": PINS}
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    host = [sys.executable, *BY_PIP[:2], "--python", folder, *BY_PIP[2:]]
    if not (folder / "bin" / "pip").exists() and not _done([*host, "pip", "uv"], pinned):
        # The pip that Python brings may be years old, and take half a minute to look through an
        # index: it fetches its successor alone.
        subprocess.run([python, "-m", "ensurepip", "--upgrade"], check=True)
        subprocess.run([python, *BY_PIP, "pip"], env=pinned, check=True)
        _done([python, *BY_PIP, "uv"], pinned)
    uv = [folder / "bin" / "uv", "pip", "install", "-q", "--python", python]
    if _done([*uv, "-c", PINS, "-b", PINS, *HERE], {**os.environ, **_for_uv(python)}):
        return 0
    # That the folders are named as they install is meant.
    quiet = {"PYTHONWARNINGS": "ignore:Editable installation"}
    return subprocess.run([python, *BY_PIP, *HERE], env={**pinned, **quiet}, check=False).returncode


def _done(command: list[str | Path], environment: Mapping[str, str]) -> bool:
    """Whether it could do it. What it says of that goes nowhere: another way follows."""
    try:
        ended = subprocess.run(command, env=environment, capture_output=True, check=False)
    except OSError:
        return False
    return ended.returncode == 0


def _for_uv(python: Path) -> dict[str, str]:
    """Where pip would look for packages, in uv's words."""
    shown = subprocess.run(
        [python, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    told: dict[str, str] = {}
    # What the environment says is listed first and counts most, then pip's files.
    for line in reversed(shown.stdout.splitlines()):
        key, _, value = line.partition("=")
        told[key.rpartition(".")[2]] = " ".join(str(literal_eval(value)).split())
    found = {
        name: told[key].replace(" ", ",") if key == "find-links" else told[key]
        for key, name in AS_UV_CALLS_IT.items() if told.get(key)
    }  # fmt: skip
    # pip takes a version from whichever index has it, and trusts whom the system trusts.
    found |= {"UV_INDEX_STRATEGY": "unsafe-best-match", "UV_HTTP_RETRIES": "1"}
    if "SSL_CERT_FILE" not in found:
        found["UV_SYSTEM_CERTS"] = "1"
    if told.get("no-index"):
        found["UV_OFFLINE"] = "1"  # of an index on this disk nothing else could be told
    return found


if __name__ == "__main__":
    raise SystemExit(make(Path(sys.argv[1])))
