"""`Documents`: a folder of JSON documents by key, which several processes fill at once."""

import json
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from vsim.traces.faults import refuse
from vsim.traces.writing.marks import KEY, json_text, marked

_KEY: Final = re.compile(r"[0-9a-f]{64}")


class Documents:
    """JSON documents under keys of 64 hex digits, one file each; stateful: the folder is.

    A document is written beside its place and moved there, so that it is whole or absent, also
    after a crash; who writes one that is there already replaces it. Other files of the folder are
    left alone. What can't be read as a document of the kind counts as absent.

    Args:
        folder: where they are; it is made, with those above it, where it is not there.
        kind: what they hold, as their mark says.
        option: the option that the folder was named by; None where nobody named it.

    Raises:
        InputError: the folder can't be made or written to.
    """

    def __init__(self, folder: Path | str, kind: str, option: str | None = None) -> None:
        self.folder = Path(folder)
        self.kind = kind
        self._where = option or str(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._refuse(error)
        if not os.access(self.folder, os.W_OK | os.X_OK):
            refuse(self._where, f"{folder}: cannot be written to; name another folder")

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the document under a key, without its mark; None where there is none."""
        try:
            document = json.loads(self._path(key).read_bytes())
        except (OSError, ValueError, RecursionError):  # absent, cut off or spoilt
            return None
        if not isinstance(document, dict) or document.get(KEY) != {"kind": self.kind}:
            return None
        return {name: value for name, value in document.items() if name != KEY}

    def put(self, key: str, document: Mapping[str, Any]) -> None:
        """Keep a document.

        Raises:
            InputError: it can't be written.
        """
        path = self._path(key)
        fresh = path.with_name(f".{key}.{secrets.token_hex(8)}")
        try:
            try:
                fresh.write_text(json_text(marked(self.kind, document)), encoding="utf-8")
                os.replace(fresh, path)
            finally:
                fresh.unlink(missing_ok=True)
        except OSError as error:
            self._refuse(error)

    def _path(self, key: str) -> Path:
        assert _KEY.fullmatch(key), "a key is a SHA-256 in hex"
        return self.folder / f"{key}.json"

    def _refuse(self, error: OSError) -> None:
        reason = os.strerror(error.errno or 0)
        refuse(self._where, f"{self.folder}: cannot be written: {reason}; name another folder")
