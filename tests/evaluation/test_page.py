"""The page's parts: panels that scale and leak nothing, tables that say who is ahead, optional files."""

import builtins
import json
import re

import pytest

from recllm.errors import DataError, MissingExtraError
from recllm.evaluation.page import plots
from recllm.evaluation.page.html import render
from recllm.evaluation.page.plots import Dot, Series
from recllm.evaluation.page.sections import figures_table, metrics, strategies
from tests.evaluation.results import results, row

PANELS = {
    "lines": lambda alt: plots.lines([Series("<b>$x$</b>", [1, 2], [0.1, float("nan")], ring=0), Series("b", [1, 2], [1, 2])], alt=alt),
    "agreement": lambda alt: plots.agreement([{"p": 0.1, "y": 0.0, "low": 0.0, "high": 0.0, "n": 4}], alt=alt, percent=True, unit=""),
    "coverage": lambda alt: plots.coverage([{"p": 3.0, "covered": 0.7}], alt=alt),
    "dots": lambda alt: plots.dots([Dot("<script>x</script>$", 0.7, 0.6, 0.8, 1200, 0.65), Dot("b" * 90, 0.5, 0.5, 0.5, 3)], alt=alt,
                                   whole=0.7, names=("recllm", "item-rate")),
}  # fmt: skip


@pytest.mark.parametrize("name", PANELS)
def test_a_panel_scales_and_needs_nothing_from_outside(name):
    svg = PANELS[name]('a "<title>"')
    assert svg.startswith("<svg ") and 'viewBox="0 0 360' in svg and svg.rstrip().endswith("</svg>")
    assert " width=" not in svg[: svg.index(">")] and "<script" not in svg and "<b>" not in svg
    assert 'aria-label="a &quot;&lt;title&gt;&quot;"' in svg
    assert not re.findall(r'(?:href|src)="(?!#)', svg) and "<metadata" not in svg and "font-family" not in svg
    assert "var(--first, #1f5fa8)" in svg  # so that the dark page turns it
    assert svg == PANELS[name]('a "<title>"') and len(svg) < 60_000


def test_a_dot_plot_shows_counts_and_shortens_long_values():
    svg = PANELS["dots"]("x")
    assert ">1,200<" in svg and "b" * 15 + "…" in svg and "b" * 17 not in svg
    assert "&lt;script&gt;x" in svg


@pytest.mark.parametrize(("package", "call"), [("matplotlib", plots.require), ("jinja2", lambda: render({}))])
def test_without_the_extra_the_error_says_how_to_install_it(monkeypatch, package, call):
    plain = builtins.__import__

    def absent(name, *args, **kwargs):
        if name.split(".")[0] == package:
            raise ImportError(name)
        return plain(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingExtraError, match=rf"{package} is not installed: pip install 'recllm\[report\]'"):
        call()


def test_the_best_of_a_line_is_marked_and_who_is_ahead_is_said():
    # given a baseline that is ahead in calibration alone, and a coverage, of which none is best
    found = metrics(results())
    table = found["fresh"]
    click, duration = table["tasks"]
    assert table["models"] == ["recllm", "item-rate"]
    assert [[c["best"] for c in line["cells"]] for line in click["lines"]] == [[True, False], [True, False], [False, True]]
    assert [line["metric"] for line in click["lines"]] == ["AUC ↑", "log loss ↓", "miscalibration ↓"]
    assert duration["lines"][0]["cells"][0] == {"mean": "12.2", "low": "11.2", "high": "13.2", "best": True}
    assert duration["lines"][1]["cells"][0]["best"] is False and duration["lines"][1]["cells"][1] is None
    assert table["ahead"] == ["click, miscalibration: item-rate 0.0150 against 0.0200"] and table["compared"] == 3
    assert found["frozen"]["counters"] == "frozen" and found["both"]
    assert metrics(results([row()]))["frozen"] is None


def test_equal_figures_leave_nobody_ahead():
    table = figures_table(results([row(), row(model="item-rate")]), "fresh")
    assert table["ahead"] == [] and [c["best"] for c in table["tasks"][0]["lines"][0]["cells"]] == [True, True]


def test_strategies_are_lines_by_split_and_settings(tmp_path):
    path = tmp_path / "strategies.json"
    assert strategies("shop", path) is None
    rows = [{"strategy": "weighted", "settings": {"weights": {"click": 1.0}}, "split": "test", "metric": metric, "mean": 0.5, "low": 0.4,
             "high": 0.6, "n": 70} for metric in ("ndcg@10", "revenue")]  # fmt: skip
    path.write_text(json.dumps({"shop": {"rows": rows, "winner": {"strategy": "weighted", "value": None}}}))
    found = strategies("shop", path)
    assert found["metrics"] == ["ndcg@10", "revenue"] and found["winner"] == "strategy weighted"
    assert [(s["split"], s["strategy"], s["settings"], s["n"]) for s in found["lines"]] == [("test", "weighted", "weights (click 1)", 70)]
    assert strategies("other", path) is None
    path.write_text(json.dumps({"shop": {"rows": [{"strategy": "weighted"}]}}))
    with pytest.raises(DataError, match='row 0 of "shop" lacks settings, split'):
        strategies("shop", path)
    path.write_text("[]")
    with pytest.raises(DataError, match="expected a JSON object"):
        strategies("shop", path)
