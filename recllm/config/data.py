"""The `data` section of a configuration: where tables are, how they are read, cleaned, split and prepared."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, model_validator

from recllm.schema import CENTURY, Strict

LONGEST_PATH, LONGEST_NAME = 4_095, 255  # bytes, of any file system here


def _paths(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def local_path(path: str) -> str:
    """A path that a file system can have. A URL goes through."""
    size = [len(part.encode(errors="surrogatepass")) for part in (path, *path.split("/"))]
    if not path.strip() or "\0" in path:
        raise ValueError("expected a path")
    if not re.match(r"[A-Za-z][\w+.-]*://", path) and (size[0] > LONGEST_PATH or max(size[1:]) > LONGEST_NAME):
        raise ValueError(f"expected a path of at most {LONGEST_PATH} bytes, with names of at most {LONGEST_NAME}")
    return path


def utc_ms(moment: str) -> int:
    """UTC milliseconds of a date or moment in ISO 8601, as Python reads it; without an offset it is UTC."""
    found = datetime.fromisoformat(moment)
    return ((found if found.tzinfo else found.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


Path = Annotated[str, AfterValidator(local_path)]
Paths = Annotated[list[Path], BeforeValidator(_paths)]


def _date(value: Any) -> Any:
    """YAML reads an unquoted 2026-03-03 as a date; text must be ISO 8601."""
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str):
        try:
            datetime.fromisoformat(value)
        except ValueError:
            raise ValueError('expected a date or moment in ISO 8601, such as "2026-03-03"') from None
    return value


def _codec(value: Any) -> Any:
    """A text encoding that Python knows."""
    try:
        if isinstance(value, str):
            "".encode(value)  # refuses unknown names, and codecs that are none of text
    except LookupError:
        raise ValueError("expected a text encoding that Python knows, such as latin-1, cp1252, utf-16 or shift_jis") from None
    return value


Encoding = Annotated[str, BeforeValidator(_codec)]
Moment = Annotated[str, BeforeValidator(_date)]
FractionOrMoment = Annotated[float | str, BeforeValidator(_date)]


class Negatives(Strict):
    """Candidates for a log of positives only: `per_event` items per scored row, drawn uniformly or by popularity in train (`from`).

    With `window` (days) they come from the items in which some user had an event within so many days before the row, and only a
    user's first event of such an item is scored: else "never seen before" or "nobody looked lately" alone would tell drawn from logged.
    `base_rate` is the share of positives where the model will serve: predictions are shifted to it, metrics are not.
    """

    per_event: int = Field(default=4, ge=1, le=100)
    source: Literal["uniform", "popularity"] = Field(default="uniform", alias="from")
    seed: int = Field(default=0, ge=-(2**63), lt=2**63)
    window: float | None = Field(default=None, gt=0, le=CENTURY / 86_400, allow_inf_nan=False, description="days")
    base_rate: float | None = Field(default=None, gt=0, lt=1)


class CustomRule(Strict):
    """A rule of the user's own: rows for which `sql` holds are dropped, counted under `name`.

    `sql` is a condition over one row in DuckDB's SQL, with the names of the prepared table: user, item, time (UTC milliseconds),
    context fields, outcomes. `{name: internal, reason: staff accounts, sql: "user LIKE 'staff%'"}`.
    """

    name: str = Field(pattern=r"^\w+$")
    reason: str = Field(min_length=1)
    sql: str = Field(min_length=1)


class Rules(Strict):
    """The cleaning rules' limits, and rules of one's own (DESIGN 4). Each dropped row is kept beside the shards with its reason."""

    min_time: Moment = "1990-01-01"
    max_time: Moment | None = None
    max_duration: float = Field(default=86_400.0, gt=0, le=CENTURY, allow_inf_nan=False, description="seconds; longer is absurd")
    max_events_per_day: int = Field(default=5_000, ge=1, lt=2**63, description="a user above it on any day is taken for a bot")
    unknown_items: Literal["keep", "drop"] = "keep"
    unknown_users: Literal["keep", "drop"] = "keep"
    custom: list[CustomRule] = []
    max_dropped: float = Field(default=0.2, ge=0, le=1, description="share of the rows: a rule that drops more stops preparation")
    confirmed: list[str] = Field(default=[], description="rules that may drop more than max_dropped")


class PseudonymSettings(Strict):
    """Every user id leaves preparation as a keyed hash of it (recllm/data/pseudonyms.py). The configuration says where the key lies and
    never holds it: an environment variable (`key_env: RECLLM_KEY`), or a file outside of the run's folder (`key_file`).

    `items: true` hides item ids as well, for logs in which people are items; it is the default where the schema has relations.
    """

    key_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    key_file: str | None = None
    items: bool | None = None

    @model_validator(mode="after")
    def _one_key(self) -> "PseudonymSettings":
        if (self.key_env is None) == (self.key_file is None):
            raise ValueError("expected either key_env, the name of an environment variable, or key_file, a path")
        return self


class Split(Strict):
    """By global time: fractions of the rows, or the first moments of validation and test (ISO 8601, UTC)."""

    validation: FractionOrMoment = 0.1
    test: FractionOrMoment = 0.1

    @model_validator(mode="after")
    def _same_kind(self) -> "Split":
        if isinstance(self.validation, str) != isinstance(self.test, str):
            raise ValueError("expected validation and test both as fractions or both as dates")
        if isinstance(self.validation, float) and not (0 < self.validation < 1 and 0 < self.test < 1 and self.validation + self.test < 1):  # type: ignore[operator]
            raise ValueError("expected fractions above 0 that leave rows to train on: validation + test < 1")
        return self


class Simulation(Strict):
    """Settings of the simulated log (recllm/data/simulate), for `format: simulate`: a shop, or a social network."""

    world: Literal["shop", "social"] = "shop"
    seed: int = Field(default=0, ge=0)
    users: int = Field(default=800, ge=2)
    items: int = Field(default=300, ge=10, description="products of the shop")
    groups: int = Field(default=120, ge=1, description="of the social network, whose other items are its users")
    days: int = Field(default=28, ge=3)
    requests_per_user: int = Field(default=33, ge=1)
    slate: int = Field(default=3, ge=1)
    finer: bool = Field(default=False, description="shop only: weather, companion, the mood in free text, and the items' look")

    @model_validator(mode="after")
    def _settings_fit_world(self) -> "Simulation":
        odd = ["groups"] if self.world == "shop" else ["finer", "items"]
        # by value and not by presence: a whole config that was dumped and read again names every setting
        if found := [name for name in odd if getattr(self, name) != type(self).model_fields[name].default]:
            raise ValueError(f"expected no {', '.join(found)} for world: {self.world}: leave it out, or choose the other world")
        return self


class DataConfig(Strict):
    """Where the tables are, how they are read, cleaned and split."""

    interactions: Annotated[Paths, Field(min_length=1)]
    users: Paths = []
    items: Paths = []
    relations: Paths = []
    format: Literal["auto", "csv", "jsonl", "parquet", "arrow", "sqlite", "datasets", "recbole", "simulate",
                    "kuairand", "deskdrop"] = "auto"
    delimiter: str | None = None
    encoding: Encoding | None = Field(default=None, description="of text files that are not UTF-8: any codec of Python")
    storage: dict[str, Any] = Field(default={}, description="options of fsspec for URLs: endpoint_url, anon, key: ${AWS_KEY}...")
    out: str | None = Field(default=None, description="URL that the prepared folder is copied to, and fetched from where it is not here")
    simulate: Simulation = Simulation()
    rules: Rules = Rules()
    split: Split = Split()
    negatives: Negatives | None = None
    pseudonyms: PseudonymSettings | None = None
    period: int = Field(default=3600, ge=1, le=CENTURY, description="seconds of one period of the item counts")
    shards: int | None = Field(default=None, ge=1, le=99_999)
    workers: int = Field(default=2, ge=1, le=1024)
    memory: ByteSize | None = Field(default=None, description="of all workers together, such as 2GB; default: half of the machine")
    executor: Literal["local", "ray", "spark"] = "local"
    executor_options: dict[str, Any] = Field(default={}, description="of ray.init (address), or Spark's (master, spark.*)")

    @property
    def windowed(self) -> bool:
        """Whether the draw of negatives decides which rows are scored."""
        return bool(self.negatives and self.negatives.window)

    @model_validator(mode="after")
    def _local_has_no_options(self) -> "DataConfig":
        if self.executor == "local" and self.executor_options:
            raise ValueError(f"expected no executor_options for executor: local, found {self.executor_options}: say ray or spark")
        return self
