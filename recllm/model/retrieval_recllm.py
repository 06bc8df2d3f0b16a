"""Retrieval: the contents of the catalogue, kept once as unit vectors, and which of its items are nearest to a request's query."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from .catalogue_recllm import ItemTable
from .lists_recllm import best

AT_ONCE = 16_384  # rows that are made, or multiplied in double precision, at a time


class Contents:
    """Contents (I, W) of a catalogue's items, float32 of length one, made on first use where `content` makes them, and anew when `version`
    changes.

    `content(vector (n, V), id_row (n,))` -> (n, W) is the engine's, `version()` the model's. Rows from I on are items
    that came with a request: their contents are made for it. Cosines are told in double precision and row by row, so that one depends
    neither on which others are asked for nor on their order, and items of equal contents tie.
    """

    def __init__(self, items: ItemTable, content: Callable[[np.ndarray, np.ndarray], torch.Tensor], version: Callable[[], Any]) -> None:
        self.items, self.content, self.version = items, content, version
        self.kept: tuple[Any, torch.Tensor] | None = None

    def whole(self) -> torch.Tensor:
        """(I, W) of the whole catalogue, without a second copy of it on the way."""
        version = self.version()
        if self.kept is None or self.kept[0] != version:
            vector, id_row = self.items.vector, self.items.id_row
            first = self.content(vector[:AT_ONCE], id_row[:AT_ONCE])
            made = first.new_empty((len(vector), first.shape[1]))
            made[:AT_ONCE] = first
            for begin in range(AT_ONCE, len(vector), AT_ONCE):
                part = slice(begin, begin + AT_ONCE)
                made[part] = self.content(vector[part], id_row[part])
            self.kept = (version, made)
        return self.kept[1]

    def of(self, items: ItemTable, rows: np.ndarray) -> torch.Tensor:
        """(c, W) of rows (c,) of a request's items."""
        whole = self.whole()
        new = rows >= len(whole)
        if not new.any():
            return whole[torch.from_numpy(rows).to(whole.device)]
        found = whole.new_empty((len(rows), whole.shape[1]))
        own, theirs = (torch.from_numpy(np.flatnonzero(part)).to(whole.device) for part in (~new, new))
        found[own] = whole[torch.from_numpy(rows[~new]).to(whole.device)]
        found[theirs] = self.content(items.vector[rows[new]], items.id_row[rows[new]]).to(whole.device)
        return found

    def cosines(self, items: ItemTable, rows: np.ndarray, query: torch.Tensor) -> np.ndarray:
        """(c,) float64 of rows (c,) to a query (W,) of length one."""
        wanted, found = query.double().cpu().numpy(), np.empty(len(rows))
        for begin in range(0, len(rows), AT_ONCE):
            part = self.of(items, rows[begin : begin + AT_ONCE]).double().cpu().numpy()
            found[begin : begin + AT_ONCE] = (part * wanted).sum(axis=1)  # a matrix product rounds by where in it a row stands
        return found

    def nearest(self, items: ItemTable, rows: np.ndarray, query: torch.Tensor, count: int) -> tuple[np.ndarray, np.ndarray]:
        """(places in `rows` in ascending order, their cosines) of the `count` rows (c,) nearest to a query; of equal ones the first.

        One product in float32 finds who may be among them, at its rounding's width around the last one; only those are told in double.
        """
        if count >= len(rows):
            return np.arange(len(rows)), self.cosines(items, rows, query)
        if count <= 0:
            return np.zeros(0, dtype=np.int64), np.zeros(0)
        whole = self.whole()
        with torch.inference_mode():
            wanted = query.to(whole.device)
            if 2 * len(rows) >= len(whole) and rows.max() < len(whole):  # the product reads every row where it lies
                rough = (whole @ wanted).cpu().numpy()[rows]
            else:
                rough = (self.of(items, rows) @ wanted).cpu().numpy()
        low = -rough
        # a product of unit vectors is off by at most W/2 eps (Higham 2002, "Accuracy and Stability of Numerical Algorithms", 3.1), that of
        # the row and that of the last one; and as much again
        width = 2 * len(query) * float(np.finfo(np.float32).eps)
        near = np.flatnonzero(~(low > np.partition(low, count - 1)[count - 1] + width))
        exact = self.cosines(items, rows[near], query)
        chosen = best(exact, count)
        return near[chosen], exact[chosen]
