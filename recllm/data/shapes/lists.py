"""Labels that stand in no column of their own: event types, and lists of candidates in one cell."""

import re

from recllm.data.columns import BLANKS, text
from recllm.data.shapes.part import Part, own
from recllm.data.sources.files import literal, quote
from recllm.schema import Schema

LONGEST = 4_000  # entries of one list: 12 bits of a row's number are its place in the list
ENTRY = own("entry")  # struct of a list's entry: what it says, its place from 1, whether it is in the list at all


def event_types(schema: Schema) -> Part:
    """Outcomes and `scored` of a row out of its event type."""
    spec = schema.event_type
    if spec is None:
        return Part()
    kind = text(spec.column)

    def by_type(values: dict[str, int]) -> str:
        cases = "".join(f" WHEN {literal(name)} THEN '{value}'" for name, value in values.items())
        return f"CASE {kind}{cases} END" if values else "CAST(NULL AS VARCHAR)"

    scored = {name: int(facts.get("scored", 0)) for name, facts in spec.values.items()}
    columns = {own("scored"): f"COALESCE({by_type(scored)}, '0')"}
    for outcome in spec.outcomes:
        # what comes within the window is the label of the row that was shown, which itself carries 0, never unknown (DESIGN 3)
        start = {name: 0 for name in spec.values if scored[name] and schema.outcomes[outcome].window}
        carried = {name: facts[outcome] for name, facts in spec.values.items() if outcome in facts}
        columns[own(outcome)] = by_type(start | carried)
    known = ", ".join(literal(name) for name in spec.values)
    unknown = f"{kind} IS NULL OR {kind} NOT IN ({known})"
    return Part(columns, {"unknown_event_type": unknown} if spec.other == "drop" else {})


def exploded(relation: str, schema: Schema) -> str:
    """One row per entry of each list, in the list's order. The list's own column holds the entry, so that what is dropped says which."""
    spec = schema.impressions
    if spec is None:
        return relation

    def entries(column: str) -> str:
        cell = text(column)
        split = (f"regexp_split_to_array({cell}, '\\s+')" if spec.separator.isspace()
                 else f"string_split({cell}, {literal(spec.separator)})")
        json = f"TRY_CAST(TRY_CAST({cell} AS JSON) AS VARCHAR[])"
        parts = f"CASE WHEN {cell} LIKE '[%' THEN {json} ELSE {split} END"
        return f"list_transform({parts}, lambda x: COALESCE(TRIM(x, {BLANKS}), ''))"

    listed = "list_transform(recllm_list, lambda x, i: {'entry': x, 'place': i, 'listed': true, 'chosen': list_contains(recllm_chosen, x)})"
    strays = ("list_transform(list_filter(recllm_chosen, lambda x: x <> '' AND NOT list_contains(recllm_list, x)), "
              "lambda x: {'entry': x, 'place': NULL::BIGINT, 'listed': false, 'chosen': true})")
    nothing = "[{'entry': NULL::VARCHAR, 'place': NULL::BIGINT, 'listed': true, 'chosen': false}]"
    chosen = f"COALESCE({entries(spec.clicked)}, [])" if spec.clicked else "CAST([] AS VARCHAR[])"
    cells = [text(c) for c in (schema.user, schema.time.column, spec.column)]
    request = f"md5(to_json([{', '.join(cells)}]))"  # of what the line says: two lists of one second stay apart, copies do not
    own_request = f"COALESCE({text(schema.request)}, {request})" if schema.request else request
    lists = f"SELECT *, {own_request} AS {own('request')}, {entries(spec.column)} AS recllm_list, {chosen} AS recllm_chosen FROM {relation}"
    rows = f"CASE WHEN len(recllm_list) BETWEEN 1 AND {LONGEST} THEN list_concat({listed}, {strays}) ELSE {nothing} END"
    return (f"(SELECT * EXCLUDE (recllm_list, recllm_chosen) REPLACE (CASE WHEN {ENTRY}.entry IS NULL THEN {quote(spec.column)} "
            f"ELSE {ENTRY}.entry END AS {quote(spec.column)}) FROM "
            f"(SELECT *, unnest({rows}) AS {ENTRY} FROM ({lists})))")


def impressions(schema: Schema) -> Part:
    """Item, label, request and place of a list's entry, of which every one is a row by now."""
    spec = schema.impressions
    if spec is None:
        return Part()
    entry = f"{ENTRY}.entry"
    if spec.label:
        pattern = literal(f"(?s)^(.*){re.escape(spec.label)}(.*)$")  # at the last one: an item's name may hold it too
        item, label = f"regexp_extract({entry}, {pattern}, 1)", f"regexp_extract({entry}, {pattern}, 2)"
        malformed = f"TRIM({item}, {BLANKS}) = '' OR {label} NOT IN ('0', '1')"
    else:
        item, label, malformed = entry, f"CASE WHEN {ENTRY}.chosen THEN '1' ELSE '0' END", f"{entry} = ''"
    columns = {own("item"): item, own(spec.outcome): label}
    if spec.ordered:
        columns[own("position")] = f"CAST({ENTRY}.place AS VARCHAR)"
    broken = {"empty_impressions": f"{entry} IS NULL", "bad_impression": malformed, "clicked_not_listed": f"NOT {ENTRY}.listed"}
    return Part(columns, broken)


def lowered_lists(schema: Schema) -> Schema:
    """The schema with the item, the outcomes, the request and `scored` read from where they were put."""
    if schema.event_type is None and schema.impressions is None:
        return schema
    names = schema.event_type.outcomes if schema.event_type else [schema.impressions.outcome] if schema.impressions else []
    outcomes = {n: o.model_copy(update={"column": own(n)}) if n in names else o for n, o in schema.outcomes.items()}
    if schema.event_type:
        return schema.model_copy(update={"outcomes": outcomes, "scored": own("scored")})
    return schema.model_copy(update={"outcomes": outcomes, "item": own("item"), "request": own("request")})
