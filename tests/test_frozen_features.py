"""Training the head alone, on features that are computed once."""

import multiprocessing
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fer_augment import ConfigurableModel, Effect, ImageDataset, Model, RecipeError, Strategy, StrategyError, hookimpl
from fer_augment.cache import entries, prune
from fer_augment.hooks.networks import ModelInput
from fer_augment.hooks.pipeline import steps_of
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.randomness import stream_key
from fer_augment.recipe.binding import BoundRecipe
from fer_augment.recipe.recipe import Recipe, TrainingSettings
from fer_augment.training.keys import backbone_key
from fer_augment.training.needed import needed_trainings
from fer_augment.training.prediction import predict
from fer_augment.training.row_stream import RowStream
from fer_augment.training.store import TrainingStore
from fer_augment.training.torch_runtime import reproducible
from fer_augment.training.trainer import train
from fer_augment.training.trainings import RecipeTrainings, Trainings
from tests.tiny_training import LOSS, same_bits, tiny_convnet, tiny_splits, weights_of


class Given(ConfigurableModel):
    """A network of which weights are given."""

    shift: float = 0.0

    @property
    def input(self) -> ModelInput:
        return ModelInput(mean=(self.shift,))

    def build(self, image_shape, classes):
        return tiny_convnet(image_shape, classes)


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(11)
    network: Any = tiny_convnet((16, 14, 1), 3)
    network.features[1].running_mean.fill_(0.1)
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


def settings_of(**changes: Any) -> TrainingSettings:
    defaults = {"train": "head", "epochs": 4, "batch_size": 16, "precision": "float32", "learning_rate": 0.05}
    return TrainingSettings(**{**defaults, "evaluate_every": 2, "scout": {"folds": 3}, **changes})


def head_recipe(weights: Path | None, *strategies: Strategy, model: Any = None, **changes: Any) -> BoundRecipe:
    recipe = Recipe(name="r", model="given", training=settings_of(**changes))
    return BoundRecipe(recipe, steps_of(strategies), model or Given(weights=weights), LOSS, ())


def trainings_in(folder: Path, seed: int = 0, data: ImageDataset | None = None) -> Trainings:
    splits = tiny_splits()
    return Trainings(replace(splits, train=data or splits.train), seed, TrainingStore(folder / "store"))


def installed(name: str, **parameters: Any) -> Strategy:
    strategy: Strategy = installed_plugins().strategy(name).value(**parameters)
    return strategy


def given_network(weights: Path) -> Any:
    network: Any = tiny_convnet((16, 14, 1), 3)
    network.load_state_dict(load_file(weights))
    return network.eval()


class Mirrors(Strategy):
    """Appends a mirrored copy of every row, which is a new image."""

    @hookimpl
    def rewrite_training_set(self, training_set):
        return training_set.append(training_set.images[:][:, :, ::-1], parents=np.arange(len(training_set)))


class TestFeatures:
    def test_are_those_of_the_backbone_in_evaluation_mode(self, weights, tmp_path):
        recipe = trainings_in(tmp_path).of(head_recipe(weights))
        data = recipe.trainings.splits.train
        features = recipe.frozen.rows_of(data).batch(slice(None)).numpy()
        np.testing.assert_allclose(features, predict(given_network(weights).features, data, settings_of()), atol=1e-6)
        assert features.shape == (49, 4 * 8 * 7)

    def test_of_an_image_are_computed_once(self, weights, tmp_path):
        recipe = trainings_in(tmp_path).of(head_recipe(weights))
        data = recipe.trainings.splits.train
        tripled = data.take(np.tile(np.arange(len(data)), 3))
        rows = recipe.frozen.rows_of(tripled)
        assert len(rows) == 147
        assert len(rows.features) == len(np.unique(data.digests)) < len(data)

    def test_do_not_depend_on_the_other_images_of_a_batch(self, weights, tmp_path):
        """Bit-identical: for one image, for all in another order, and for those of several batches."""
        data = tiny_splits().train
        many = data.append(data.images[:][:, ::-1], parents=np.arange(49)).append(
            np.random.default_rng(0).integers(0, 256, (300, 16, 14, 1), np.uint8), parents=np.arange(300) % 49
        )
        of_digest = []
        for number, part in enumerate([many, many.take(np.random.default_rng(1).permutation(len(many)))]):
            rows = trainings_in(tmp_path / str(number)).of(head_recipe(weights)).frozen.rows_of(part)
            features = rows.batch(slice(None)).numpy()
            of_digest.append({bytes(one): features[row].tobytes() for row, one in enumerate(part.digests)})
        assert of_digest[0] == of_digest[1]
        single = trainings_in(tmp_path / "one").of(head_recipe(weights)).frozen.rows_of(many.take([7]))
        assert single.batch(slice(None)).numpy().tobytes() == of_digest[0][bytes(many.digests[7])]

    def test_are_shared_by_recipes_and_seeds(self, weights, tmp_path):
        head_of = [
            trainings_in(tmp_path, seed).of(head_recipe(weights, *steps))
            for seed, steps in ((0, ()), (1, (Mirrors(),)), (2, (installed("ldam_loss"),)))
        ]
        for recipe in head_of:
            recipe.trained()
        assert len(list((tmp_path / "features").iterdir())) == 1
        mirrored = head_of[1].rewritten
        assert len(head_of[1].frozen.cache.open().digests) == len(
            np.unique(np.concatenate([mirrored.digests, tiny_splits().validation.digests]))
        )

    @pytest.mark.parametrize(
        "change", [{"threads": 2}, {"precision": "bfloat16"}, {"model": {"shift": 0.5}}, {"weights": True}]
    )
    def test_key_depends_on_what_computes_them(self, weights, change):
        splits, plain = tiny_splits(), head_recipe(weights)
        if "model" in change:
            other = head_recipe(weights, model=Given(weights=weights, **change["model"]))
        elif "weights" in change:
            plain_key = backbone_key(plain, splits)
            save_file({name: tensor + 1 for name, tensor in load_file(weights).items()}, weights)
            assert backbone_key(plain, splits) != plain_key
            return
        else:
            other = head_recipe(weights, **change)
        assert backbone_key(other, splits) != backbone_key(plain, splits)
        assert backbone_key(head_recipe(weights, installed("power_sampler"), epochs=9), splits) == backbone_key(
            plain, splits
        )


class TestTraining:
    @pytest.mark.parametrize("strategy", [None, "power_sampler"])
    def test_agrees_with_a_minimal_loop_on_the_frozen_network(self, strategy, weights, tmp_path):
        steps = [installed(strategy, exponent=1.0)] if strategy else []
        recipe = trainings_in(tmp_path).of(head_recipe(weights, *steps))
        trained: Any = recipe.network(recipe.trained())
        data, network = recipe.trainings.splits.train, given_network(weights)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_key(0, "torch") >> 1)
            network.head = tiny_convnet((16, 14, 1), 3).head
        optimizer = torch.optim.Adam(network.head.parameters(), lr=0.05)
        sampling = 1 / data.counts[data.labels] if strategy else np.ones(len(data))
        rows = RowStream(data.row_keys(), seed=0)
        for epoch in range(4):
            for batch in rows.epoch(epoch, sampling, 4 * 16).reshape(4, 16):
                images = torch.from_numpy(data.images[batch].transpose(0, 3, 1, 2).copy()).float() / 255
                loss = torch.nn.functional.cross_entropy(network(images), torch.from_numpy(data.labels[batch]))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        np.testing.assert_allclose(trained.head.weight.detach(), network.head.weight.detach(), atol=1e-4)
        logits = recipe.predict(recipe.network(recipe.trained()), recipe.trainings.splits.test)
        np.testing.assert_allclose(logits, predict(network, recipe.trainings.splits.test, settings_of()), atol=1e-3)

    def test_head_starts_from_the_seed_not_from_the_given_weights(self, weights, tmp_path):
        tiny = {"epochs": 1, "learning_rate": 1e-12}
        heads = [
            weights_of(recipe.network(recipe.trained()))[0]
            for seed in (0, 1)
            for recipe in [trainings_in(tmp_path, seed).of(head_recipe(weights, **tiny))]
        ]
        given = load_file(weights)["head.weight"].numpy()
        assert np.abs(heads[0] - heads[1]).max() > 0.01
        assert min(np.abs(head - given).max() for head in heads) > 0.01

    def test_weights_do_not_depend_on_the_order_of_rows(self, weights, tmp_path):
        data = tiny_splits().train
        shuffled = data.take(np.random.default_rng(3).permutation(len(data)))
        files = [
            trainings_in(tmp_path / name, data=rows).of(head_recipe(weights)).trained().weights.read_bytes()
            for name, rows in (("a", data), ("b", shuffled))
        ]
        assert files[0] == files[1]

    def test_is_identical_after_an_interruption(self, weights, tmp_path):
        class Interruption(BaseException):
            pass

        def interrupt(evaluation):
            if evaluation.epoch == 4:
                raise Interruption

        changes: dict[str, Any] = {"weight_average": 0.9, "keep": "best", "gradient_clipping": 0.1}
        recipe = trainings_in(tmp_path).of(head_recipe(weights, **changes))
        training = recipe.training(recipe.rewritten)
        whole = train(training)
        with pytest.raises(Interruption):
            train(training, checkpoint=tmp_path / "c", evaluated=interrupt, seconds_between_checkpoints=0)
        assert same_bits(weights_of(train(training, checkpoint=tmp_path / "c").model), weights_of(whole.model))

    def test_features_are_computed_only_if_they_are_missing(self, weights, tmp_path, monkeypatch):
        trainings_in(tmp_path).of(head_recipe(weights)).trained()
        monkeypatch.setattr("fer_augment.training.frozen_features.FrozenFeatures.of_images", None)
        assert trainings_in(tmp_path, seed=5).of(head_recipe(weights)).trained().facts.optimizer_steps == 16


def _features_of(folder: Path, weights: Path) -> None:
    data = tiny_splits().train
    noise = np.random.default_rng(0).integers(0, 256, (1500, 16, 14, 1), np.uint8)
    many = data.append(noise, parents=np.arange(1500) % 49)
    trainings_in(folder).of(head_recipe(weights)).frozen.rows_of(many)


def test_processes_share_the_work(weights, tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_features_of, args=(tmp_path / "both", weights)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    _features_of(tmp_path / "alone", weights)
    both, alone = (
        trainings_in(tmp_path / name).of(head_recipe(weights)).frozen.cache.open() for name in ("both", "alone")
    )
    assert len(both.digests) == len(np.unique(both.digests)) == len(alone.digests) > 1500
    assert both.features[both.places_of(alone.digests)].tobytes() == alone.features.tobytes()


def test_what_another_process_stored_meanwhile_is_not_stored_again(weights, tmp_path):
    one, other = (trainings_in(tmp_path).of(head_recipe(weights)).frozen for _ in range(2))
    data = tiny_splits().train
    assert one is not None and other is not None
    assert one.missing(data) == len(np.unique(data.digests))
    other.rows_of(data)
    features = one.of_images(torch.zeros(1, 1, 16, 14), 1)
    one.cache.add(data.digests[:1], features, since=0)
    one._compute(data, np.arange(3), since=0)
    assert len(one.cache.open().digests) == len(np.unique(data.digests))


def test_features_are_not_pruned_while_they_are_computed(weights, tmp_path):
    chosen = []
    frozen = trainings_in(tmp_path).of(head_recipe(weights)).frozen
    assert frozen is not None
    watched = replace(frozen, progress=lambda done, total: chosen.extend(prune(entries(tmp_path), max_bytes=-1)))
    watched.rows_of(tiny_splits().train)
    assert chosen == []
    assert [entry.path for entry in prune(entries(tmp_path), max_bytes=-1)] == [frozen.cache.folder]


class TestSecondStages:
    def test_crt_and_tau_norm_change_the_head(self, weights, tmp_path):
        trainings = trainings_in(tmp_path)
        plain, crt, tau = (
            trainings.of(head_recipe(weights, *steps)).trained()
            for steps in ((), (installed("crt", epochs=2),), (installed("tau_norm"),))
        )
        assert len(list(trainings.store.root.iterdir())) == 3, "both start from the plain training"
        assert crt.facts.optimizer_steps == plain.facts.optimizer_steps * 6 // 4
        before, scaled = (load_file(stored.weights)["head.weight"] for stored in (plain, tau))
        torch.testing.assert_close(scaled, before / before.norm(dim=1, keepdim=True))

    def test_all_parameters_are_those_of_the_head(self, weights, tmp_path):
        class Again(Strategy):
            @hookimpl
            def refine_model(self, model, context):
                assert sorted(name for name, _ in model.named_parameters()) == ["head.bias", "head.weight"]
                return context.train(model)

        stored = trainings_in(tmp_path).of(head_recipe(weights, Again())).trained()
        assert set(load_file(stored.weights)) == {"head.bias", "head.weight"}


class TestScouts:
    class Asks(Strategy):
        """Queries a scout."""

        queried: ClassVar[list[np.ndarray]] = []
        how: str

        @property
        def effects(self) -> Effect:
            return Effect.ASKS_FOR_EMBEDDINGS if self.how == "embeddings" else Effect.OUT_OF_FOLD_MINING

        @hookimpl
        def rewrite_training_set(self, training_set, context):
            scout = context.require_scout()
            of_rows = scout.embeddings(training_set) if self.how == "embeddings" else scout.probabilities(training_set)
            self.queried.append(of_rows)
            return training_set

    @pytest.mark.parametrize(("how", "trained"), [("embeddings", 1), ("out_of_fold", 1 + 3)])
    def test_are_heads_on_the_same_features(self, how, trained, weights, tmp_path):
        trainings = trainings_in(tmp_path)
        recipe = trainings.of(head_recipe(weights, Mirrors(), self.Asks(how=how)))
        needed = {one.key for one in needed_trainings(recipe)}
        recipe.trained()
        assert {path.name for path in trainings.store.root.iterdir()} == needed
        assert len(needed) == trained
        if how == "embeddings":
            features = recipe.frozen.rows_of(recipe.rewritten).batch(slice(None)).numpy()
            np.testing.assert_array_equal(self.Asks.queried[-1], features)


class TestViews:
    @pytest.mark.parametrize("name", ["mirror_views", "ten_crop_views"])
    def test_are_averaged_as_for_a_whole_network(self, name, weights, tmp_path):
        recipe = trainings_in(tmp_path).of(head_recipe(weights, installed(name)))
        test, stored = recipe.trainings.splits.test, recipe.trained()
        network, trained = given_network(weights), cast("Any", recipe.network(stored))
        network.head.load_state_dict(trained.head.state_dict())
        logits = recipe.predict(trained, test, recipe.pipeline.fresh())
        np.testing.assert_allclose(logits, predict(network, test, settings_of(), recipe.pipeline.fresh()), atol=1e-5)

    def test_are_computed_once(self, weights, tmp_path, monkeypatch):
        recipe = trainings_in(tmp_path).of(head_recipe(weights, installed("mirror_views")))
        network, test = recipe.network(recipe.trained()), recipe.trainings.splits.test
        once = recipe.predict(network, test, recipe.pipeline.fresh())
        monkeypatch.setattr("fer_augment.training.frozen_features.FrozenFeatures.of_images", None)
        again = trainings_in(tmp_path).of(head_recipe(weights, installed("mirror_views")))
        np.testing.assert_array_equal(again.predict(network, test, again.pipeline.fresh()), once)


class Draws(Strategy):
    """Draws new pixels for rows."""

    @hookimpl
    def augment_rows(self, images):
        return images


class ChangesBackbone(Strategy):
    """Changes the first layer."""

    in_place: bool = True

    @hookimpl
    def prepare_model(self, model):
        if self.in_place:
            with torch.no_grad():
                model.features[0].bias.add_(1)
        else:
            model.features = torch.nn.Sequential(*model.features, torch.nn.ReLU())
        return model


class TestRefused:
    @pytest.mark.parametrize(
        ("steps", "message"),
        [
            ([Draws()], r"step 1 \(draws\): draws new pixels in each batch \(augment_rows\).*freeze_epochs: 4"),
            ([installed("mixup")], r"step 1 \(mixup\): draws new pixels in each batch \(augment_batch\)"),
            ([installed("sup_con_loss")], r"step 1 \(sup_con_loss\): its loss changes the features .*set train: all"),
            ([installed("dedup"), installed("flip_crop_affine")], r"step 2 .*without: \[flip_crop_affine\]"),
            ([ChangesBackbone()], r"step 1 \(changes_backbone\): changes the network outside its head"),
            ([ChangesBackbone(in_place=False)], r"step 1 \(changes_backbone\): changes the network outside its head"),
        ],
    )
    def test_strategies_by_name_before_anything_is_computed(self, steps, message, weights, tmp_path):
        with pytest.raises(StrategyError, match=message):
            trainings_in(tmp_path).of(head_recipe(weights, *steps)).check()
        assert not (tmp_path / "features").exists()

    @pytest.mark.parametrize("steps", [["ldam_loss"], ["crt"], ["tau_norm", "mirror_views", "logit_adjustment"]])
    def test_other_strategies_are_accepted(self, steps, weights, tmp_path):
        trainings_in(tmp_path).of(head_recipe(weights, *map(installed, steps))).check()

    def test_random_backbone(self, tmp_path):
        for model in (Given(), Model("plain", "", tiny_convnet)):
            with pytest.raises(RecipeError, match=r"starts from random weights; set them, as in model: \{"):
                trainings_in(tmp_path).of(head_recipe(None, model=model)).check()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda network: setattr(network, "head", torch.nn.Identity()), "needs a network with a linear last layer"),
            (lambda network: network.append(torch.nn.ReLU()), r"output is head\(features\(images\)\)"),
        ],
    )
    def test_networks_that_do_not_end_in_a_linear_head_on_features(self, change, message, weights, tmp_path):
        class Other(Given):
            def build(self, image_shape, classes):
                network = tiny_convnet(image_shape, classes)
                change(network)
                return network

        with pytest.raises(RecipeError, match=message):
            trainings_in(tmp_path).of(head_recipe(weights, model=Other(weights=weights))).check()

    @pytest.mark.parametrize("setting", [{"freeze_epochs": 2}, {"backbone_learning_rate": 0.5}])
    def test_settings_of_the_backbone(self, setting):
        with pytest.raises(RecipeError, match=rf"{next(iter(setting))}: with `train: head`"):
            Recipe(name="r", model="vgg_tiny", training={"train": "head", **setting})


class TestCache:
    def cache_with(self, tmp_path: Path, weights: Path) -> Any:
        recipe: RecipeTrainings = trainings_in(tmp_path).of(head_recipe(weights))
        recipe.frozen.rows_of(recipe.trainings.splits.train)
        return recipe.frozen.cache

    def test_what_a_killed_process_wrote_is_overwritten(self, weights, tmp_path):
        cache = self.cache_with(tmp_path, weights)
        before = cache.open()
        whole = [array.copy() for array in (before.features, before.digests)]
        with (cache.folder / "features.bin").open("ab") as file:
            file.write(b"half a row of features")
        with (cache.folder / "digests.bin").open("ab") as file:
            file.write(b"digest")
        recipe = trainings_in(tmp_path).of(head_recipe(weights))
        test = recipe.trainings.splits.test
        features = recipe.frozen.rows_of(test).batch(slice(None)).numpy()
        after = cache.open()
        assert after.features[: len(whole[0])].tobytes() == whole[0].tobytes()
        np.testing.assert_allclose(features, predict(given_network(weights).features, test, settings_of()), atol=1e-6)
        sizes = {name: (cache.folder / name).stat().st_size for name in ("features.bin", "digests.bin")}
        assert sizes == {"features.bin": after.features.nbytes, "digests.bin": 16 * len(after.digests)}

    def test_damage_is_reported_in_one_line(self, weights, tmp_path):
        cache = self.cache_with(tmp_path, weights)
        (cache.folder / "about.json").write_text("{}")
        with pytest.raises(Exception, match=r"cannot be used \(.*\); delete it, or name another cache"):
            trainings_in(tmp_path).of(head_recipe(weights)).trained()

    def test_pruned_features_are_computed_again(self, weights, tmp_path):
        recipe = trainings_in(tmp_path).of(head_recipe(weights))
        train_rows = recipe.trainings.splits.train
        once = recipe.frozen.rows_of(train_rows).batch(slice(None)).numpy()
        for file in recipe.frozen.cache.folder.iterdir():
            file.unlink()
        recipe.frozen.cache.folder.rmdir()
        recipe.frozen.rows_of(recipe.trainings.splits.test)
        again = trainings_in(tmp_path).of(head_recipe(weights)).frozen.rows_of(train_rows).batch(slice(None)).numpy()
        assert once.tobytes() == again.tobytes()

    def test_limit_deletes_other_features_not_these(self, weights, tmp_path, monkeypatch):
        older = self.cache_with(tmp_path, weights).folder
        os.utime(older, (1, 1))
        monkeypatch.setenv("FER_AUGMENT_CACHE_LIMIT", "0.00001")
        other = trainings_in(tmp_path).of(head_recipe(weights, model=Given(weights=weights, shift=0.5)))
        other.frozen.rows_of(other.trainings.splits.train)
        assert list((tmp_path / "features").iterdir()) == [other.frozen.cache.folder]


def test_backbone_with_preprocessing_takes_images_as_they_are(weights, tmp_path):
    recipe = trainings_in(tmp_path).of(head_recipe(weights, model=Given(weights=weights, shift=0.5)))
    data = recipe.trainings.splits.train
    features = recipe.frozen.rows_of(data).batch(slice(None)).numpy()
    network = given_network(weights)
    with reproducible(settings_of(), 0), torch.no_grad():
        images = torch.from_numpy(data.images[:].transpose(0, 3, 1, 2).copy()).float() / 255 - 0.5
        np.testing.assert_allclose(features, network.features(images), atol=1e-5)
