"""A seeded shop log whose click probabilities are known exactly: tastes depend on hour, place, device and mood."""

from recllm.data.simulate.draw import simulate
from recllm.data.simulate.world import World

__all__ = ["World", "simulate"]
