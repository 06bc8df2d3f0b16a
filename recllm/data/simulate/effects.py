"""What the simulated shop is made of: topics, context values, and how the one moves the liking of the other (logits)."""

import numpy as np

VERSION = 3  # of the simulator: raise it with every change of this package that changes what is written
BASE, INTEREST = -3.6, 1.6  # logits
STRENGTH = 0.58  # of the effects of context below
TASTE_STD, QUALITY_STD = 0.05, 0.05  # logits that no field explains
ZERO_DURATION, DURATION_STD = 0.06, 0.6
LATE_SHARE = 0.2

SEGMENTS = ("student", "parent", "professional", "retired")
KINDS: dict[str, tuple[str, ...]] = {
    "daypart": ("night", "morning", "midday", "evening"),
    "place": ("Amsterdam", "Lisbon", "Madrid", "Oslo"),
    "device": ("mobile", "desktop", "tv"),
    "mood": ("relaxed", "busy", "curious", "tired"),
}
FINER_KINDS: dict[str, tuple[str, ...]] = {"weather": ("sunny", "rainy", "cold"), "companion": ("alone", "partner", "family")}
DAYPART_OF_HOUR = np.array([0] * 6 + [1] * 5 + [2] * 6 + [3] * 6 + [0])
DAYPART_P = np.array([[0.35, 0.1, 0.2, 0.35], [0.1, 0.3, 0.2, 0.4], [0.1, 0.35, 0.3, 0.25], [0.1, 0.35, 0.35, 0.2]])
DEVICE_P = np.array([[0.4, 0.25, 0.35], [0.6, 0.3, 0.1], [0.4, 0.5, 0.1], [0.35, 0.2, 0.45]])  # (daypart, device)
MOOD_P = np.array([[0.3, 0.1, 0.2, 0.4], [0.2, 0.45, 0.2, 0.15], [0.2, 0.4, 0.3, 0.1], [0.4, 0.15, 0.2, 0.25]])
WEATHER_P = np.array([[0.25, 0.5, 0.25], [0.6, 0.25, 0.15], [0.6, 0.2, 0.2], [0.25, 0.3, 0.45]])  # (place, weather)
COMPANION_P = np.array([[0.6, 0.25, 0.15], [0.45, 0.2, 0.35], [0.65, 0.15, 0.2], [0.3, 0.35, 0.35]])  # (daypart, companion)
HELD_OUT_SHARE = 0.2  # of the rows, the last by time: validation and test of the usual split

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
}
TOPICS = tuple(CATALOGUE)
BRANDS = ("Alder", "Brisa", "Corvo", "Dunmore", "Elva", "Fjordly", "Grano", "Halcyon", "Iris", "Juniper")
ADJECTIVES = ("classic", "fine", "new", "popular", "premium", "simple", "smart", "trusted")

# Topics share two rhythms, so that a log of this size suffices to learn them; context value -> change of the click logit, before
# STRENGTH; the value names are unique over all kinds.
ON_THE_GO = dict(morning=2.0, evening=-1.2, busy=1.2, relaxed=-1.0, mobile=0.8, tv=-0.8, Lisbon=0.8, sunny=0.9, rainy=-0.9)
AT_HOME = dict(evening=1.4, morning=-1.6, relaxed=1.2, busy=-1.2, tv=1.2, mobile=-0.6, Madrid=0.8, rainy=0.9, sunny=-0.9)
ALONE = dict(alone=0.9, family=-0.9)
TOGETHER = dict(partner=0.6, family=0.9, alone=-0.9)
EFFECTS: dict[str, dict[str, float]] = {
    "coffee": ON_THE_GO | ALONE,
    "films": AT_HOME | TOGETHER,
    "running": ON_THE_GO | ALONE,
    "cooking": AT_HOME | TOGETHER,
    "travel": ON_THE_GO | TOGETHER,
    "books": AT_HOME | ALONE,
}
# (segment, topic) -> what is added to the effects above for this segment only
TWISTS: dict[tuple[str, str], dict[str, float]] = {
    ("student", "coffee"): dict(night=2.4, morning=-1.4),
    ("retired", "books"): dict(morning=2.4, evening=-1.0),
}
SEGMENT_TASTE: dict[str, dict[str, float]] = {
    "student": dict(films=0.6),
    "parent": dict(cooking=0.7),
    "professional": dict(travel=0.7),
    "retired": dict(books=0.7),
}
AGES = {"student": (18, 28), "parent": (28, 50), "professional": (25, 62), "retired": (62, 85)}  # years: from, below

# A hidden style of every item: no text or category tells it, only the item's `look`. Its effects (logits) sum to nothing over the styles
# and nearly so over the segments, so that an item's overall click rate says little about its style.
STYLES = ("calm", "vivid", "dark")
STYLE_P = np.full(len(STYLES), 1 / len(STYLES))
SEGMENT_STYLE: dict[str, dict[str, float]] = {
    "student": dict(vivid=0.75, calm=-0.75),
    "parent": dict(calm=0.75, dark=-0.75),
    "professional": dict(dark=0.75, vivid=-0.75),
    "retired": dict(calm=0.35, vivid=-0.35),
}
MOOD_STYLE: dict[str, dict[str, float]] = {
    "relaxed": dict(calm=0.4, vivid=-0.4),
    "busy": dict(vivid=0.4, dark=-0.4),
    "curious": dict(vivid=0.4, calm=-0.4),
    "tired": dict(dark=0.4, vivid=-0.4),
}
LOOK_WIDTH, LOOK_NOISE, LOOK_MISSING = 16, 1.0, 0.1
