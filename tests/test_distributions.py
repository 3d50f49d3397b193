"""Training keys hold the versions of what the providers of a recipe's parts require."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fer_augment import ConfigurableModel, Strategy, hookimpl
from fer_augment.hooks.local_declarations import declaration_in_file
from fer_augment.hooks.networks import AnyModel
from fer_augment.hooks.pipeline import steps_of
from fer_augment.hooks.strategy_files import model_in_file, strategy_in_file
from fer_augment.recipe.binding import BoundRecipe
from fer_augment.recipe.recipe import Recipe
from fer_augment.training import distributions
from fer_augment.training.distributions import distribution_versions, required_by
from fer_augment.training.keys import environment, training_key
from tests.tiny_training import LOSS, MODEL, tiny_splits

Install = Callable[..., None]


class Doubles(Strategy):
    """Doubles all sampling weights."""

    @hookimpl
    def sampling_weights(self, weights):
        return weights * 2


def bound(provider: str, strategy: Strategy | None = None, providers: tuple[str, ...] = ()) -> BoundRecipe:
    recipe = Recipe(name="r", model="tiny_convnet")
    return BoundRecipe(recipe, steps_of([strategy or Doubles()], [provider]), MODEL, LOSS, (), providers)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install distributions that consist of metadata and a module, or other versions of them."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(name: str, version: str, *requires: str) -> None:
        _forget_installed()
        for old in tmp_path.glob(f"{name}-*.dist-info"):
            old.rename(tmp_path / f"{old.name}.old")
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {one}" for one in requires)]
        (folder / "METADATA").write_text("Metadata-Version: 2.1\n" + "\n".join(lines) + "\n")
        (folder / "top_level.txt").write_text(f"{name}\n")
        (tmp_path / f"{name}.py").touch()

    yield install
    _forget_installed()


def _forget_installed() -> None:
    for function in (
        required_by,
        distributions._installed,
        distributions._array_libraries,
        distributions._is_array_library,
        distributions.distributions_of_modules,
        distributions._imported_by,
    ):
        function.cache_clear()


def key(recipe: BoundRecipe) -> str:
    return training_key(recipe, 0, tiny_splits())


def test_of_fer_augment_they_are_the_array_libraries() -> None:
    versions = distribution_versions(bound("fer_augment 0.1.0"))
    assert {
        "numpy",
        "torch",
        "albumentations",
        "albucore",
        "imbalanced-learn",
        "scikit-learn",
        "scipy",
    } <= versions.keys()
    assert not {"rich", "click", "matplotlib", "pydantic", "fer-augment"} & versions.keys()


def test_of_others_they_are_all_requirements_and_the_array_libraries_below(install: Install) -> None:
    install("vendor_noise", "1.0", "vendor_tables>=1", 'vendor_extra; extra == "fast"', "vendor_absent", "fer_augment")
    install("vendor_tables", "2.0", "vendor_filters", "vendor_text")
    install("vendor_filters", "3.0", "numpy")
    install("vendor_text", "4.0")
    install("vendor_extra", "5.0")
    own = distribution_versions(bound("fer_augment 0.1.0"))
    versions = distribution_versions(bound("vendor_noise 1.0"))
    others = {name: version for name, version in versions.items() if name not in own}
    assert others == {"vendor-noise": "1.0", "vendor-tables": "2.0", "vendor-filters": "3.0"}


@pytest.mark.parametrize("part", ["strategy", "model"])
def test_an_upgraded_requirement_of_a_provider_trains_again(install: Install, part: str) -> None:
    recipe = bound("vendor_noise 1.0") if part == "strategy" else bound("", providers=("vendor_noise 1.0", "x 1"))
    install("vendor_noise", "1.0", "vendor_tables")
    install("vendor_tables", "2.0")
    first = key(recipe)
    assert key(recipe) == first
    assert environment(recipe)["vendor-tables"] == "2.0"
    install("vendor_tables", "2.1")
    assert key(recipe) != first


def test_a_strategy_in_a_file_depends_on_what_it_imports(install: Install, tmp_path: Path) -> None:
    install("vendor_tables", "2.0")
    file = tmp_path / "own.py"
    file.write_text(
        "from fer_augment import Strategy, hookimpl\n\n\n"
        "class Own(Strategy):\n"
        '    """Imports a library."""\n\n'
        "    @hookimpl\n"
        "    def sampling_weights(self, weights):\n"
        "        import vendor_tables\n"
        "        return weights\n"
    )
    recipe = bound("file own.py", strategy_in_file(file, "Own")())
    assert distribution_versions(recipe)["vendor-tables"] == "2.0"
    first = key(recipe)
    install("vendor_tables", "2.1")
    assert key(recipe) != first


class Needs(ConfigurableModel):
    """Declares a library."""

    @property
    def distributions(self):
        return ["Vendor_Tables"]

    def build(self, image_shape, classes):
        raise NotImplementedError


@pytest.mark.parametrize("model", [Needs(), replace(MODEL, distributions=("vendor_tables",))])
def test_a_network_depends_on_what_it_declares(install: Install, model: AnyModel) -> None:
    install("vendor_filters", "3.0", "numpy")
    install("vendor_tables", "2.0", "vendor_filters")
    recipe = replace(bound("fer_augment 0.1.0"), model=model)
    versions = distribution_versions(recipe)
    assert (versions["vendor-tables"], versions["vendor-filters"]) == ("2.0", "3.0")
    first = key(recipe)
    install("vendor_tables", "2.1", "vendor_filters")
    assert key(recipe) != first


def test_a_network_depends_on_what_it_imports_by_a_call(install: Install, tmp_path: Path) -> None:
    install("vendor_tables", "2.0")
    file = tmp_path / "own.py"
    file.write_text(
        "from fer_augment import Model, import_with_torchvision\n\n\n"
        "def build(image_shape, classes):\n"
        "    return import_with_torchvision('vendor_tables.networks').network(classes)\n\n\n"
        "own = Model('own', 'of a library', build)\n"
    )
    model = model_in_file(file, "own")
    assert not isinstance(model, type)
    recipe = replace(bound("fer_augment 0.1.0"), model=model)
    assert distribution_versions(recipe)["vendor-tables"] == "2.0"


def test_a_loss_and_a_strategy_in_files_depend_on_what_they_and_modules_beside_them_import(
    install: Install, tmp_path: Path
) -> None:
    folder = tmp_path / "recipes"
    folder.mkdir()
    for name in ("tables", "filters", "noise"):
        install(f"vendor_{name}", "2.0")
    (folder / "beside_filters.py").write_text("def own(rows):\n    import vendor_filters\n    return rows\n")
    (folder / "beside_noise.py").write_text("from vendor_noise import noise\n")
    (folder / "losses.py").write_text(
        "import functools\nfrom fer_augment import Loss\nimport beside_filters\n\n\n"
        "def dice(logits, targets, power):\n    import vendor_tables\n    return logits.sum(dim=1) ** power\n\n\n"
        "own = Loss('own', 'of a library', functools.partial(dice, power=2))\n"
    )
    (folder / "own.py").write_text(
        "from fer_augment import Strategy, hookimpl\n\n\n"
        "class Own(Strategy):\n"
        "    @hookimpl\n"
        "    def sampling_weights(self, weights):\n"
        "        import beside_noise\n"
        "        return weights\n"
    )
    loss = declaration_in_file(folder / "losses.py", "loss", "own")
    recipe = replace(bound("file own.py", strategy_in_file(folder / "own.py", "Own")()), loss=loss)
    keys = {key(recipe)}
    for name in ("tables", "filters", "noise"):
        assert distribution_versions(recipe)[f"vendor-{name}"] == "2.0"
        install(f"vendor_{name}", "2.1")
        keys.add(key(recipe))
    assert len(keys) == 4


class Reads(Strategy):
    """Reads a file."""

    file: Path

    @property
    def files(self):
        return [self.file]

    @hookimpl
    def sampling_weights(self, weights):
        return weights


def test_an_edited_file_that_a_strategy_reads_trains_again(tmp_path: Path) -> None:
    file = tmp_path / "weights.csv"
    file.write_text("1,2,3")
    recipe = bound("vendor 1.0", Reads(file=file))
    first = key(recipe)
    assert key(recipe) == first
    file.write_text("1,2,4")
    assert key(recipe) != first


def test_a_distribution_that_is_gone_requires_nothing() -> None:
    assert required_by("never-installed") == frozenset()
    assert "never-installed" not in sys.modules


@pytest.mark.parametrize("finder", ["importlib.metadata", "importlib_metadata"])
def test_a_leftover_folder_before_a_distribution_does_not_hide_its_version(
    install: Install, tmp_path: Path, finder: str
) -> None:
    pytest.importorskip(finder)  # the second replaces the finder of the first, and its errors differ
    install("noise", "2.0", "numpy")
    (tmp_path / "noise-1.0.dist-info").mkdir()
    _forget_installed()
    assert distributions.installed_version("noise") == "2.0"
    assert "numpy" in required_by("noise")


def test_providers_are_named_by_their_distributions() -> None:
    recipe = replace(bound("file own.py"), providers=("fer_augment 0.1.0", "unknown distribution", "Vendor.Noise 2"))
    assert recipe.distributions == {"fer-augment", "vendor-noise"}
