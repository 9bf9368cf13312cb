"""One package writes whatever a user names."""

import ast
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]

WRITERS = {"write_text", "write_bytes", "OSFile", "rename", "replace", "mkdir", "makedirs",
           "rmtree", "unlink", "symlink_to", "rmdir", "savefig"}  # fmt: skip
KNOWN = {
    # a cache of the kernels' machine code, whose place no option names
    ("sim/compiled.py", "makedirs"),
    ("sim/compiled.py", "rmtree"),
}


def writes(path: Path) -> Iterator[str]:
    """Calls in a file that write, move or remove something in the file system."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        owner = getattr(getattr(node.func, "value", None), "id", "")
        texts = [a.value for a in node.args[1:] if isinstance(a, ast.Constant)]
        if name == "open" and any(set(str(mode)) & set("wax+") for mode in texts):
            yield "open"
        elif name == "OSFile" and "wb" in texts:
            yield "OSFile"
        elif name == "replace" and owner not in ("os", "shutil"):
            continue  # of a text, a time or a frozen value
        elif name == "unlink" and owner not in ("os", "path", "temporary"):
            continue  # of a linked list
        elif name in WRITERS - {"OSFile"}:
            yield name


def test_only_the_writing_package_writes() -> None:
    found = {
        (path.relative_to(REPOSITORY).as_posix(), call)
        for package in ("traces", "sim")
        for path in (REPOSITORY / package).rglob("*.py")
        if "prompts" not in path.parts  # not installed: it draws two of our own prompts
        for call in writes(path)
    }
    inside = {(file, call) for file, call in found if file.startswith("traces/writing/")}
    seen = {call for _, call in inside}
    assert seen >= {"open", "write_text", "rename", "replace", "mkdir", "rmtree"}, "it looks"
    assert found - inside == KNOWN
