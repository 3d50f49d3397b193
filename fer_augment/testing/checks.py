"""The specification of a strategy: a list of small checks, each of which says what is wrong and what to do."""

from __future__ import annotations

import random
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.dataset import AS_READ, ImageDataset
from fer_augment.errors import FerAugmentError
from fer_augment.hooks.plugin_manager import strategy_faults
from fer_augment.hooks.recipe_binding import with_parameters
from fer_augment.hooks.specs import PROJECT, STAGES
from fer_augment.hooks.strategy import Effect, Strategy
from fer_augment.testing.fixtures import NearestMeanScout, tiny_dataset
from fer_augment.testing.stages import BATCH, Arrays, arguments_of, same, some_rows, trial

_OTHER_SEEDS = range(1, 6)
_CLEARLY_UNEQUAL = 1.2


@dataclass(frozen=True)
class Subject:
    """A strategy class under test, and what the checks ask of it."""

    strategy_class: type[Strategy]

    def build(self) -> Strategy:
        """Make a new instance from the example."""
        return self.strategy_class(**self.strategy_class.example)

    @cached_property
    def stages(self) -> list[str]:
        """The stages that the class implements."""
        return [name for name in STAGES if hasattr(getattr(self.strategy_class, name, None), f"{PROJECT}_impl")]

    @cached_property
    def datasets(self) -> list[ImageDataset]:
        """The tiny data that the strategy takes: grey, colour, or both."""
        return [data for data in (tiny_dataset(1), tiny_dataset(3)) if not self.refusals(data)]

    def refusals(self, data: ImageDataset) -> list[str]:
        """Run all stages on some data; return what the strategy refused by an error of its own.

        Raises:
            FerAugmentError: if it failed in any other way.
        """
        refused = []
        for stage in self.stages:
            try:
                trial(self.build(), stage, data)
            except FerAugmentError as error:
                if not isinstance(error.__cause__, FerAugmentError):
                    raise
                refused.append(str(error))
        return refused

    def trials(self, seed: int = 0, **options: Any) -> dict[str, Arrays]:
        """Run all stages on all data, each with a new instance; return what came out of each stage."""
        return {
            stage: [array for data in self.datasets for array in trial(self.build(), stage, data, seed=seed, **options)]
            for stage in self.stages
        }

    def together_and_alone(self, stage: str) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Run one stage, if the class implements it, on a batch and on each of its rows alone."""
        if stage in self.stages:
            for data in self.datasets:
                rows = some_rows(data)
                together = trial(self.build(), stage, data, rows=rows)
                alone = [trial(self.build(), stage, data, rows=rows[[place]]) for place in range(len(rows))]
                for whole, *parts in zip(together, *alone, strict=True):
                    yield whole, np.concatenate(parts)

    def results(self, stage: str) -> Iterator[tuple[ImageDataset, Any]]:
        """Run one stage, if the class implements it; give the data and what the hook returned."""
        if stage in self.stages:
            for data in self.datasets:
                for given in arguments_of(stage, data):
                    yield data, given.fold(self.build())


def is_declared_as_a_strategy(subject: Subject) -> Iterator[str]:
    """Hooks and their arguments exist, and the class says what it does."""
    yield from strategy_faults(subject.strategy_class)
    if not subject.strategy_class.__doc__:
        yield "give the class a docstring: it is what `plugins show` tells"


def builds_from_its_example(subject: Subject) -> Iterator[str]:
    """`example` holds parameters that make an instance, for the classes ant, bee and cat."""
    try:
        with_parameters(subject.strategy_class, subject.strategy_class.example)
    except FerAugmentError as error:
        yield f"set the class attribute `example` to valid parameters; now {error}"


def keeps_the_contract_of_its_stages(subject: Subject) -> Iterator[str]:
    """Every stage takes grey or colour images and returns what the stage asks for: kind, shape and dtype."""
    refused = [*subject.refusals(tiny_dataset(1)), *subject.refusals(tiny_dataset(3))]
    if not subject.datasets:
        yield from refused


def same_seed_gives_the_same_bytes(subject: Subject) -> Iterator[str]:
    """Two runs with one seed give the same result to the last bit."""
    once, again = subject.trials(), subject.trials()
    for stage in subject.stages:
        if not same(once[stage], again[stage]):
            yield f"{stage}: two runs with one seed differ; use context.rng, context.generator or row_seeds"


def declares_whether_it_is_random(subject: Subject) -> Iterator[str]:
    """Another seed changes the result if `effects` has `Effect.RANDOM`, and only then."""
    first = subject.trials()
    others = [subject.trials(seed=seed) for seed in _OTHER_SEEDS]
    varying = [stage for stage in subject.stages if not all(same(first[stage], other[stage]) for other in others)]
    if varying and Effect.RANDOM not in subject.build().effects:
        yield f"{', '.join(varying)}: another seed gives another result; declare Effect.RANDOM in `effects`"
    if not varying and Effect.RANDOM in subject.build().effects:
        yield "no seed changes any result; take Effect.RANDOM out of `effects`, or draw random numbers"


def leaves_its_inputs_alone(subject: Subject) -> Iterator[str]:
    """Arrays, tensors and lists that a hook is given are the same afterwards; only a model may be changed."""
    for stage in subject.stages:
        for data in subject.datasets:
            for given, untouched in zip(arguments_of(stage, data), arguments_of(stage, data), strict=True):
                given.fold(subject.build())
                if not same(given.inputs(), untouched.inputs()):
                    yield f"{stage}: an argument was changed in place; work on a copy"


def leaves_global_random_numbers_alone(subject: Subject) -> Iterator[str]:
    """The global generators of Python, numpy and torch stand where they stood."""
    for stage in subject.stages:
        before = _global_random_states()
        for data in subject.datasets:
            trial(subject.build(), stage, data)
        for name, state in _global_random_states().items():
            if name in before and state != before[name]:
                yield f"{stage}: drew from or seeded {name}; use context.rng, context.generator or row_seeds"


def keeps_no_state_between_runs(subject: Subject) -> Iterator[str]:
    """One instance can be used for run after run; its parameters stay what they are."""
    strategy = subject.build()
    parameters = strategy.model_dump()
    for stage in subject.stages:
        for data in subject.datasets:
            first, _, again = (trial(strategy, stage, data, seed=seed) for seed in (0, 1, 0))
            if not same(first, again):
                yield f"{stage}: a second run gives another result; keep no state on instance, class or module"
    if strategy.model_dump() != parameters:
        yield "the instance's parameters changed during a run; leave them alone"


def keeps_provenance(subject: Subject) -> Iterator[str]:
    """Every row of a rewritten set descends from training rows; a row "as read" is the row that was read."""
    for data, rewritten in subject.results("rewrite_training_set"):
        place = np.empty(int(data.origin.max()) + 1, dtype=np.int64)
        place[data.origin] = np.arange(len(data))
        old = rewritten.step == AS_READ
        if (rewritten.images[old] != data.images[place[rewritten.origin[old]]]).any():
            yield "a row that counts as read is another image than was read; make new rows with `append`"
        if not (rewritten.origin >= 0).all():
            yield "a row has no origin; make sets with `take`, `append` and `without` only"
        if len(np.unique(rewritten.row_keys())) != len(rewritten):
            yield "two rows have one origin and copy number; make sets with `take`, `append` and `without` only"


def keeps_labels_and_targets_valid(subject: Subject) -> Iterator[str]:
    """Labels are int64 class numbers; targets are class weights, 0 or more, that sum to 1 in each row."""
    for data, rewritten in subject.results("rewrite_training_set"):
        if rewritten.labels.dtype != np.int64 or not np.isin(rewritten.labels, range(len(data.class_names))).all():
            yield f"labels must be int64 in 0..{len(data.class_names) - 1}"
    for _, (_, targets) in subject.results("augment_batch"):
        if not (bool((targets >= 0).all()) and np.allclose(targets.sum(1).detach().numpy(), 1, atol=1e-5)):
            yield "targets must be 0 or more and sum to 1 in each row"


def keeps_pixels_in_range(subject: Subject) -> Iterator[str]:
    """Images of a batch, and views of held-out images, are finite; those of a batch stay in [0, 1]."""
    for _, (images, _) in subject.results("augment_batch"):
        if not bool(((images >= 0) & (images <= 1)).all()):
            yield "augment_batch: pixels must stay in [0, 1]; clamp them"
    for _, views in subject.results("predict_views"):
        if not all(bool(view.isfinite().all()) for view in views):
            yield "predict_views: pixels must be finite"


def gives_float64_sampling_weights(subject: Subject) -> Iterator[str]:
    """Weights are float64 (that they are finite, 0 or more and not all zero is the stage's contract)."""
    for _, weights in subject.results("sampling_weights"):
        if weights.dtype != np.float64:
            yield f"sampling_weights must return float64, not {weights.dtype}"


def augments_each_row_alone(subject: Subject) -> Iterator[str]:
    """What `augment_rows` makes of a row depends neither on the order nor on the rest of its batch."""
    for together, alone in subject.together_and_alone("augment_rows"):
        if not same([together], [alone]):
            yield "seed each row by context.row_seeds(training_set.row_keys(rows), draws)"


def predicts_each_row_alone(subject: Subject) -> Iterator[str]:
    """The views of an image, and its adjusted logits, do not depend on other images that are predicted."""
    for stage in ("predict_views", "build_adjustment"):
        for together, alone in subject.together_and_alone(stage):
            if not np.allclose(together, alone, atol=1e-5):
                yield f"{stage}: a row's result depends on its batch; compute it from the row alone"


def gives_one_finite_loss_per_row(subject: Subject) -> Iterator[str]:
    """A loss is `(B,)`, finite and differentiable, and a row's loss depends on that row alone."""
    if "build_loss" in subject.stages:
        for data in subject.datasets:
            for array in trial(subject.build(), "build_loss", data):
                if array.shape not in ((BATCH,), (BATCH, len(data.class_names))):
                    yield f"the loss of {BATCH} rows must have shape ({BATCH},); the trainer averages"
                    return
                if not np.isfinite(array).all():
                    yield "losses and their gradients must be finite"
                    return
    for together, alone in subject.together_and_alone("build_loss"):
        if not np.allclose(together, alone, atol=1e-5):
            yield "a row's loss must depend on that row alone"


def gives_networks_with_features(subject: Subject) -> Iterator[str]:
    """Networks still give finite logits `(B, K)` and have `features`."""
    for stage in ("prepare_model", "refine_model"):
        for data, network in subject.results(stage):
            logits = trial(subject.build(), stage, data)[-1]
            if logits.shape[1:] != (len(data.class_names),) or not np.isfinite(logits).all():
                yield f"{stage}: the network must give finite logits of shape (B, {len(data.class_names)})"
            if not hasattr(network, "features"):
                yield f"{stage}: the network must keep its `features`"


def copes_with_classes_of_one_or_no_row(subject: Subject) -> Iterator[str]:
    """Data with an empty class, or a class of one row, is taken or refused by an error that says why."""
    for data in subject.datasets:
        cat, bees = data.rows_of(["cat"]), data.rows_of(["bee"])
        for what, scarce in (
            ("an empty class", data.without(cat)),
            ("a class of one row", data.without(bees[1:])),
        ):
            try:
                subject.refusals(scarce)
            except FerAugmentError as error:
                yield f"{what}: handle it, or raise a StrategyError that says what to do; now: {error}"
            if "build_adjustment" in subject.stages:
                adjusted = trial(subject.build(), "build_adjustment", scarce)[0]
                if (np.isnan(adjusted) | np.isposinf(adjusted)).any():
                    yield f"{what}: adjusted logits must not be NaN or infinitely large"


def can_be_written_to_a_recipe(subject: Subject) -> Iterator[str]:
    """Parameters survive JSON, and have a JSON Schema."""
    strategy = subject.build()
    try:
        subject.strategy_class.model_json_schema()
        again = subject.strategy_class.model_validate_json(strategy.model_dump_json())
    except ValueError as error:
        yield f"give parameters types and values that JSON has: {' '.join(str(error).split())}"
    else:
        if again.model_dump() != strategy.model_dump():
            yield "parameters must be the same after a round trip through JSON"


def declares_what_it_changes(subject: Subject) -> Iterator[str]:
    """Shifted class frequencies, soft targets and what a scout is asked for stand in `effects`."""
    effects = subject.build().effects
    shares = [rewritten.counts / data.counts for data, rewritten in subject.results("rewrite_training_set")]
    for data, weights in subject.results("sampling_weights"):
        shares.append(np.bincount(data.labels, weights) / data.counts)
    shifted = any(share.max() > _CLEARLY_UNEQUAL * share.min() for share in shares)
    if shifted and Effect.SHIFTS_CLASS_PRIOR not in effects:
        yield "classes are drawn in other proportions; declare Effect.SHIFTS_CLASS_PRIOR"
    soft = any(bool(((t > 0) & (t < 1)).any()) for _, (_, t) in subject.results("augment_batch"))
    if soft and Effect.SOFT_TARGETS not in effects:
        yield "targets are no longer one-hot; declare Effect.SOFT_TARGETS"
    scout = NearestMeanScout()
    subject.trials(scout=scout)
    for asked, effect in _ASKED.items():
        if asked in scout.asked and effect not in effects:
            yield f"a scout is asked for {asked.replace('_', ' ')}; declare Effect.{effect.name}"


def emits_no_warnings(subject: Subject) -> Iterator[str]:
    """No stage warns: what matters is an error, what does not is handled."""
    with warnings.catch_warnings(record=True) as emitted:
        warnings.simplefilter("always")
        subject.trials()
    for warning in emitted:
        yield f"{warning.category.__name__}: {warning.message}; avoid its cause"


_ASKED = {
    "in_sample": Effect.IN_SAMPLE_MINING,
    "out_of_fold": Effect.OUT_OF_FOLD_MINING,
    "embeddings": Effect.ASKS_FOR_EMBEDDINGS,
}


Check = Callable[[Subject], Iterator[str]]

FIRST_CHECKS: tuple[Check, ...] = (
    is_declared_as_a_strategy,
    builds_from_its_example,
    keeps_the_contract_of_its_stages,
)
"""Without these nothing else can be asked."""

CHECKS: tuple[Check, ...] = (
    same_seed_gives_the_same_bytes,
    declares_whether_it_is_random,
    declares_what_it_changes,
    leaves_its_inputs_alone,
    leaves_global_random_numbers_alone,
    keeps_no_state_between_runs,
    keeps_provenance,
    keeps_labels_and_targets_valid,
    keeps_pixels_in_range,
    gives_float64_sampling_weights,
    augments_each_row_alone,
    predicts_each_row_alone,
    gives_one_finite_loss_per_row,
    gives_networks_with_features,
    copes_with_classes_of_one_or_no_row,
    can_be_written_to_a_recipe,
    emits_no_warnings,
)
"""The specification of a strategy, in the order in which it is checked."""


def _global_random_states() -> dict[str, object]:
    """Return what the global generators stand at, in a form that can be compared."""
    numpy_state: Any = np.random.get_state(legacy=False)
    key: NDArray[np.uint32] = numpy_state["state"]["key"]
    states: dict[str, object] = {
        "Python's global random": random.getstate(),
        "numpy's global random": (key.tobytes(), numpy_state["state"]["pos"]),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        states["torch's global generator"] = torch.get_rng_state().numpy().tobytes()
    return states
