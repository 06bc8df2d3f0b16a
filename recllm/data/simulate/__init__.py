"""Seeded logs whose click probabilities are known exactly: a shop whose tastes depend on the moment, and a social network whose
suggestions depend on mutual friends."""

from recllm.data.simulate.deskdrop import simulate_feed
from recllm.data.simulate.run import load_world, simulate
from recllm.data.simulate.social import SocialWorld
from recllm.data.simulate.world import World

__all__ = ["SocialWorld", "World", "load_world", "simulate", "simulate_feed"]
