"""H3 cells of places, by the `h3` library. The only file that imports it."""

from typing import Any

from recllm.errors import MissingExtraError


def _library() -> Any:
    try:
        import h3
    except ImportError:
        raise MissingExtraError("cells of latitude and longitude need h3, which is not installed: pip install 'recllm[geo]'") from None
    return h3


def cell_of(latitude: float | None, longitude: float | None, resolution: int) -> str | None:
    """Id of the H3 cell around a point in degrees, such as "84392b3ffffffff"; None where it is no point of the earth."""
    if latitude is None or longitude is None or not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
        return None
    return str(_library().latlng_to_cell(latitude, longitude, resolution))
