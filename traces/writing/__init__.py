"""Every file and folder that a user names is written here, and nothing of the user's is lost.

The contract, for `fresh_file` and `fresh_folder` alike:

- A place may be new, empty, or hold what vsim wrote of the same kind: an Arrow file by its
  metadata (`vsim.kind`, and `vsim.producer` is vsim), a JSON file by its first key (`"vsim"`), a
  JUnit file by its suites' name, a YAML file by its first line (`# vsim: machine`), a PNG by its
  `Software` text, a folder by the list of files in its summary's first key. Everything else is
  refused by name and left alone: other people's files, whatever they are called, links, devices,
  pipes, write-protected ones.
- It is refused when it is, or holds, an input of the same command under any name.
- This is checked when the block begins, before the work, and again when it is published.
- One writer at a time: a second one to the same place is refused while the first is at work.
- Everything is written in a hidden folder beside the place and moved at the end: whole or absent,
  also after a crash. The hidden folder goes when the block ends, however it ends. A killed process
  can't remove its own: the next writer to the same place does, and puts back what it had moved.
- What the system refuses (a full disk, a read-only mount, a name too long) is one `InputError`.

`Documents` is a folder that grows instead: many small results, each whole or absent.
"""

from vsim.traces.writing.documents import Documents
from vsim.traces.writing.fresh import FreshFile, FreshFolder, fresh_file, fresh_folder, named, sink
from vsim.traces.writing.marks import FolderKind, json_text, marked, png_text, yaml_text
from vsim.traces.writing.target import Name, Target, check_apart, file_target, folder_target

__all__ = (
    "Documents", "FolderKind", "FreshFile", "FreshFolder", "Name", "Target", "check_apart",
    "file_target", "folder_target", "fresh_file", "fresh_folder", "json_text", "marked", "named",
    "png_text", "sink", "yaml_text",
)  # fmt: skip
