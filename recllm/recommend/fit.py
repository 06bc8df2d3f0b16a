"""`recllm.fit(interactions, schema)`: from a pandas frame to a recommender in one call, for notebooks."""

import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from recllm.config import Config, explain
from recllm.data.prepare import prepare
from recllm.data.sources.frames import frame_file
from recllm.model.recommender_recllm import Recommender
from recllm.recommend.build import recommender_of
from recllm.schema import Schema
from recllm.training.run import train


def fit(interactions: pd.DataFrame, schema: dict[str, Any] | Schema, *, users: pd.DataFrame | None = None,
        items: pd.DataFrame | None = None, folder: str | Path | None = None, **settings: Any) -> Recommender:
    """Prepare, train and calibrate on frames. `schema` is the YAML schema as a dict; `settings` are other sections of a config, such as
    `training={"minutes": 2}` or `model={"encoder": ...}`. `folder` keeps the run, else a temporary one holds it.

    Raises ConfigError for a wrong setting, DataError for a frame that cannot be used.
    """
    place = Path(folder) if folder is not None else Path(tempfile.mkdtemp(prefix="recllm-"))
    frames = {"interactions": interactions, "users": users, "items": items}
    paths = {name: frame_file(frame, place / f"{name}.parquet") for name, frame in frames.items() if frame is not None}
    plain = schema.model_dump(mode="json") if isinstance(schema, Schema) else schema
    # one worker unless asked: a notebook or a script without a main guard cannot start processes
    whole = {"name": "fit", "schema": plain, "root": str(place), **settings, "data": {"workers": 1, **settings.get("data", {}), **paths}}
    try:
        config = Config.model_validate(whole)
    except ValidationError as error:
        raise explain(error, "recllm.fit", Config) from None
    prepare(config)
    return recommender_of(train(config, say=lambda _: None))
