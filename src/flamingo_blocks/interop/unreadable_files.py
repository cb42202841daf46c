"""What is wrong with a file that does not open, in words: the libraries that read it speak of bytes."""

import re
import zipfile
from pathlib import Path

_ZIP, _PICKLE = b"PK", b"\x80"
_REFUSED = re.compile(r"Unsupported global: GLOBAL (\S+)")  # torch's word for a class that it does not make
_LENGTH = 8  # bytes before the header of safetensors: its length


def why_unreadable(path: Path, error: Exception) -> str:
    """Say in one line why a file of weights could not be opened.

    Args:
        path: The file.
        error: What the library that reads such files raised.

    Returns:
        The line; it begins with the path.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("a.pt").write_text("import torch")
        >>> why_unreadable(Path("a.pt"), ValueError("105"))
        'a.pt is no pickle, zip or safetensors file'
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_LENGTH + 1)
    if size == 0:
        return f"{path} is empty"
    json_follows = head[_LENGTH:] == b"{"
    if not head.startswith((_ZIP, _PICKLE)) and not json_follows:
        return f"{path} is no pickle, zip or safetensors file"
    if path.suffix == ".safetensors":
        cut = json_follows and ("invalid header length" in str(error) or "not fully covered" in str(error))
    elif head.startswith(_ZIP):
        cut = not zipfile.is_zipfile(path)
    else:
        cut = isinstance(error, EOFError) or "EOF" in str(error)
    if cut:
        return f"{path} is cut off: it ends before its tensors do"
    if refused := _REFUSED.search(str(error)):
        return (
            f"{path} holds an object of {refused[1]} beside or in place of tensors, and is not read, for "
            "making it could run code; save the state dict alone"
        )
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"{path} is damaged or of another kind: {lines[0].partition('. ')[0]}"
