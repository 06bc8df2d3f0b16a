"""Errors of a release in use. They are ValueErrors so that a caller without recllm can catch them."""

from difflib import get_close_matches


class RequestError(ValueError):
    """A request cannot be served as it stands: an undeclared field, a wrong type, an item that nothing is known of. One line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))  # names and values of the request may hold line feeds


class ReleaseError(ValueError):
    """A release folder cannot be used: a missing file, another version, an unknown encoder."""


def nearest(name: str, known: list[str]) -> str:
    """` Did you mean "device"?`, or nothing when no known name is near."""
    match = get_close_matches(str(name), known, n=1, cutoff=0.55)
    return f' Did you mean "{match[0]}"?' if match else ""
