"""What the encoder knows of a user, kept: the keys and values of a timeline, lengthened event by event, and a cache of many of them."""

import threading

import torch

SLACK = 32  # tokens that a copied prefix can grow by before it is copied again


class Buffer:
    """Room for keys and values, shared by the prefixes that grew out of one another; `used` tokens are taken."""

    def __init__(self, made: torch.Tensor, used: int) -> None:
        self.made, self.used, self.lock = made, used, threading.Lock()  # made (L, 2, 1, H, room, d)

    def claim(self, begin: int, end: int) -> bool:
        """Take the room behind the first `begin` tokens, unless somebody has it already or it ends before `end`."""
        with self.lock:
            free = self.used == begin and end <= self.made.shape[4]
            self.used = end if free else self.used
            return free


class Prefix:
    """Each layer's keys and values of one timeline: a profile's, then events'. A prefix never changes; `grown` gives a longer one, and
    any number of requests can be scored against one at once."""

    def __init__(self, buffer: Buffer, profile: int, events: int) -> None:
        self.buffer, self.profile, self.events = buffer, profile, events

    @classmethod
    def empty(cls, layers: int, heads: int, size: int, profile: int, events: int, like: torch.Tensor) -> "Prefix":
        """Room for a profile and events, on the device and in the precision of a tensor; H heads of d = `size`."""
        room = profile + events
        return cls(Buffer(like.new_empty((layers, 2, 1, heads, room, size)), room), profile, events)

    @property
    def layers(self) -> int:
        return self.buffer.made.shape[0]

    @property
    def length(self) -> int:
        return self.profile + self.events

    @property
    def bytes(self) -> int:
        return self.buffer.made.nbytes

    def grown(self, events: int) -> "Prefix":
        """This prefix with room for `events` more, yet to be written. Where somebody else grew out of it before, in a copy."""
        length = self.length + events
        if self.buffer.claim(self.length, length):
            return Prefix(self.buffer, self.profile, self.events + events)
        old = self.buffer.made
        made = old.new_empty((*old.shape[:4], length + SLACK, old.shape[5]))
        made[:, :, :, :, : self.length] = old[:, :, :, :, : self.length]
        return Prefix(Buffer(made, length), self.profile, self.events + events)

    def write(self, layer: int, begin: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Put a layer's keys and values (1, H, m, d) at place `begin` on."""
        self.buffer.made[layer, 0, :, :, begin : begin + key.shape[2]] = key
        self.buffer.made[layer, 1, :, :, begin : begin + key.shape[2]] = value

    def read(self, layer: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values (1, H, length, d) of a layer, as they lie unless they are wanted in another precision."""
        key, value = self.buffer.made[layer, :, :, :, : self.length].to(dtype).unbind(0)
        return key, value
