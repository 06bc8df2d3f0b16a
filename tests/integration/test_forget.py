"""The whole path with pseudonyms: no file of training, release, lists or vectors holds a raw id; then one user is forgotten."""

import json
import shutil

import pandas as pd
import pytest

from recllm.cli import main
from recllm.config import Config
from tests.data.test_pseudonyms import everything_in
from tests.worlds import rich_config

KEY = "correct-horse-battery-staple-0017"


@pytest.fixture
def trained(tmp_path, tiny_encoder, monkeypatch):
    """(config, its file): a social log with unusual ids of people, prepared, trained, released, with everybody's lists and vectors."""
    monkeypatch.setenv("RECLLM_KEY", KEY)
    config = rich_config(tmp_path, tiny_encoder)
    for path in (*config.data.interactions, *config.data.users, *config.data.items, *config.data.relations):
        text = open(path, encoding="utf-8").read()
        for k in range(12):
            text = text.replace(f'"u{k}"', f'"Quux-{k}@example"')
        open(path, "w", encoding="utf-8").write(text)
    plain = config.model_dump(mode="json", by_alias=True)
    plain["data"] |= {"pseudonyms": {"key_env": "RECLLM_KEY"}}
    plain["data"]["rules"] |= {"max_dropped": 1}
    plain["training"] |= {"epochs": 1}
    config, path = Config.model_validate(plain), tmp_path / "rich.yaml"
    path.write_text(json.dumps(plain))
    for command in (["prepare"], ["train"], ["release"], ["recommend", "--all-users", str(config.folder / "lists.parquet")],
                    ["recommend", "--vectors", str(config.folder / "vectors")]):
        assert main([command[0], str(path), *command[1:]]) == 0
    return config, path


def test_pseudonyms_to_the_end_and_a_user_who_leaves(trained, capsys):
    config, path = trained
    # given outputs of every step, none of which names a user, and a user who finds her list by her own id
    written = everything_in(config.folder)
    assert "Quux" not in written and KEY not in written and "Film 3" in written
    assert {"seed-0", "release", "lists.parquet", "vectors", "prepared"} <= {p.name for p in config.folder.iterdir()}
    assert main(["recommend", str(path), "--user", "Quux-1@example"]) == 0
    capsys.readouterr()
    assert main(["pseudonym", str(path), "Quux-1@example", "Quux-7@example"]) == 0
    person, customer = capsys.readouterr().out.split()
    assert {person, customer} <= set(pd.read_parquet(config.folder / "lists.parquet")["user"])
    # when a user leaves who is no item
    assert main(["forget", str(path), "Quux-7@example"]) == 0
    # then she is in no list and no vector, and both models, which learnt from her, are named
    said = capsys.readouterr().out
    assert customer not in everything_in(config.folder) and "0 hits left" in said
    assert f"trained run {config.folder / 'seed-0'} was trained with" in said and f"release {config.release} was trained with" in said
    assert person in set(pd.read_parquet(config.folder / "lists.parquet")["user"])
    # when one leaves who is an item too, the models that hold her as one go
    assert main(["forget", str(path), "Quux-1@example"]) == 0
    assert person not in everything_in(config.folder) and not config.release.exists()
    # and training starts over on the log without them
    shutil.rmtree(config.folder / "seed-0", ignore_errors=True)
    assert main(["train", str(path)]) == 0 and main(["release", str(path)]) == 0
    written = everything_in(config.folder)
    assert person not in written and customer not in written
