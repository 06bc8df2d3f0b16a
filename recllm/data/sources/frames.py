"""pandas frames: written once as Parquet, so that a frame takes the same path as a file."""

from pathlib import Path

import pandas as pd

from recllm.errors import DataError


def frame_file(frame: pd.DataFrame, path: Path) -> str:
    """Write the frame to `path` and return it as text. Raises DataError for an empty frame or one that Parquet cannot hold."""
    if not isinstance(frame, pd.DataFrame):
        raise DataError(f"expected a pandas DataFrame, found {type(frame).__name__}")
    if frame.empty:
        raise DataError(f"expected rows, found an empty frame with columns {list(frame.columns)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        frame.rename(columns=str).to_parquet(path, index=False)
    except (ValueError, TypeError) as error:  # pyarrow's errors are subclasses of these
        raise DataError(f"a column holds values of several types: {' '.join(str(error).split())[:200]}; make it text") from None
    return str(path)
