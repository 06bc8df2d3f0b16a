"""What the simulated shop is made of: topics, context values, and how the one moves the liking of the other (logits)."""

import numpy as np

BASE, INTEREST = -3.1, 1.5  # logits
STRENGTH = 0.8  # of the effects below
TASTE_STD, QUALITY_STD = 0.05, 0.05  # what no field explains
ZERO_DURATION, DURATION_STD = 0.06, 0.6
LATE_SHARE = 0.2

SEGMENTS = ("student", "parent", "professional", "retired")
KINDS: dict[str, tuple[str, ...]] = {
    "daypart": ("night", "morning", "midday", "evening"),
    "place": ("Amsterdam", "Lisbon", "Madrid", "Oslo"),
    "device": ("mobile", "desktop", "tv"),
    "mood": ("relaxed", "busy", "curious", "tired"),
}
DAYPART_OF_HOUR = np.array([0] * 6 + [1] * 5 + [2] * 6 + [3] * 6 + [0])
DAYPART_P = np.array([[0.35, 0.1, 0.2, 0.35], [0.1, 0.3, 0.2, 0.4], [0.1, 0.35, 0.3, 0.25], [0.1, 0.35, 0.35, 0.2]])
DEVICE_P = np.array([[0.4, 0.25, 0.35], [0.6, 0.3, 0.1], [0.4, 0.5, 0.1], [0.35, 0.2, 0.45]])  # (daypart, device)
MOOD_P = np.array([[0.3, 0.1, 0.2, 0.4], [0.2, 0.45, 0.2, 0.15], [0.2, 0.4, 0.3, 0.1], [0.4, 0.15, 0.2, 0.25]])

# topic -> (typical price, product words, closing words)
CATALOGUE: dict[str, tuple[float, tuple[str, ...], tuple[str, ...]]] = {
    "coffee": (
        12,
        ("espresso beans", "dark roast coffee", "filter coffee", "cold brew"),
        ("for the moka pot", "with notes of cocoa", "from a small roastery"),
    ),
    "films": (
        15,
        ("thriller film", "award-winning drama film", "comedy movie night box", "science fiction film"),
        ("with director commentary", "in a restored edition", "on two discs"),
    ),
    "running": (
        110,
        ("running shoes", "trail running shoes", "marathon racing shoes", "running jacket"),
        ("with soft cushioning", "for wet roads", "for long distances"),
    ),
    "cooking": (
        45,
        ("cast iron pan", "chef knife", "pasta cooking set", "ceramic casserole"),
        ("for family recipes", "with a wooden handle", "for slow stews"),
    ),
    "gaming": (
        60,
        ("strategy video game", "wireless game controller", "racing game", "mechanical gaming keyboard"),
        ("for online matches", "with a bonus level", "for two players"),
    ),
    "travel": (
        240,
        ("city break", "mountain hiking trip", "island holiday", "night train journey"),
        ("with hotel included", "for two travellers", "with a local guide"),
    ),
    "books": (
        18,
        ("mystery novel", "history book", "poetry collection", "popular science book"),
        ("in hardcover", "by a debut author", "with illustrations"),
    ),
    "music": (
        80,
        ("wireless headphones", "jazz vinyl record", "portable music speaker", "piano concert album"),
        ("with deep bass", "recorded live", "in studio quality"),
    ),
    "toys": (
        28,
        ("wooden building blocks", "plush animal toy", "toy train set", "children puzzle"),
        ("for small hands", "for ages three and up", "with a play mat"),
    ),
    "garden": (
        35,
        ("tomato seedlings", "garden pruning shears", "lavender flower pots", "raised garden bed"),
        ("for sunny balconies", "made of recycled material", "with planting guide"),
    ),
}
TOPICS = tuple(CATALOGUE)
BRANDS = ("Alder", "Brisa", "Corvo", "Dunmore", "Elva", "Fjordly", "Grano", "Halcyon", "Iris", "Juniper")
ADJECTIVES = ("classic", "fine", "new", "popular", "premium", "simple", "smart", "trusted")

# context value -> change of the click logit; the value names are unique over all kinds
EFFECTS: dict[str, dict[str, float]] = {
    "coffee": dict(morning=2.0, evening=-1.3, night=-1.3, busy=1.0, relaxed=-0.6, mobile=0.8, tv=-1.0, Lisbon=0.8),
    "films": dict(evening=1.8, night=0.7, morning=-1.8, midday=-1.0, relaxed=1.1, busy=-1.3, tv=1.4, mobile=-0.7),
    "running": dict(morning=1.4, night=-1.5, curious=0.6, tired=-1.4, mobile=0.6, tv=-1.0, Oslo=1.1, Lisbon=-0.7),
    "cooking": dict(midday=0.8, evening=1.0, night=-1.4, morning=-0.8, relaxed=0.9, busy=-1.1, tv=0.6, Madrid=1.0),
    "gaming": dict(night=1.6, evening=0.9, morning=-1.5, busy=-1.0, curious=0.9, desktop=1.1, mobile=-0.8, Oslo=0.5),
    "travel": dict(midday=1.2, night=-0.9, curious=1.6, busy=-1.3, desktop=0.9, tv=-0.7, Amsterdam=1.0, Lisbon=-0.9),
    "books": dict(night=1.4, midday=-0.9, relaxed=1.1, busy=-1.4, curious=0.7, tv=-1.2, Amsterdam=0.7, Madrid=-0.5),
    "music": dict(morning=0.7, midday=-0.7, busy=0.9, tired=1.0, curious=-0.8, mobile=1.1, desktop=-0.8, Madrid=0.8),
    "toys": dict(evening=1.2, midday=-0.8, night=-1.2, tired=-1.1, relaxed=0.9, tv=0.7, mobile=-0.5, Oslo=0.6),
    "garden": dict(morning=1.2, night=-1.7, relaxed=1.2, busy=-1.2, desktop=0.5, tv=-0.6, Lisbon=1.1, Oslo=-1.2),
}
TWISTS: dict[tuple[str, str], dict[str, float]] = {
    ("student", "coffee"): dict(night=2.8, morning=-1.5),
    ("parent", "films"): dict(evening=-1.5, night=1.0),
    ("professional", "running"): dict(morning=-1.2, evening=1.4),
    ("retired", "books"): dict(morning=1.5, night=-1.5),
    ("student", "gaming"): dict(mobile=1.5, desktop=-1.0),
    ("parent", "toys"): dict(tired=2.0, relaxed=-1.0),
}
SEGMENT_TASTE: dict[str, dict[str, float]] = {
    "student": dict(gaming=0.8, music=0.5, coffee=0.3, garden=-0.8),
    "parent": dict(toys=1.0, cooking=0.4, films=0.2, travel=-0.4),
    "professional": dict(running=0.6, travel=0.5, coffee=0.3, toys=-0.8),
    "retired": dict(garden=0.9, books=0.5, cooking=0.3, gaming=-0.9),
}
AGES = {"student": (18, 28), "parent": (28, 50), "professional": (25, 62), "retired": (62, 85)}
