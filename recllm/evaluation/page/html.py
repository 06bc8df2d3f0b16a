"""The page from its parts. Everything that is put in is escaped, but the SVG of `plots`; jinja2 is an extra behind this one file."""

from pathlib import Path
from typing import Any

from recllm.errors import MissingExtraError
from recllm.model.files_recllm import whole_file


def render(page: dict[str, Any]) -> str:
    """One self-contained HTML text. `page`: what page.html reads, as recllm/recommend/report.py collects it; `svg` keys are markup.

    Raises MissingExtraError where jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError:
        raise MissingExtraError("--report: jinja2 is not installed: pip install 'recllm[report]'") from None
    folder = Path(__file__).parent
    environment = Environment(loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True)  # fmt: skip
    return environment.get_template("page.html").render(**page, style=(folder / "page.css").read_text(encoding="utf-8"))


def write(text: str, path: Path) -> None:
    """Written aside and renamed: a reader sees the old page or the new one."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")
