"""Latitude and longitude in two columns of the log: one place, as cells of the earth."""

from recllm.data.propose.evidence import Evidence, Finding
from recllm.data.propose.profile import Column
from recllm.data.sources.files import quote

# spread of the points in degrees -> H3 resolutions: about 10 and 1.4 km across in a town, 40 and 4 km in a country, 110 and 20 km beyond
RESOLUTIONS = {1.0: [6, 8], 15.0: [4, 7], 360.0: [3, 5]}


def _degrees(column: Column, most: float) -> bool:
    """Numbers with decimals within the degrees of the earth."""
    return (column.numeric and not column.whole and column.distinct > 1 and column.low is not None and column.high is not None
            and -most <= column.low <= column.high <= most)


def _pairs(evidence: Evidence) -> list[tuple[Column, Column, bool]]:
    """(latitude, longitude, whether their names say so): else two neighbours with four decimals and more, filled in the same rows."""
    left = [c for c in evidence.left if not evidence.of(evidence.item, c.name)]
    named = [(a, b, True) for a in left for b in left if a.name != b.name and "latitude" in a.hints and "longitude" in b.hints
             and _degrees(a, 90) and _degrees(b, 180)]
    fine = [(a, b, False) for a, b in zip(left, left[1:], strict=False) if _degrees(a, 90) and _degrees(b, 180) and not (a.hints | b.hints)
            and min(a.share["fine"], b.share["fine"]) >= 0.8 and abs(a.filled - b.filled) < 0.001 and _spread(evidence, a, b) > 0]
    return named or [pair for pair in fine if (pair[1].high or 0) - (pair[1].low or 0) < 60]


def _spread(evidence: Evidence, *columns: Column) -> float:
    """Degrees between which nine of ten points lie, of the wider column."""
    spans = [f"quantile_cont(TRY_CAST({quote(c.name)} AS DOUBLE), 0.95) - quantile_cont(TRY_CAST({quote(c.name)} AS DOUBLE), 0.05)"
             for c in columns]
    return float(evidence.connection.execute(f"SELECT greatest({', '.join(spans)}) FROM {evidence.log.name}").fetchall()[0][0] or 0)


def place(evidence: Evidence) -> list[Finding]:
    """The findings of a latitude and its longitude, or none."""
    pairs = _pairs(evidence)
    if not pairs:
        return []
    latitude, longitude, named = pairs[0]
    spread = _spread(evidence, latitude, longitude)
    resolutions = next(r for most, r in RESOLUTIONS.items() if spread <= most)
    why = (f"{'its name and ' if named else ''}degrees, {latitude.low:g} to {latitude.high:g} and {longitude.low:g} to {longitude.high:g}, "
           f"nine of ten within {spread:.2g}: H3 cells of two sizes (pip install 'recllm[geo]')")
    spec = {"kind": "place", "latitude": latitude.name, "longitude": longitude.name, "resolutions": resolutions}
    sure = "likely" if named else "guess"
    return [Finding(latitude.name, "context", why, sure, "place", spec, "" if named else "two numbers, if these are no degrees"),
            Finding(longitude.name, "longitude", f"the other half of {latitude.name}", sure)]
