#!/usr/bin/env python
"""Put the tables of results/*.json into README.md, between their markers.

    scripts/readme.py            # rewrites README.md
    scripts/readme.py --check    # ends with 1 when README.md is not what the results say
"""

import json
import re
import sys
from pathlib import Path

from recllm.evaluation.report import markdown
from recllm.evaluation.update_report import markdown as daily
from recllm.recommend.strategy_file import markdown as lists

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from scripts import figures  # noqa: E402

TABLES = {"speed": figures.speed, "training": figures.training}


def filled(text: str, results: Path) -> str:
    """README with the block `<!-- results:NAME --> ... <!-- end -->` of each results file replaced by its table."""

    def block(match: re.Match) -> str:
        found = json.loads((results / f"{match.group(1)}.json").read_text(encoding="utf-8"))
        if match.group(1) in TABLES:
            table = TABLES[match.group(1)](found)
        elif "days" in found:  # of scripts/update.py
            table = daily(found)
        elif "rows" not in found:  # one entry a config, of scripts/evaluate.py --strategies
            table = lists(found)
        else:
            table = markdown(found, match.group(2) or "fresh")
        return f"<!-- results:{match.group(1)} -->\n{table}\n<!-- end -->"

    return re.sub(r"<!-- results:(\w+)(?: (\w+))? -->.*?<!-- end -->", block, text, flags=re.S)


if __name__ == "__main__":
    path = ROOT / "README.md"
    old = path.read_text(encoding="utf-8")
    new = filled(old, ROOT / "results")
    if "--check" in sys.argv:
        sys.exit(int(old != new))
    path.write_text(new, encoding="utf-8")
