"""Fields of the moment, the user and the item. What is made out of other columns (cells, levels, devices) becomes plain fields here."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from recllm.schema.base import Column, Strict, column_of

# named here: inside a model `list` is a field
Resolutions = Annotated[list[Annotated[int, Field(ge=0, le=15)]], Field(max_length=8)]
Levels = Annotated[list[Column], Field(max_length=8)]


def _fields(value: Any) -> Any:
    """`[device, place]` is short for `{device: {}, place: {}}`; an empty YAML value is an empty mapping."""
    if isinstance(value, list):  # `[device, temperature: {kind: number}]` is a list of names and of mappings with one key
        return _fields({k: v for entry in value for k, v in (entry.items() if isinstance(entry, dict) else [(entry, None)])})
    if isinstance(value, dict):
        return {name: column_of(spec) if spec is not None else {} for name, spec in value.items()}
    return {} if value is None else value


class Made(Strict):
    """How preparation makes a field out of other columns. Everybody else reads the field as any other; a request gives its value.

    `cell`: H3 cell of (latitude, longitude) at `level`. `level`: the first `level` + 1 columns, or parts of one column split at
    `separator`, joined by `/`. `device` and `system`: of a user agent.
    """

    of: Literal["cell", "level", "device", "system"]
    columns: list[str]
    level: int = 0
    separator: str | None = None
    field: str = Field(description="the name under which it was declared, for counts of unreadable values")


class CategoryField(Strict):
    """A field of values from a vocabulary, of numbers, or of free text (context only, read by the text tower).

    `list: true` holds several values in one cell, split at `separator`.

    In `context`, one entry may stand for several fields that preparation makes:
    `place: {kind: place, latitude: lat, longitude: lon, resolutions: [4, 7]}` gives `place_4` and `place_7`, the ids of H3 cells;
    `place: {kind: place, levels: [country, city]}` gives `place_country` and `place_city` out of the columns country and city, and with
    `column: where` out of the parts of that column (`Portugal/Lisbon`, split at `separator`, by default `/`; deeper parts are left
    out); a value names its parents, `Portugal/Lisbon`, so that towns of one name stay apart. `device: {kind: device, column: agent}` is
    the kind of device of a user agent (app, desktop, mobile, tablet, bot), `kind: system` its operating system. A request that is
    served gives the fields that were made: it needs neither library nor raw columns.
    """

    column: Column | None = None
    kind: Literal["category", "number", "place", "text", "device", "system"] = "category"
    list: bool = False
    separator: str = Field(default="|", min_length=1)
    latitude: Column | None = None
    longitude: Column | None = None
    resolutions: Resolutions = []
    levels: Levels = []
    made: Made | None = Field(default=None, description="filled in by recllm itself")

    @model_validator(mode="after")
    def _options_fit_kind(self) -> "CategoryField":
        if self.list and self.kind in ("number", "text"):
            raise ValueError(f"expected a category for list: true, found kind: {self.kind}")
        cells = [self.latitude, self.longitude, self.resolutions or None]
        if any(cells) and not (all(cells) and self.kind == "place" and not self.levels and not self.column):
            raise ValueError("expected latitude, longitude and resolutions together, with kind: place and neither column nor levels")
        if (any(cells) or self.levels) and (self.kind != "place" or self.list):
            raise ValueError(f"latitude, longitude and levels are for kind: place without list, found kind: {self.kind}")
        if self.kind in ("device", "system") and self.list:
            raise ValueError(f"expected no list for kind: {self.kind}")
        for name, entries in (("levels", self.levels), ("resolutions", self.resolutions)):
            if len(set(entries)) < len(entries):
                raise ValueError(f"{name}: expected each once, found {entries}")
        return self

    @property
    def is_plain(self) -> bool:
        """False for an entry that stands for fields which preparation makes."""
        return not (self.latitude or self.levels or self.kind in ("device", "system"))


def _plain_fields(name: str, spec: CategoryField) -> dict[str, CategoryField]:
    """The plain fields that one entry of the context stands for."""
    if spec.is_plain:
        return {name: spec}
    if spec.kind in ("device", "system"):
        made = {name: Made(of=spec.kind, columns=[spec.column or name], field=name)}  # type: ignore[arg-type]
    elif spec.latitude:
        at = [str(spec.latitude), str(spec.longitude)]
        made = {f"{name}_{r}": Made(of="cell", columns=at, level=r, field=name) for r in spec.resolutions}
    else:
        separator = ("/" if spec.separator == "|" else spec.separator) if spec.column else None
        columns = [spec.column] if spec.column else spec.levels
        made = {f"{name}_{level}": Made(of="level", columns=columns, level=k, separator=separator, field=name)
                for k, level in enumerate(spec.levels)}
    kind = "place" if spec.kind == "place" else "category"
    return {field: CategoryField(kind=kind, made=how) for field, how in made.items()}  # type: ignore[arg-type]


def _context(fields: dict[str, CategoryField]) -> dict[str, CategoryField]:
    """The context with every field that is made out of others in plain form."""
    plain: dict[str, CategoryField] = {}
    for name, spec in fields.items():
        for field, made in _plain_fields(name, spec).items():
            if field in plain or (field != name and field in fields):
                raise ValueError(f'context.{name} makes a field "{field}", which is declared too: choose another name')
            plain[field] = made
    return plain


def _profile(fields: dict[str, CategoryField]) -> dict[str, CategoryField]:
    for name, spec in fields.items():
        if not spec.is_plain or spec.made:
            raise ValueError(f"{name}: cells, levels and devices are made for the context only")
    return fields


class ItemField(Strict):
    """A field of the item; text fields are verbalised as `key: value`."""

    column: Column | None = None
    list: bool = False
    separator: str = Field(default="|", min_length=1)


ContextFields = Annotated[dict[str, CategoryField], BeforeValidator(_fields), AfterValidator(_context)]
ProfileFields = Annotated[dict[str, CategoryField], BeforeValidator(_fields), AfterValidator(_profile)]
ItemFields = Annotated[dict[str, ItemField], BeforeValidator(_fields)]
