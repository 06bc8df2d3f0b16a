"""Each row's visible history as a slice of flat event arrays, for the baselines that read items one after the other."""

import numpy as np

from recllm.evaluation.features import Sequences
from recllm.feed.examples import Examples


def sequences(examples: Examples) -> Sequences:
    """Sequences of every candidate, in the order of the examples.

    Only events that some row sees are in the arrays: a table of train rows holds nothing that came later.
    """
    log, processor, timeline = examples.log, examples.processor, examples.timeline
    row = np.concatenate([group.row for group in examples.groups])
    start = np.concatenate([np.full(len(group.row), group.start) for group in examples.groups]).astype(np.int64)
    stop = start + np.concatenate([examples.visible(group) for group in examples.groups])
    opened = np.zeros(len(log.item) + 1, dtype=np.int64)  # +1 where a slice starts, -1 where it stops: above 0 between them
    np.add.at(opened, start, 1)
    np.add.at(opened, stop, -1)
    seen = np.flatnonzero(np.cumsum(opened)[:-1] > 0)
    place = np.searchsorted(seen, np.arange(len(log.item) + 1))  # log row -> event; that of the next seen one for an unseen row
    text = processor.items.vector.shape[1] - sum(processor.spec["item_vectors"].values())  # precomputed vectors follow the text's
    return Sequences(
        item=np.concatenate([group.item for group in examples.groups]).astype(np.int64), time=timeline.time[row],
        start=place[start], stop=place[stop], event_item=timeline.item[seen], event_time=timeline.time[seen],
        event_outcomes={name: timeline.outcomes[seen, i] for i, name in enumerate(processor.counters.outcomes)},
        vectors=processor.items.vector[:, :text], in_train=np.isin(np.arange(len(log.items)), log.item[log.split == 0]))
