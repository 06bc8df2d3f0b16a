"""What is kept of a command where it is written down: results files, the report, the model card. They are passed on; a command line may
hold passwords, keys and paths.

Only what is known to be harmless stays, so a form that nobody thought of is left out as well.
"""

import re
import shlex

LEFT_OUT = "..."
SCRIPT = re.compile(r"(?:scripts/)?\w[\w.-]*")
SCRIPT_FILE = re.compile(r"\w[\w.-]*\.(?:py|sh)")
CONFIG_FILE = re.compile(r"\w[\w.-]*\.ya?ml")
NAME = re.compile(r"[^\W\d][\w-]{0,39}")
OPTION = re.compile(r"--[a-z][a-z-]*")
# options of commands that write results and the benchmark's, with values that say nothing of a machine
NUMBERS = dict.fromkeys(("--seed", "--seeds", "--update-epochs", "--rate", "--rounds", "--threads", "--events", "--memory", "--kills",
                         "--fuzz", "--impressions"), re.compile(r"[\d.e_+-]{1,20}"))
PLAIN = NUMBERS | {"--days": re.compile(r"\d{4}-\d\d-\d\d"), "--only": NAME}
# settings without a path, an address or a text of the user's; the encoder may be a folder
SETTING = re.compile(r"(?:model\.(?!encoder\b)\w+|training\.\w+|evaluation\.\w+|data\.split\.\w+|name)")
WORD = r"[\w.+-]{1,40}"
VALUE = re.compile(rf"{WORD}|\[(?:{WORD}(?:, ?{WORD})*)?\]")
KEY = re.compile(r"\w+(?:\.\w+)*")


def kept_command(command: str) -> str:
    """A command as it may be published: the script, the config's file name, names of options, seeds and other plain numbers, and
    settings (`--set`) that cannot hold a secret or a path; every other value is `...`. What it gave, it gives again.

    A command of an older file has lost its quotes: what its spaces leave of a value is left out too.
    """
    first, *rest = _words(command) or [""]
    start = next((k for k, word in enumerate(rest) if word == LEFT_OUT or word.startswith("-")), len(rest))
    shown, option = [_script(first), *_subject(rest[:start])], ""
    for word in rest[start:]:
        name, found, value = word.partition("=")
        if OPTION.fullmatch(name):
            option, word = name, f"{name}={_value(name, value)}" if found else name
            if found and name == "--set":
                option = ""
        else:
            word = _value(option, word)
            option = "" if option == "--set" else option  # it takes one value: a second is the rest of a text
        if word != LEFT_OUT or not shown[-1].endswith(LEFT_OUT):
            shown.append(word)
    return shlex.join(shown) if command.strip() else ""


def _words(command: str) -> list[str]:
    """The words as a shell has them, but with backslashes as they are; those between spaces where quotes do not match."""
    parts = shlex.shlex(command, posix=True, punctuation_chars=False)
    parts.whitespace_split, parts.escape, parts.commenters = True, "", ""
    try:
        return list(parts)
    except ValueError:
        return command.split()


def _last(path: str) -> str:
    return re.split(r"[/\\]", path)[-1]


def _script(word: str) -> str:
    if SCRIPT.fullmatch(word):
        return word
    return _last(word) if SCRIPT_FILE.fullmatch(_last(word)) else LEFT_OUT


def _subject(words: list[str]) -> list[str]:
    """What stands before the options: a config, of which the file's name is left, or one bare word (`scripts/results movielens`)."""
    if not words:
        return []
    path = " ".join(words)  # a path of an older file may hold spaces
    return [path if NAME.fullmatch(path) else _last(path) if CONFIG_FILE.fullmatch(_last(path)) else LEFT_OUT]


def _value(option: str, value: str) -> str:
    if option != "--set":
        return value if option in PLAIN and PLAIN[option].fullmatch(value) else LEFT_OUT
    key, found, setting = value.partition("=")
    if not found or not KEY.fullmatch(key):
        return LEFT_OUT
    return value if SETTING.fullmatch(key) and VALUE.fullmatch(setting) else f"{key}={LEFT_OUT}"
