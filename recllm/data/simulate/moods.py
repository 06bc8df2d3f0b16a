"""Moods said in free text. The held-out phrases share no content word with any other phrase, so that a log whose last part uses them can
be read only by an encoder that knows English."""

# what carries no mood; every other word of a phrase is a content word
FUNCTION_WORDS = frozenset("""a about after again all am an and another are as at away back be been before but by can cannot for from get
    give got had has have i if in into is it its just keep let like me more most must my no not nothing of off on or out over so some
    such than that the this through to too up us was what while with would you""".split())

TRAIN: dict[str, tuple[str, ...]] = {
    "relaxed": (
        "feeling calm and easy", "taking it slow", "stretched out on the sofa", "at ease with the world", "a lazy afternoon",
        "no worries", "unwinding after dinner", "breathing deeply", "quiet and content", "no plans at all", "enjoying some peace",
        "chilling at home", "lying in the hammock", "sipping tea by the window", "light and carefree", "in a mellow frame of mind",
    ),
    "busy": (
        "in a rush", "so much to do", "running late", "back to back meetings", "no time to think", "the deadline is close",
        "my inbox is full", "hurrying to the train", "juggling three tasks", "chores are piling up", "just a quick minute",
        "between two calls", "have to finish a report", "swamped", "always on the go", "the phone is ringing",
    ),
    "curious": (
        "want to learn something new", "wondering how it works", "eager to explore", "so many questions", "looking for surprises",
        "what else is there", "show me the unknown", "up for a discovery", "digging into details", "interested in everything",
        "open to fresh ideas", "would love to find out", "an inquiring spirit", "fascinated by science", "let us experiment",
        "trying unusual flavours",
    ),
    "tired": (
        "totally worn out", "barely slept last night", "longing for bed", "low on energy", "heavy eyes", "yawning all day",
        "too sleepy to move", "the battery is empty", "weary", "my head is foggy", "dragging myself along",
        "need a nap", "a long exhausting shift", "my legs are aching", "dull and listless", "woke far too early",
    ),
}  # fmt: skip
HELD_OUT: dict[str, tuple[str, ...]] = {
    "relaxed": (
        "serene and unhurried", "soaking in a warm bath", "completely laid back", "tranquil as a lake", "idling on the beach",
        "basking in the sunshine", "comfortable and untroubled", "leisure in the garden", "soothed by soft music",
        "cosy under a blanket",
    ),
    "busy": (
        "not a second to spare", "overloaded with errands", "racing against the clock", "a hectic schedule", "overbooked until noon",
        "scrambling to catch my bus", "multitasking like mad", "snowed in with projects", "stressed by appointments",
        "must leave immediately",
    ),
    "curious": (
        "intrigued and adventurous", "asking why", "itching to investigate", "hungry for knowledge", "browsing strange subjects",
        "captivated by mysteries", "seeking inspiration", "puzzling over riddles", "teach me a hidden fact",
        "searching for answers",
    ),
    "tired": (
        "utterly fatigued", "drained of strength", "dozing off", "drowsy and spent", "knackered", "burnt out and lethargic",
        "insomnia got me again", "struggling to stay awake", "sluggish and unable to concentrate", "groggy from jet lag",
    ),
}  # fmt: skip
