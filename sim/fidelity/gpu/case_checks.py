"""What fields of cases may hold. Each raises ValueError: the field, and what to write instead."""

from typing import Final

MOST_TOKENS: Final = 1 << 24
MOST_BYTES: Final = 1 << 40
MOST_COUNT: Final = 1 << 20


def within(value: object, name: str, least: int, most: int) -> None:
    """Refuse a field that is no whole number between two."""
    found = getattr(value, name)
    if isinstance(found, bool) or not isinstance(found, int) or not least <= found <= most:
        raise ValueError(f"{name} is {found!r}; write a whole number from {least} to {most}")


def one_of(value: object, name: str, words: tuple[str, ...]) -> None:
    """Refuse a field that is none of some words."""
    found = getattr(value, name)
    if found not in words:
        raise ValueError(f"{name} is {found!r}; write one of {', '.join(words)}")


def check_name(name: str) -> None:
    """Refuse what is no name."""
    if not name.strip() or not name.isprintable() or len(name) > 200:
        raise ValueError(f"name is {name[:40]!r}; write up to 200 printable characters")


def check_attention(name: str, layers: int, contexts: tuple[int, ...]) -> None:
    """Refuse a name, layers or contexts that make no attention."""
    check_name(name)
    if not 1 <= layers <= 1024:
        raise ValueError(f"layers is {layers}; write 1 to 1024")
    if not contexts or len(contexts) > 1 << 16:
        raise ValueError("contexts is empty, or longer than 65,536 requests; write one each")
    if not all(1 <= context <= MOST_TOKENS for context in contexts):
        raise ValueError(f"contexts holds {min(contexts)}; write 1 to {MOST_TOKENS} tokens each")
