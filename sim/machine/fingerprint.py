"""machine_fingerprint: which calibration a recording or a prediction stands on."""

import hashlib
from pathlib import Path

from vsim.sim.machine.loading import load_machine, machine_path


def machine_fingerprint(name_or_path: str | Path) -> str:
    """SHA-256 of a machine file and of the table files that it lists, in its order.

    Args:
        name_or_path: of the catalogue, or a file.

    Raises:
        InputError: the file is missing or wrong.
    """
    machine = load_machine(name_or_path)
    digest = hashlib.sha256()
    for path in (machine_path(name_or_path), *(Path(each.file) for each in machine.kernels)):
        content = path.read_bytes()
        digest.update(f"{len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()
