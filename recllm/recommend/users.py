"""Lists for users of a prepared log: the history comes from its shards, the moment from the caller."""

from typing import Any

from recllm.errors import DataError, did_you_mean
from recllm.feed.log import Log
from recllm.feed.raw import RawRequests, moment
from recllm.model.processing_recllm import RowProcessor
from recllm.model.requests_recllm import parse_time

EVENTS_SENT = 1_000  # newest events of a history; the window is far shorter


def request_for(log: Log, processor: RowProcessor, user: str, context: dict[str, Any]) -> dict[str, Any]:
    """A raw request of a user at a moment; without `context["time"]` just after the log's end, in the offset of the user's last event.

    Raises DataError for a user that the log does not know.
    """
    if user not in log.users:
        raise DataError(f'user "{user}" is not in the prepared log ({len(log.users):,} users).{did_you_mean(user, log.users[:5000])}')
    return request_of(RawRequests(log, processor), log.users.index(user), context)


def request_of(raw: RawRequests, code: int, context: dict[str, Any]) -> dict[str, Any]:
    """`request_for` by user code, over columns that many requests share."""
    log, processor = raw.log, raw.processor
    last = int(log.first[code + 1]) - 1
    if context.get("time") is None:
        context = {**context, "time": moment(processor.counts.last + 1000, raw.columns["utc_offset"][last])}
    schema = processor.spec["schema"]["time"]
    now, _ = parse_time(context["time"], schema["zone"], schema["unit"], "context.time")
    history, left_out = raw.history(code, before=now)
    if len(history) > EVENTS_SENT:
        history, left_out = history[-EVENTS_SENT:], left_out + len(history) - EVENTS_SENT
    return {"profile": log.profiles[code], "history": history, "history_before": left_out, "context": context,
            **raw.social(code)}


def table(entries: list[dict[str, Any]], title: str | None, outcomes: list[str], duration: str | None) -> str:
    """A list as aligned text: rank, title or id, predictions."""
    if not entries:
        return "  nothing to recommend: every published item is in the history (recommend.exclude_seen: false ranks those too)"
    lines = []
    for rank, entry in enumerate(entries, start=1):
        shown = [f"{n} {entry[n]:5.1%}" for n in outcomes] + ([f"{duration} {entry[duration]:4.0f} s"] if duration else [])
        shown += [f"price {entry['price']:.2f}"] if "price" in entry else []
        name = str(entry.get(title or "", entry["item_id"]))
        lines.append(f"{rank:>3}  {name[:48]:<48}  {'  '.join(shown)}")
    return "\n".join(lines)
