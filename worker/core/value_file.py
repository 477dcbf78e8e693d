"""Reads the value of a setting from a file that the environment names, as for secrets."""

from pathlib import Path


def read_value_file(name: str, path: str) -> str:
    """Return the content of a file without its last line break. Raises ValueError."""
    try:
        return Path(path).read_text(encoding="utf-8").removesuffix("\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text in UTF-8") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "no file has such a name"
        shown = path if _looks_like_path(path) else f"what it names ({name} takes the value itself)"
        raise ValueError(f"cannot read {shown}: {why}") from None


def _looks_like_path(text: str) -> bool:
    """Whether a text is a path (which may be missing), and not a secret by mistake."""
    try:
        return "://" not in text and "/" in text and Path(text).parent.is_dir()
    except (OSError, ValueError):
        return False
