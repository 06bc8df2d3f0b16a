"""A schema proposed from a raw file: what is guessed, why, and that what is written runs."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from recllm.cli import main
from recllm.config import load_config
from recllm.data.prepare import prepare
from recllm.data.propose.guess import propose
from recllm.data.propose.words import concepts
from recllm.data.propose.write import name_of_source, table, yaml_text
from recllm.errors import ConfigError, DataError

ROOT = Path(__file__).parent.parent.parent
SAMPLES = ROOT / "tests" / "samples"
GERMAN = {"user": "Kundennummer", "item": "Artikelnr", "time": "Zeitpunkt", "click": "angeklickt", "bought": "gekauft",
          "dwell": "Verweildauer", "stars": "Bewertung", "device": "Geraet", "price": "Preis", "premium": "Stammkunde",
          "temp": "Temperatur", "title": "Titel"}
NAMELESS = {name: f"c{i}" for i, name in enumerate(GERMAN)}


def world(users: int = 60, sessions: int = 9, seed: int = 0) -> pd.DataFrame:
    """A log with what real ones have: sessions, fields of users, items and moments, and columns that are known only after a click."""
    rng = np.random.default_rng(seed)
    price, rows = rng.integers(5, 400, 80) / 2, []
    popular = rng.permutation(80)
    for user in range(users):
        premium, home = int(rng.random() < 0.4), ["tv", "mobile", "tablet"][rng.integers(3)]
        for _ in range(sessions):
            start = 1_699_920_000 + int(rng.integers(30)) * 86_400 + int(rng.integers(8, 22)) * 3_600 + int(rng.integers(3_600))
            device = home if rng.random() < 0.8 else "mobile"
            temperature = round(float(rng.normal(12, 6)), 1)
            for k in range(int(rng.integers(4, 9))):
                item = int(popular[min(int(rng.exponential(25)), 79)])
                click = int(rng.random() < 0.35)
                bought = int(click and rng.random() < 0.3)
                time = start + k * int(rng.integers(15, 60))
                rows.append({"user": f"{user:05d}", "item": f"{4_000 + item}", "time": time, "click": click, "bought": bought,
                             "dwell": round(float(rng.exponential(40)), 1) + 1 if click else None,
                             "stars": int(rng.integers(1, 6)) if click and rng.random() < 0.6 else None, "device": device,
                             "price": price[item], "premium": premium, "temp": temperature, "title": f"Lamp number {item} of glass"})
    return pd.DataFrame(rows).sort_values("time", kind="stable").reset_index(drop=True)


@pytest.fixture(scope="module")
def log() -> pd.DataFrame:
    return world()


def written(frame: pd.DataFrame, folder: Path, name: str = "log.csv", **options) -> str:
    path = folder / name
    frame.astype({c: "Int64" for c in ("stars",) if c in frame}).to_csv(path, index=False, **options)
    return str(path)


def roles(proposal) -> dict[str, str]:
    """column of the log -> role, `left out`, or `outcome NAME`; an inactive one in brackets."""
    found = {}
    for f in proposal.findings:
        role = f"outcome {f.name}" if f.role == "outcome" else f.role
        found[f.column] = role if f.active or role == "left out" else f"({role})"
    return found


def runs(proposal, folder: Path):
    """The config that is written, after it prepared the log as it is."""
    path = folder / "proposed.yaml"
    path.write_text(yaml_text(proposal, path), encoding="utf-8")
    config = load_config(path, ["data.workers=1"])
    report = prepare(config)
    assert report.rows > 0 and all(split["rows"] for split in report.splits.values())
    return config, report


def movielens(folder: Path) -> tuple[str, str, str]:
    """MovieLens-shaped atomic files: ratings in bursts, ids that are numbers, a list of genres."""
    rng = np.random.default_rng(3)
    lines = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    for user in range(1, 41):
        start = 880_000_000 + int(rng.integers(5_000_000))
        for k, item in enumerate(rng.permutation(np.arange(1, 61))[:30]):
            lines.append(f"{user}\t{item}\t{min(5, max(1, int(rng.normal(3.6, 1.1))))}\t{start + k // 3 * 20}")
    rng.shuffle(body := lines[1:])
    genres = ["Drama", "Comedy", "Thriller", "War", "Film-Noir"]
    items = ["item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"]
    items += [f"{i}\tThe Story Number {i} Of Many\t{1930 + i}\t{' '.join(rng.choice(genres, rng.integers(1, 4), replace=False))}"
              for i in range(1, 61)]
    users = ["user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token"]
    work = ["writer", "other", "student"]
    users += [f"{u}\t{rng.integers(16, 70)}\t{'MF'[u % 2]}\t{work[u % 3]}\t{10_000 + 37 * u}" for u in range(1, 41)]
    for name, text in (("inter", [lines[0], *body]), ("item", items), ("user", users)):
        (folder / f"ml.{name}").write_text("\n".join(text) + "\n")
    return tuple(str(folder / f"ml.{name}") for name in ("inter", "item", "user"))


def test_the_required_roles_of_movielens_are_guessed_and_run(tmp_path):
    # given atomic files of ratings, items and users
    log, items, users = movielens(tmp_path)
    # when a schema is proposed
    proposal = propose(log, items=items, users=users)
    # then user, item and time are right, a high rating stands in for a click, and fields have their kinds
    assert not proposal.missing
    assert {f.column: f.role for f in proposal.findings if f.role in ("user", "item", "time")} == {
        "user_id": "user", "item_id": "item", "timestamp": "time"}
    config, report = runs(proposal, tmp_path)
    schema = config.columns
    assert schema.time.unit == "s" and schema.outcomes["click"].column == "rating" and schema.outcomes["click"].at_least == 4
    assert schema.item_category["class"].list and schema.item_category["class"].separator == " " and "movie_title" in schema.item_text
    assert schema.profile["age"].kind == "number" and schema.profile["gender"].kind == "category" and "zip_code" not in schema.profile
    assert report.users == 40 and not config.data.negatives


def test_the_required_roles_of_kuairand_are_guessed_and_run(tmp_path):
    folder = SAMPLES / "kuairand"
    proposal = propose(str(folder / "interactions.parquet"), items=str(folder / "items.parquet"), users=str(folder / "users.parquet"))
    found = roles(proposal)
    assert (found["user_id"], found["video_id"], found["time_ms"], found["is_click"]) == ("user", "item", "time", "outcome click")
    config, _ = runs(proposal, tmp_path)
    assert config.columns.time.unit == "ms" and config.columns.outcomes["duration"].unit == "ms"
    # and of what was known only afterwards, or says no more than the time, nothing is context
    assert list(config.columns.context) == ["tab"]
    assert "duration_ms" not in config.columns.outcomes and config.columns.published.column == "upload_dt"


def test_the_required_roles_of_deskdrop_are_guessed_as_positives_only_and_run(tmp_path):
    folder = SAMPLES / "deskdrop"
    proposal = propose(str(folder / "interactions.parquet"), items=str(folder / "articles.parquet"))
    found = roles(proposal)
    assert (found["personId"], found["contentId"], found["timestamp"]) == ("user", "item", "time")
    assert found["eventType"] == "outcome click" and found["sessionId"] == "left out"
    config, report = runs(proposal, tmp_path)
    assert config.columns.outcomes["click"].every_row and config.data.negatives.per_event == 4 and report.candidates > 0
    assert "eventType" not in config.columns.context and "VIEW" in table(proposal)


def real() -> list[tuple[Path, tuple[str, ...]]]:
    """The published logs that this machine has, with their user, item, time and first outcome."""
    root, cache = os.environ.get("RECLLM_DATA"), os.environ.get("RECLLM_CACHE")
    files = [(Path(cache) / "ml-100k/ml-100k.inter", ("user_id", "item_id", "timestamp", "rating"))] if cache else []
    files += [(Path(root) / "kuairand/interactions.parquet", ("user_id", "video_id", "time_ms", "is_click")),
              (Path(root) / "deskdrop/interactions.parquet", ("personId", "contentId", "timestamp", "eventType"))] if root else []
    return files


@pytest.mark.skipif(not real(), reason="RECLLM_DATA and RECLLM_CACHE are not set")
def test_the_required_roles_of_the_real_logs_are_guessed():
    for path, (user, item, time, outcome) in real():
        found = roles(propose(str(path)))
        assert (found[user], found[item], found[time], found[outcome]) == ("user", "item", "time", "outcome click"), path


@pytest.mark.parametrize("names", [{}, GERMAN, NAMELESS], ids=["english", "german", "nameless"])
def test_values_decide_whatever_the_names_are(log, tmp_path, names):
    # given one log under English, German and no names, its columns in no helpful order, as a semicolon CSV
    name = {c: names.get(c, c) for c in log.columns}
    path = written(log[sorted(log.columns, reverse=True)].rename(columns=name), tmp_path, sep=";")
    # when a schema is proposed
    proposal = propose(path)
    found = roles(proposal)
    # then the roles are the same
    assert not proposal.missing
    assert {c: found[name[c]] for c in ("user", "item", "time")} == {"user": "user", "item": "item", "time": "time"}
    assert found[name["click"]] == "outcome click" and found[name["bought"]] == "outcome purchase"
    assert found[name["device"]] == "context" and found[name["temp"]] == "context"
    assert found[name["premium"]] == "profile" and found[name["price"]] == "item_number" and found[name["title"]] == "item_text"
    # and what is filled only after a click is an outcome or left out, never context
    assert found[name["dwell"]] == "outcome duration" and found[name["stars"]] == "left out"
    config, report = runs(proposal, tmp_path)
    assert config.columns.outcomes["purchase"].given == "click" and report.users == 60
    assert {p.name for p in map(Path, (*config.data.items, *config.data.users))} == {"log.csv"}


def test_a_column_that_gives_the_label_away_is_no_context(log, tmp_path):
    # given columns of neutral names: one says how a click was made, one is a noisy copy of it, one has nothing to do with it
    rng = np.random.default_rng(5)
    leaky = log.drop(columns=["dwell", "stars", "bought"])
    leaky["kind_of"] = np.where(log.click == 1, rng.choice(["tap", "swipe"], len(log)), "none")
    leaky["depth"] = log.click * rng.integers(3, 90, len(log)) + rng.integers(0, 3, len(log))
    leaky["mood"] = rng.choice(["calm", "hurried"], len(log))
    leaky["scroll"] = (log.click * 1.6 + rng.normal(size=len(log))).round(2)
    proposal = propose(written(leaky, tmp_path))
    found = roles(proposal)
    # then only the last is context, and each finding says why; one that is merely suspicious stays, with a warning
    assert found["mood"] == "context" and found["kind_of"] == "left out" and found["depth"] != "context"
    why = {f.column: f"{f.why} {f.sure} {f.instead}" for f in proposal.findings}
    assert found["scroll"] == "context" and "guess" in why["scroll"] and "leave it out if it was known only afterwards" in why["scroll"]
    assert "AUC" in why["kind_of"] and "give the label away" in why["kind_of"]
    runs(proposal, tmp_path)


def test_of_two_times_the_event_s_own_is_taken(log, tmp_path):
    # given when it was shown, when it was logged some minutes later, and when each user signed up
    later = log.assign(received_at=log.time + 300, signup=log.user.astype(int) * 86_400 + 1_600_000_000)
    proposal = propose(written(later, tmp_path))
    found = roles(proposal)
    assert found["time"] == "time" and found["received_at"] == "known_at" and found["signup"] == "left out"
    config, _ = runs(proposal, tmp_path)
    assert config.columns.known_at.column == "received_at"
    # and with names that say nothing, the earlier one
    found = roles(propose(written(log.assign(a=log.time, b=log.time + 300).drop(columns="time"), tmp_path)))
    assert found["a"] == "time" and found["b"] == "left out"


def test_ids_that_look_like_numbers_or_moments_stay_ids(log, tmp_path):
    # given user ids in the range of seconds since 1970, and requests by number
    numbers = log.assign(user=881_250_000 + log.user.astype(int) * 7, row=range(len(log)))
    found = roles(propose(written(numbers, tmp_path)))
    assert found["user"] == "user" and found["item"] == "item" and found["time"] == "time" and found["row"] == "left out"


def test_requests_and_sessions_are_told_apart_by_their_length(log, tmp_path):
    # given one id for the four rows that were shown together, and one for each day of a user
    day = log.groupby(["user", log.time // 86_400])
    slate = day.cumcount() // 4
    shown = log.assign(time=day.time.transform("min") + slate * 900, a=day.ngroup() * 100 + slate, b=day.ngroup())
    proposal = propose(written(shown, tmp_path))
    found = roles(proposal)
    assert found["a"] == "request" and found["b"] == "left out"
    assert "session" in next(f.instead for f in proposal.findings if f.column == "b")
    assert runs(proposal, tmp_path)[0].columns.request == "a"


def test_leading_zeros_survive(log, tmp_path):
    _, report = runs(propose(written(log, tmp_path)), tmp_path)
    assert report.users == log.user.nunique()
    users = pd.read_parquet(load_config(tmp_path / "proposed.yaml").prepared / "users.parquet")
    assert set(users.user) == set(log.user)


def test_an_event_type_makes_a_log_of_positives_unless_it_names_what_was_shown(log, tmp_path):
    # given a log of views, carts and buys
    rng = np.random.default_rng(2)
    events = log[["user", "item", "time"]].assign(what=rng.choice(["view", "addtocart", "buy"], len(log), p=[0.8, 0.15, 0.05]))
    proposal = propose(written(events, tmp_path))
    assert roles(proposal)["what"] == "outcome click" and proposal.negatives
    runs(proposal, tmp_path)
    # when shown items are events, too, then each row is no click, and the outcome is left to the reader
    events["what"] = rng.choice(["impression", "click"], len(log))
    proposal = propose(written(events, tmp_path, "shown.csv"))
    assert list(proposal.missing) == ["outcome"] and roles(proposal)["what"] == "left out"


def shop(kinds: tuple[str, str, str], seed: int = 7) -> pd.DataFrame:
    """What was shown at its moments; a third of it was taken a minute later, a third of that bought within hours."""
    rng, rows = np.random.default_rng(seed), []
    for user in range(50):
        for day in range(12):
            for k in range(4):
                time, item = 1_700_000_000 + day * 86_400 + user * 311 + k * 1_000, f"i{rng.integers(60)}"
                rows.append((f"u{user}", item, time, kinds[0]))
                if rng.random() < 0.35:
                    rows.append((f"u{user}", item, time + int(rng.integers(20, 120)), kinds[1]))
                    if rng.random() < 0.35:
                        rows.append((f"u{user}", item, time + int(rng.integers(600, 20_000)), kinds[2]))
    return pd.DataFrame(rows, columns=["user", "item", "time", "what"]).sort_values("time", kind="stable")


@pytest.mark.parametrize("kinds", [("view", "cart", "buy"), ("impression", "click", "purchase"), ("Aufruf", "Warenkorb", "Kauf")])
def test_what_follows_an_exposure_is_an_event_type_with_a_window(tmp_path, kinds):
    # given a log of exposures that others follow, among them something that is no step forward
    events = shop(kinds)
    more = events[events.what == kinds[1]].head(30).assign(time=lambda f: f.time + 5, what="remove_from_cart")
    proposal = propose(written(pd.concat([events, more]), tmp_path))
    config, report = runs(proposal, tmp_path)
    schema = config.columns
    # then the exposure is scored, each step says its outcome, and the rest is history
    assert schema.event_type.values == {kinds[0]: {"scored": 1}, kinds[1]: {"click": 1}, kinds[2]: {"click": 1, "purchase": 1},
                                        "remove_from_cart": {}}
    assert not config.data.negatives and not proposal.missing and report.dropped == {}
    # and the windows are those in which 95% came, rounded up: hours, since a buy is a step too
    assert schema.outcomes["click"].window == schema.outcomes["purchase"].window == 0.25 and schema.outcomes["purchase"].given == "click"
    assert "95% of" in next(f.why for f in proposal.findings if f.name == "purchase")


def test_a_window_leaves_room_for_labels_and_a_follow_up_at_once_is_a_guess(tmp_path):
    # given buys that come after three days, in a log whose validation and test last a good day each
    events = shop(("view", "cart", "buy")).reset_index(drop=True)
    slow = events.assign(time=events.time + 259_200 * (events.what == "buy"))
    proposal = propose(written(slow, tmp_path))
    buy = next(f for f in proposal.findings if f.name == "purchase")
    assert buy.spec["window"] <= 1 and "cut to" in buy.why and buy.sure == "likely"
    config, _ = runs(proposal, tmp_path)
    for split in ("train", "validation", "test"):
        assert pd.concat(map(pd.read_parquet, (config.prepared / "data").glob(f"{split}-*.parquet"))).purchase_within.notna().any(), split
    # when time is so coarse that carts stand in their view's own moment, then no window counts them, which is said
    coarse = events.assign(time=events.time // 600 * 600)
    cart = next(f for f in propose(written(coarse, tmp_path, "coarse.csv")).findings if f.name == "click")
    assert cart.sure == "guess" and "very moment" in cart.why


@pytest.mark.parametrize("source, name", [("sqlite:///shop.db?table=events", "shop"), ("logs/*.csv.gz", "logs"), ("days/", "days"),
                                          ("postgresql://u:p@host/shop?table=x", "shop"), ("org/name?split=train", "name"),
                                          ("a.b.csv", "a.b"), ("*.csv", "log")])
def test_a_configuration_is_called_like_its_source(source, name):
    assert name_of_source(source) == name


def test_what_people_chose_to_look_at_is_a_click_and_what_followed_an_outcome_of_its_own(tmp_path):
    # given Deskdrop: nothing in it was shown and not taken
    config, report = runs(propose(str(SAMPLES / "deskdrop" / "interactions.parquet")), tmp_path)
    schema = config.columns
    # then only views are scored, each a click beside drawn negatives, and a like within days is learnt, given the click
    assert schema.event_type.values["VIEW"] == {"scored": 1} and schema.event_type.values["LIKE"] == {"like": 1}
    assert schema.outcomes["click"].every_row and config.data.negatives.per_event == 4 and report.candidates > 0
    assert schema.outcomes["like"].given == "click" and schema.outcomes["like"].window
    # and what is too rare for an outcome is history, never dropped
    assert schema.event_type.values["FOLLOW"] == {} and "unknown_event_type" not in report.dropped
    # and its user agents are devices
    assert schema.context["device"].made.of == "device"


GERMAN_EVENTS = """zeit;kunde;artikel;ereignis;gerät;preis
2026-03-01 08:01:00;ann;tee;view;handy;3,50
2026-03-01 08:01:30;ann;tee;cart;handy;3,50
2026-03-01 08:02:00;ann;tasse;view;handy;12,00
2026-03-01 21:10:00;bob;tee;view;tv;3,50
2026-03-01 21:12:00;bob;pfanne;view;tv;1.049,90
2026-03-01 21:15:00;bob;pfanne;cart;tv;1.049,90
2026-03-02 09:00:00;bob;pfanne;buy;tv;1.049,90
2026-03-02 20:30:00;bob;tasse;view;tv;12,00
2026-03-03 08:05:00;ann;pfanne;view;handy;1.049,90
2026-03-03 12:00:00;cat;tasse;view;pc;12,00
2026-03-03 12:01:00;cat;tasse;cart;pc;12,00
2026-03-03 12:05:00;cat;tasse;buy;pc;12,00
2026-03-04 12:09:00;cat;pfanne;view;pc;1.049,90
2026-03-04 12:10:00;cat;pfanne;cart;pc;1.049,90
2026-03-04 19:45:00;ann;tasse;view;handy;12,00
2026-03-05 19:45:00;bob;tee;view;tv;3,50
"""


@pytest.mark.parametrize("codec, guessed", [("latin-1", "cp1252"), ("utf-16", None), ("utf-16-le", "utf-16-le"), ("utf-8", None)])
def test_a_small_german_log_in_any_encoding_is_understood(tmp_path, codec, guessed):
    # given semicolons, decimal commas, German names
    path = tmp_path / "events.csv"
    path.write_bytes(GERMAN_EVENTS.encode(codec))
    proposal = propose(str(path))
    # then every column has its role, the encoding that was guessed is written and said, and it runs
    assert roles(proposal) == {"(numbers)": "decimal", "zeit": "time", "kunde": "user", "artikel": "item",
                               "ereignis": "outcome purchase", "gerät": "context", "preis": "context"}
    config, report = runs(proposal, tmp_path)
    assert config.data.encoding == guessed and any("cp1252" in note for note in proposal.notes) == (guessed == "cp1252")
    assert config.columns.decimal == "," and config.columns.context["preis"].kind == "number" and report.mended == {}
    assert any("without a zone" in note for note in proposal.notes) and config.columns.event_type.column == "ereignis"


def test_an_encoding_that_is_said_is_taken_and_a_wrong_one_refused(tmp_path):
    path = tmp_path / "events.csv"
    path.write_bytes(GERMAN_EVENTS.encode("cp1252"))
    assert propose(str(path), encoding="iso8859-15").asked == {"encoding": "iso8859-15"}
    for wrong, error in (("no-such-codec", ConfigError), ("utf-16", DataError)):
        with pytest.raises(error, match="encoding"):
            propose(str(path), encoding=wrong)


def test_tables_of_two_encodings_are_said_to_need_one(tmp_path):
    # given a log in cp1252 and items in UTF-8: data.encoding is one for all
    (tmp_path / "events.csv").write_bytes(GERMAN_EVENTS.encode("cp1252"))
    (tmp_path / "items.csv").write_text("artikel,farbe\ntee,grün\ntasse,weiß\npfanne,schwarz\n", encoding="utf-8")
    proposal = propose(str(tmp_path / "events.csv"), items=str(tmp_path / "items.csv"))
    assert any("save both in one" in note and "items.csv is UTF-8" in note for note in proposal.notes)


def test_databases_globs_and_folders_by_day_are_sampled_as_they_are_prepared(log, tmp_path, monkeypatch, capsys):
    # given one log as a table of SQLite, as compressed files, and as folders by day
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("shop.db")) as database:
        log.to_sql("events", database, index=False)
    for k, part in enumerate(np.array_split(np.arange(len(log)), 3)):
        for folder in (Path("logs"), Path(f"days/day={k}")):
            folder.mkdir(parents=True, exist_ok=True)
            written(log.iloc[part], folder, f"part-{k}.csv.gz")
    for source, name in (("sqlite:///shop.db?table=events", "shop"), ("logs/*.csv.gz", "logs"), ("days", "days")):
        # when the command runs without --out, then all rows were seen, the roles are found, and what is written runs
        assert main(["schema", source]) == 0, source
        proposal = propose(source)
        assert proposal.log.rows == len(log) and roles(proposal)["click"] == "outcome click", source
        assert "recllm-schema" not in capsys.readouterr().out
        assert prepare(load_config(f"{name}.yaml", ["data.workers=1"])).users == 60


def test_decimal_commas_beside_decimal_points_are_no_numbers_of_one_log(log, tmp_path):
    # given prices such as 1.049,90, and whole degrees
    price = (log.price * 7).map(lambda p: f"{p:,.2f}".translate(str.maketrans(",.", ".,")))
    priced = log.assign(price=price, temp=log.temp.round().astype(int)).drop(columns="dwell")
    config, report = runs(propose(written(priced, tmp_path)), tmp_path)
    assert config.columns.decimal == "," and "price" in config.columns.item_number and report.mended == {}
    # when another column has points, then none is chosen, and it is said
    proposal = propose(written(priced.assign(temp=log.temp), tmp_path, "both.csv"))
    assert proposal.role("decimal") is None and roles(proposal)["price"] == "left out"
    assert any('"price"' in note and "decimal points" in note for note in proposal.notes)


def test_places_in_a_list_are_positions_by_their_values_alone(log, tmp_path):
    # given four rows shown together, numbered from 1, under a name that says nothing
    place = log.groupby(["user", log.time // 86_400]).cumcount()
    shown = log.assign(time=log.groupby(["user", log.time // 86_400]).time.transform("min") + place // 4 * 900, c=place % 4 + 1)
    assert runs(propose(written(shown, tmp_path)), tmp_path)[0].columns.position == "c"
    # counted from 0 it is none that preparation reads
    assert roles(propose(written(shown.assign(c=shown.c - 1), tmp_path, "zero.csv")))["c"] == "left out"


def test_lists_of_candidates_in_a_cell_are_impressions(tmp_path):
    # given MIND's lists, with what each user read before, under names that say nothing
    rng, rows = np.random.default_rng(8), []
    for k in range(400):
        items = [f"N{n}" for n in rng.choice(70, 4, replace=False)]
        rows.append((f"u{k % 40}", 1_700_000_000 + k * 3_000, " ".join(f"{i}-{int(n == 1)}" for n, i in enumerate(items)),
                     " ".join(f"N{n}" for n in rng.choice(70, 3)), "|".join(items), items[1]))
    table = pd.DataFrame(rows, columns=["user", "time", "a", "b", "slate", "clicked"])
    proposal = propose(written(table[["user", "time", "a", "b"]], tmp_path))
    config, report = runs(proposal, tmp_path)
    assert config.columns.impressions.label == "-" and config.columns.impressions.separator == " " and report.read == 1_600
    assert roles(proposal)["b"] == "left out" and not proposal.missing and report.dropped == {}
    # and a list with what was chosen in another column
    config, report = runs(propose(written(table[["user", "time", "slate", "clicked"]], tmp_path, "slates.csv")), tmp_path)
    assert config.columns.impressions.clicked == "clicked" and report.read == 1_600 and report.dropped == {}


def test_zones_coordinates_and_agents_are_guessed_by_their_values(log, tmp_path):
    # given local times with each user's zone, the point where somebody was, and a user agent
    rng = np.random.default_rng(9)
    zones = np.array(["Europe/Berlin", "America/New_York", "+05:30"])[log.user.astype(int) % 3]
    agents = np.array(["Mozilla/5.0 (iPhone; CPU iPhone OS 16_0 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148 Safari/604.1",
                       "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/120.0 Safari/537.36"])
    text = pd.to_datetime(log.time, unit="s").dt.strftime("%Y-%m-%d %H:%M:%S")
    odd = log.drop(columns="device").assign(time=text, z=zones,
                                             lat=(52.4 + rng.random(len(log)) / 5).round(5), browser=agents[rng.integers(0, 2, len(log))],
                                             lng=(13.3 + rng.random(len(log)) / 5).round(5))
    proposal = propose(written(odd, tmp_path))
    schema = runs(proposal, tmp_path)[0].columns
    assert schema.time.zone_column == "z" and schema.context["place_6"].made.columns == ["lat", "lng"] and "place_8" in schema.context
    assert schema.context["device"].made.of == "device" and not {"lat", "lng", "z", "browser"} & set(schema.context)
    # and without their names a pair of fine degrees is a guess
    bare = odd.rename(columns={"lat": "p", "lng": "q"})[["user", "item", "time", "click", "z", "p", "q"]]
    found = {f.column: f for f in propose(written(bare, tmp_path, "names.csv")).findings}
    assert found["p"].name == "place" and found["p"].sure == "guess"


def test_a_click_of_one_or_nothing_is_asked_about(log, tmp_path):
    # given a column that is 1 or empty: empty is unknown to preparation, and each row would be a click
    proposal = propose(written(log[["user", "item", "time"]].assign(click=log.click.map({1: "1", 0: None})), tmp_path))
    assert list(proposal.missing) == ["outcome"] and "write 0" in yaml_text(proposal, tmp_path / "x.yaml")


def test_odd_names_of_columns_are_quoted(log, tmp_path):
    # given a header of blanks, quotes, colons and reserved words
    odd = {"user": "user id", "item": 'Item "x"', "time": "time (s)", "click": "clicked?", "device": "n", "temp": "#: temp",
           "dwell": "time"}
    proposal = propose(written(log[list(odd)].rename(columns=odd), tmp_path))
    config, report = runs(proposal, tmp_path)
    assert config.columns.item == 'Item "x"' and config.columns.outcomes["click"].column == "clicked?"
    assert report.items == log.item.nunique()
    assert sorted(spec.column or name for name, spec in config.columns.context.items()) == ["#: temp", "n"]


def test_what_cannot_be_told_is_asked_for_with_its_candidates(log, tmp_path, capsys):
    # given two ids that act alike and say nothing by their names
    rng = np.random.default_rng(1)
    twins = pd.DataFrame({"x": rng.integers(100, 160, 3_000), "y": rng.integers(100, 160, 3_000),
                          "t": 1_700_000_000 + np.arange(3_000) * 500, "clicked": rng.integers(0, 2, 3_000)})
    path, out = written(twins, tmp_path), tmp_path / "twins.yaml"
    # when the command runs, then it ends with 1 and says what to fill in
    assert main(["schema", path, "--out", str(out)]) == 1
    shown = capsys.readouterr().out
    assert "fill in schema.user" in shown and "x, y" in shown and "NO" in shown
    text = out.read_text(encoding="utf-8")
    assert "# user: ???" in text and "FILL IN: who acted" in text and "#   x:" in text
    # and said on the command line, everything else is judged by it
    assert main(["schema", path, "--out", str(tmp_path / "told.yaml"), "--role", "user=x", "item=y"]) == 0
    assert load_config(tmp_path / "told.yaml").columns.user == "x" and "as you say" in capsys.readouterr().out
    for wrong, expected in ((["user=z"], 'column "z" is not in'), (["outcome=t"], "expected 0 and 1, or ratings")):
        assert main(["schema", path, "--out", str(tmp_path / "no.yaml"), "--role", "item=y", *wrong]) == 2
        assert expected in capsys.readouterr().err
    # and preparation refuses it as it is; filled in, it runs
    assert main(["prepare", str(out)]) == 2
    out.write_text(text.replace("# user: ???", "user: x").replace("# item: ???", "item: y"), encoding="utf-8")
    assert main(["prepare", str(out)]) == 0


def test_a_broken_file_is_explained(log, tmp_path):
    # given a CSV with two lines of too many columns, and NA for unknown numbers
    path = Path(written(log.assign(temp=log.temp.astype(str).where(log.temp > 3, "NA")), tmp_path))
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:50], lines[50] + ",x,y", *lines[51:90], "a,b", *lines[90:]]) + "\n")
    notes = propose(str(path)).notes
    assert any("2 lines do not have the header's 12 columns" in note and "line 51" in note for note in notes)
    assert any('"temp" says NA' in note for note in notes)
    # and a file without names, one of another delimiter, and dates that nobody reads
    log[["user", "item", "time", "click"]].to_csv(tmp_path / "bare.csv", index=False, header=False)
    assert any("looks like values, not names" in note for note in propose(str(tmp_path / "bare.csv")).notes)
    latin = ["user,item,zeit,ort,click", *(f"u{i % 30},i{i % 17},{1_700_000_000 + i * 400},K\xf6ln,{i % 2}" for i in range(90))]
    (tmp_path / "latin.csv").write_text("\n".join(latin) + "\n", encoding="latin-1")
    found = propose(str(tmp_path / "latin.csv"))
    assert any("read as cp1252" in note for note in found.notes) and roles(found)["ort"] != "time" and found.log["ort"].top == {"Köln": 90}
    found = propose(written(log, tmp_path, "odd.csv", sep="~"), delimiter=",")
    assert any("--delimiter" in note for note in found.notes) and set(found.missing) >= {"user", "item", "time"}
    dates = log.assign(time=pd.to_datetime(log.time, unit="s").dt.strftime("%d.%m.%Y %H:%M"))
    found = propose(written(dates, tmp_path, "dates.csv"))
    assert "time" in found.missing and any("31.12.2025" in note for note in found.notes)
    assert roles(found)["click"] == "outcome click" and roles(found)["stars"] != "context"


def test_a_zone_is_hinted_at_by_text_or_by_the_night(log, tmp_path):
    # given a log whose people sleep from 16 to 22 UTC
    shifted = world(80, 12).assign(time=lambda f: f.time - 9 * 3_600)
    assert any("night at UTC+" in note for note in propose(written(shifted, tmp_path)).notes)
    # and one in text without a zone, or with it
    text = pd.to_datetime(log.time, unit="s").dt.strftime("%Y-%m-%d %H:%M:%S")
    proposal = propose(written(log.assign(time=text), tmp_path, "naive.csv"))
    assert any("without a zone" in note for note in proposal.notes) and proposal.role("time").spec["unit"] == "iso"
    runs(proposal, tmp_path)
    assert any("own offset" in note for note in propose(written(log.assign(time=text + "+02:00"), tmp_path, "zoned.csv")).notes)


def test_weights_places_positions_and_the_clock_have_their_rows(log, tmp_path):
    # given a sample weight, a parcel's weight, the place in the list, the hour, the weekend and the weather of the hour
    rng = np.random.default_rng(6)
    weather = {hour: round(float(rng.normal(10, 5)), 1) for hour in sorted(set(log.time // 3_600))}
    odd = log[["user", "item", "time", "click"]].assign(
        sample_weight=rng.random(len(log)).round(3), weight=log.item.astype(int) % 17 / 10, position=rng.integers(1, 9, len(log)),
        hour=log.time // 3_600 % 24, is_weekend=((log.time // 86_400 + 4) % 7 >= 5).astype(int), celsius=(log.time // 3_600).map(weather))
    proposal = propose(written(odd, tmp_path))
    found = roles(proposal)
    # then only the first weighs rows, the clock is left out, and the weather is none of its functions
    assert found["sample_weight"] == "weight" and found["weight"] == "item_number" and found["position"] == "position"
    assert found["hour"] == found["is_weekend"] == "left out" and found["celsius"] == "context"
    assert runs(proposal, tmp_path)[0].columns.weight == "sample_weight"


def test_tables_that_call_the_key_otherwise_are_left_out_and_said_so(log, tmp_path):
    items = pd.DataFrame({"sku": log.item.unique(), "colour": ["red", "blue"] * 39 + ["red"] * (log.item.nunique() - 78)})
    proposal = propose(written(log, tmp_path), items=written(items, tmp_path, "items.csv"))
    assert any("rename it in the file" in f.why and '"sku"' in f.why for f in proposal.findings)
    runs(proposal, tmp_path)


def test_vectors_lists_links_and_numbers_of_items_are_told_apart(log, tmp_path):
    rng = np.random.default_rng(4)
    ids = log.item.unique()
    items = pd.DataFrame({"item": ids, "look": [str([round(float(x), 3) for x in rng.normal(size=6)]) for _ in ids],
                          "tags": ["|".join(rng.choice(["red", "blue", "old", "new"], rng.integers(1, 4), replace=False)) for _ in ids],
                          "link": [f"https://shop.example/{i}" for i in ids], "weight_kg": rng.random(len(ids)).round(2),
                          "released": pd.date_range("2020-01-01", periods=len(ids)).strftime("%Y-%m-%d")})
    config, _ = runs(propose(written(log, tmp_path), items=written(items, tmp_path, "items.csv")), tmp_path)
    schema = config.columns
    assert schema.item_vector["look"].list and schema.item_category["tags"].list and "link" in schema.item_info
    assert "weight_kg" in schema.item_number and schema.published.column == "released" and "tags" in schema.item_text


def test_the_command_writes_reasons_as_comments_and_never_over_a_file(log, tmp_path, capsys):
    path, out = written(log, tmp_path), tmp_path / "made" / "shop.yaml"
    assert main(["schema", path, "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[0].split() == ["column", "role", "sure?", "why"] and f"scripts/prepare.py {out}" in shown
    text = out.read_text(encoding="utf-8")
    assert yaml.safe_load(text)["schema"]["user"] == "user" and "# left out:" in text and "known only after the fact" in text
    assert max(len(line) for line in text.splitlines() if str(tmp_path) not in line) <= 180
    # a second call refuses to write over what may have been edited
    assert main(["schema", path, "--out", str(out)]) == 2
    assert "--again" in capsys.readouterr().err
    assert main(["schema", path, "--out", str(out), "--again"]) == 0


def test_a_file_that_is_missing_empty_or_only_a_header_is_one_line(tmp_path, capsys):
    (tmp_path / "header.csv").write_text("user,item,time\n")
    (tmp_path / "empty.csv").write_text("")
    for name, expected in (("none.csv", "expected a file"), ("empty.csv", "empty file"), ("header.csv", "only a header")):
        assert main(["schema", str(tmp_path / name), "--out", str(tmp_path / "x.yaml")]) == 2
        error = capsys.readouterr().err
        assert expected in error and error.count("\n") == 1 and not (tmp_path / "x.yaml").exists()


def test_the_script_is_the_command():
    found = subprocess.run([sys.executable, str(ROOT / "scripts" / "schema.py"), "--help"], capture_output=True, text=True)
    assert found.returncode == 0 and "--items" in found.stdout


@pytest.mark.parametrize("name, concept", [("personId", "user"), ("Kundennummer", "user"), ("utilisateur_id", "user"), ("用户ID", "user"),
                                           ("Artikelnr", "item"), ("商品", "item"), ("is_click", "click"), ("angeklickt", "click"),
                                           ("acheté", "purchase"), ("Verweildauer", "duration"), ("play_time_ms", "duration"),
                                           ("eventType", "event"), ("Ereignis", "event"), ("gerät", "device"), ("Warenkorb", "cart"),
                                           ("pv", "view"), ("Breitengrad", "latitude"), ("曝光", "shown"), ("remove_from_cart", "negative"),
                                           ("Zeitstempel", "time"), ("fecha", "time")])
def test_names_hint_in_several_languages(name, concept):
    assert concept in concepts(name)
    assert not concepts("c7")
