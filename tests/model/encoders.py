"""What every encoder must do. A new one gets these checks by a subclass over a tiny random encoder of its kind:

    class TestMine(EncoderContract):
        config = MineConfig(**SHAPE)
        lora = {"query", "key", "value", "dense"}   # last names of the linear modules in a layer
        first_position = 0
"""

import copy

import numpy as np
import pytest
import torch
from transformers import AutoModel, PreTrainedTokenizerFast

from recllm.config import Config
from recllm.feed.batches import load
from recllm.feed.raw import RawRequests
from recllm.feed.score import score
from recllm.model.encoders_recllm import attentions, build
from recllm.model.errors_recllm import ReleaseError
from recllm.model.modeling_recllm import RecllmModel
from recllm.model.processor_recllm import RecllmProcessor
from recllm.model.recommender_recllm import Recommender
from recllm.model.timeline_recllm import window_start
from recllm.recommend.build import recommender_of
from recllm.training.setup import TEST, TRAIN, setup
from recllm.training.tasks import Tasks
from tests.conftest import stir

SHAPE = {"vocab_size": 90, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64,
         "max_position_embeddings": 60, "pad_token_id": 0}  # fmt: skip
LAYERS = 2  # of the body
LOGIT = {"atol": 1e-5, "rtol": 0.0}


def prepared_rich(folder, encoder):
    """(config, log) of the rich world, prepared once for all encoders: a log knows nothing of them."""
    from recllm.data.prepare import prepare
    from recllm.feed.log import load_log
    from tests.worlds import rich_config

    config = rich_config(folder, encoder)
    config = config.model_copy(update={"root": str(folder / "runs")})
    prepare(config)
    return config, load_log(config)


class EncoderContract:
    config = None
    lora: set[str] = set()
    first_position = 0
    shared = 1  # layers that share one attention

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory, tiny_encoder):
        """A pretrained encoder as it lies on disk: random weights, the tests' tokenizer."""
        folder = tmp_path_factory.mktemp(cls.config.model_type)
        torch.manual_seed(0)
        AutoModel.from_config(cls.config).save_pretrained(folder)
        PreTrainedTokenizerFast.from_pretrained(tiny_encoder).save_pretrained(folder)
        return folder

    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls, folder, rich_world):
        config, _ = rich_world
        plain = config.model_dump(mode="json", by_alias=True)
        plain["model"] |= {"encoder": str(folder), "layers": LAYERS}
        return Config.model_validate(plain)

    @pytest.fixture(scope="class")
    @classmethod
    def made(cls, settings, rich_world):
        made = setup(settings, rich_world[1])
        stir(made.model)
        made.model.eval()
        return made

    @pytest.fixture(scope="class")
    @classmethod
    def replay(cls, made):
        """(raw requests of some test rows, their logits out of one packed batch)."""
        scores, raw = score(made.model, made.examples(TEST), 10_000, torch.device("cpu")), RawRequests(made.log, made.processor)
        chosen = np.random.default_rng(0).permutation(len(scores.row))[:12]
        requests = []
        for row in scores.row[chosen]:
            n = int(made.log.frame["n_before"][row])
            requests.append(raw.request([int(row)], start=int(window_start(n, 8, 8)), end=n))  # the rich world's windows
        return requests, {name: value[torch.from_numpy(chosen)] for name, value in scores.raw.items()}

    # ---- scores

    def test_a_score_is_the_same_packed_or_alone(self, made):
        packed, alone = (score(made.model, made.examples(TEST), budget, torch.device("cpu")) for budget in (10_000, 1))
        for name, value in packed.raw.items():
            torch.testing.assert_close(alone.raw[name], value, **LOGIT)

    def test_a_score_is_the_same_after_a_cached_prefix(self, made, replay):
        recommender = recommender_of(made)
        for k, request in enumerate(replay[0]):
            found = recommender.engine.raw(recommender.reader.read(request), np.array([0]))
            for name, value in replay[1].items():
                torch.testing.assert_close(found[name][0], value[k], **LOGIT)

    def test_changing_an_event_leaves_the_profiles_states_unchanged(self, made, replay):
        # given a request, and the same with other contexts of its events
        recommender, request = recommender_of(made), max(replay[0], key=lambda r: len(r["history"]))
        other = copy.deepcopy(request)
        assert len(other["history"]) > 4
        for event in other["history"]:
            event |= {"device": "tv" if event.get("device") == "mobile" else "mobile", "temperature": 40}
        # when each is read: the keys and values of the last layer
        states = []
        for given in (request, other):
            prepared = recommender.reader.read(given)
            recommender.engine.raw(prepared, np.array([0]))
            states.append(torch.cat(prepared.past.read(LAYERS - 1, torch.float32), dim=1)[0].transpose(0, 1))
            profile = len(prepared.example.profile)
        # then the profile's are equal, the events' are not
        before, after = states
        assert profile > 4 and len(before) > profile
        torch.testing.assert_close(after[:profile], before[:profile], **LOGIT)
        assert (after[profile:] - before[profile:]).abs().max() > 1e-2

    @torch.inference_mode()
    def test_the_fused_body_equals_the_encoder_whatever_its_weights(self, made):
        # given weights of which none is zero or one, biases and norms among them, in float64
        model = copy.deepcopy(made.model).double()
        for parameter in model.body.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
        batch = {n: v.double() if v.is_floating_point() else v for n, v in load(made.examples(TEST), np.arange(3)).inputs.items()}
        # then it gives the same states, before and after the weights are changed in place
        for _ in range(2):
            torch.testing.assert_close(model.for_inference().states(batch)[0], model.states(batch)[0], atol=1e-10, rtol=1e-10)
            for parameter in model.body.parameters():
                parameter.mul_(1.1)

    # ---- the encoder as it was pretrained

    @torch.inference_mode()
    def test_tower_and_fresh_body_equal_the_pretrained_encoder_on_padded_text(self, made, folder):
        plain = AutoModel.from_pretrained(folder).eval()
        fresh = RecllmModel(made.model.config)
        fresh.load_encoder(plain)
        batch = made.tokenizer(["a film", "a much longer title of another film"], padding=True, return_tensors="pt")
        texts = {name: batch[name] for name in ("input_ids", "attention_mask")}
        real = texts["attention_mask"].bool()
        # the tower is all of it, the body its first layers
        first = build(made.model.config.encoder, LAYERS, 0.0, "sdpa").eval()
        first.load_state_dict(plain.state_dict(), strict=False)
        for found, expected in ((fresh.eval().tower, plain), (fresh.body, first)):
            states = found(**texts).last_hidden_state[real]
            torch.testing.assert_close(states, expected(**texts).last_hidden_state[real], atol=1e-6, rtol=0)
        mask = texts["attention_mask"][..., None]
        mean = (plain(**texts).last_hidden_state * mask).sum(1) / mask.sum(1)
        expected = torch.nn.functional.normalize(mean, dim=-1)
        torch.testing.assert_close(made.model.encode_text(**texts), expected, atol=1e-6, rtol=0)

    def test_without_its_attention_function_a_forward_fails(self, made):
        model = copy.deepcopy(made.model)
        model.body.set_attn_implementation("sdpa")
        with pytest.raises(RuntimeError, match="expected 2 attention calls"):
            model(**load(made.examples(TEST), np.array([0])).inputs)

    # ---- what is trained

    def test_lora_is_in_every_linear_module_of_a_layer_once_and_nowhere_else(self, made):
        model = made.model
        found = [name.removesuffix(".lora_A") for name, _ in model.named_modules() if name.endswith(".lora_A")]
        assert all(name.startswith("body.") for name in found)
        assert {name.rsplit(".", 1)[1] for name in found} == self.lora
        per_layer = 6  # four of the attention, two behind it
        assert len(found) == per_layer * LAYERS // self.shared
        found = attentions(model.body)
        assert len(found) == LAYERS // self.shared
        assert all(hasattr(module, "lora_A") for _, *pair in found for module in pair)

    def test_gradients_reach_every_adapter_and_nothing_that_is_pretrained(self, made):
        model = copy.deepcopy(made.model)
        examples = made.examples(TRAIN)
        tasks = Tasks(model, made.config.columns, made.processor, made.log, False, 0.1)
        loss, _ = tasks(load(examples, np.arange(min(8, len(examples)))))
        loss.backward()
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
            elif name.startswith(("tower.", "body.")):
                assert parameter.grad is None and not parameter.requires_grad, name

    # ---- positions

    def test_positions_start_where_the_encoder_starts_and_stay_within_its_room(self, made, replay):
        seen = []
        hook = made.model.body.embeddings.position_embeddings.register_forward_hook(lambda module, inputs, out: seen.append(inputs[0]))
        recommender = recommender_of(made)
        recommender.engine.raw(recommender.reader.read(max(replay[0], key=lambda r: len(r["history"]))), np.array([0]))
        hook.remove()
        assert made.model.config.first_position == self.first_position
        assert min(int(p.min()) for p in seen) == self.first_position
        assert max(int(p.max()) for p in seen) < made.model.config.encoder["max_position_embeddings"]

    def test_a_timeline_a_text_or_a_body_that_is_too_long_is_refused(self, made):
        config, room = copy.deepcopy(made.model.config), 60 - self.first_position
        config.profile_tokens, config.stride, config.overlap, config.text_tokens = 20, 20, room - 41, room
        config.check()  # the last position is taken
        for change, expected in (({"overlap": room - 40}, rf"expected room for {room + 1} positions \(profile_tokens"),
                                 ({"text_tokens": room + 1}, rf"expected room for {room + 1} positions \(text_tokens"),
                                 ({"layers": 4}, "expected at most 3 layers, found 4")):  # fmt: skip
            other = copy.deepcopy(config)
            for name, value in change.items():
                setattr(other, name, value)
            with pytest.raises(ReleaseError, match=expected):
                other.check()

    # ---- a release

    def test_a_release_gives_the_scores_it_was_written_with(self, made, replay, tmp_path):
        folder = recommender_of(made).save_pretrained(tmp_path / "release")
        loaded = Recommender(RecllmModel.from_pretrained(folder), RecllmProcessor.from_pretrained(folder))
        words = "embeddings.word_embeddings.weight"
        assert loaded.model.body.get_parameter(words) is loaded.model.tower.get_parameter(words)  # stored once
        unseen = {**replay[0][0], "candidates": [{"item_id": "new", "title": "A film that no catalogue holds"}]}  # the tower reads it
        requests = [*replay[0], unseen]
        for before, after in zip(recommender_of(made).predict(requests), loaded.predict(requests), strict=True):
            assert before.keys() == after.keys()
            for name in before.keys() - {"item_id"}:
                np.testing.assert_array_equal(after[name], before[name])
        lists = [maker.recommend({**replay[0][0], "candidates": None}, top_k=3) for maker in (recommender_of(made), loaded)]
        assert lists[0] == lists[1] and len(lists[0]) == 3
