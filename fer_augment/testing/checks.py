"""The specifications of all kinds of plugins: checks, each of which yields what is wrong and what to do."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, TypeAlias

from fer_augment.testing.augmentation import (
    augments_each_row_alone,
    mixes_no_image_without_its_target,
    seeds_by_row_and_draw,
)
from fer_augment.testing.caching import caches_under_honest_keys
from fer_augment.testing.circumstances import (
    gives_the_same_result_at_every_call,
    gives_the_same_result_in_any_process,
    ignores_the_number_of_cores,
)
from fer_augment.testing.class_frequencies import (
    copes_with_classes_of_one_or_no_row,
    counts_classes_as_drawn,
)
from fer_augment.testing.class_order import hard_codes_no_number_of_classes
from fer_augment.testing.data_shapes import accepts_any_number_of_classes_and_size
from fer_augment.testing.declarations import (
    builds_from_its_example,
    can_be_written_to_a_recipe,
    declares_the_files_that_it_reads,
    is_declared_as_a_strategy,
    keeps_the_contract_of_its_stages,
)
from fer_augment.testing.earlier_steps import builds_on_earlier_steps
from fer_augment.testing.effects import declares_what_it_changes, declares_whether_it_is_random
from fer_augment.testing.history import copes_with_any_history
from fer_augment.testing.idle_stages import acts_at_some_stage, is_idle_only_where_it_does_nothing
from fer_augment.testing.loss_features import declares_features_and_uses_them
from fer_augment.testing.losses import (
    LossSubject,
    accepts_logits_and_targets,
    depends_on_soft_targets,
    gives_each_row_its_own_loss,
    gives_one_loss_per_row,
    is_declared_as_a_loss,
    is_finite_with_its_gradient,
    is_lower_for_the_right_class,
    leaves_batch_and_generators_alone,
    loss_emits_no_warnings,
    uses_the_softmax_if_declared,
)
from fer_augment.testing.models import (
    ModelSubject,
    builds_for_images,
    consists_of_features_and_a_head,
    gives_gradients_to_every_parameter,
    is_declared_as_a_model,
    loads_its_weights_back,
    model_can_be_written_to_a_recipe,
    model_emits_no_warnings,
    predicts_images_alone,
    returns_logits,
    same_seed_gives_the_same_weights,
)
from fer_augment.testing.networks import (
    gives_networks_that_a_run_can_use,
    gives_one_finite_loss_per_row,
    predicts_each_row_alone,
)
from fer_augment.testing.optimizer_steps import passes_weights_on, returns_to_the_weights, sets_finite_gradients
from fer_augment.testing.parents import names_the_parents_of_altered_images
from fer_augment.testing.pixel_values import copes_with_images_of_any_content, keeps_pixels_in_range
from fer_augment.testing.readers import (
    NotChecked,
    ReaderSubject,
    gives_images_of_any_size,
    gives_two_classes_and_names_its_source,
    is_declared_as_a_reader,
    leaves_the_source_alone,
    reader_emits_no_warnings,
    reads_the_same_data_twice,
    recognizes_and_reads_its_example,
    recognizes_nothing_else,
    refuses_damaged_data,
    reports_its_progress,
)
from fer_augment.testing.repeatability import (
    emits_no_warnings,
    keeps_no_state_between_runs,
    leaves_global_random_numbers_alone,
    leaves_its_inputs_alone,
    same_seed_gives_the_same_bytes,
)
from fer_augment.testing.subject import Subject
from fer_augment.testing.trackers import (
    TrackerSubject,
    is_declared_as_a_tracker,
    leaves_records_alone,
    makes_an_observer_with_hooks,
    receives_a_comparison_again,
    receives_a_comparison_without_a_result,
    receives_the_events_of_a_comparison,
    receives_the_events_of_a_single_run,
    writes_nothing_before_the_first_event,
)
from fer_augment.testing.training_rows import (
    keeps_labels_and_targets_valid,
    keeps_provenance,
)

Check: TypeAlias = Callable[[Any], Iterator[str]]
"""A check of an `AnySubject`; its docstring states the requirement."""

FIRST_CHECKS: tuple[Check, ...] = (
    is_declared_as_a_strategy,
    builds_from_its_example,
    keeps_the_contract_of_its_stages,
)
"""The other checks, and each of these after the first, can only be run if these pass."""

CHECKS: tuple[Check, ...] = (
    leaves_global_random_numbers_alone,
    same_seed_gives_the_same_bytes,
    declares_whether_it_is_random,
    declares_what_it_changes,
    leaves_its_inputs_alone,
    keeps_no_state_between_runs,
    caches_under_honest_keys,
    ignores_the_number_of_cores,
    gives_the_same_result_at_every_call,
    gives_the_same_result_in_any_process,
    acts_at_some_stage,
    is_idle_only_where_it_does_nothing,
    builds_on_earlier_steps,
    counts_classes_as_drawn,
    keeps_provenance,
    names_the_parents_of_altered_images,
    keeps_labels_and_targets_valid,
    keeps_pixels_in_range,
    augments_each_row_alone,
    seeds_by_row_and_draw,
    mixes_no_image_without_its_target,
    predicts_each_row_alone,
    gives_one_finite_loss_per_row,
    declares_features_and_uses_them,
    returns_to_the_weights,
    sets_finite_gradients,
    passes_weights_on,
    copes_with_any_history,
    gives_networks_that_a_run_can_use,
    copes_with_classes_of_one_or_no_row,
    copes_with_images_of_any_content,
    accepts_any_number_of_classes_and_size,
    hard_codes_no_number_of_classes,
    can_be_written_to_a_recipe,
    declares_the_files_that_it_reads,
    emits_no_warnings,
)
"""The specification of a strategy, in the order in which it is checked."""

CHECKS_OF_REPEATED_RUNS: frozenset[Check] = frozenset(
    {
        same_seed_gives_the_same_bytes,
        declares_whether_it_is_random,
        declares_what_it_changes,
        keeps_no_state_between_runs,
        caches_under_honest_keys,
        ignores_the_number_of_cores,
        gives_the_same_result_at_every_call,
        gives_the_same_result_in_any_process,
        augments_each_row_alone,
        seeds_by_row_and_draw,
        mixes_no_image_without_its_target,
        predicts_each_row_alone,
        gives_one_finite_loss_per_row,
        hard_codes_no_number_of_classes,
    }
)
"""These compare runs, and can only be run if `leaves_global_random_numbers_alone` passes."""

FIRST_MODEL_CHECKS: tuple[Check, ...] = (is_declared_as_a_model, builds_for_images)
"""The other checks of a network can only be run if these pass."""

MODEL_CHECKS: tuple[Check, ...] = (
    returns_logits,
    gives_gradients_to_every_parameter,
    consists_of_features_and_a_head,
    same_seed_gives_the_same_weights,
    predicts_images_alone,
    loads_its_weights_back,
    model_can_be_written_to_a_recipe,
    model_emits_no_warnings,
)
"""The specification of a network, in the order in which it is checked."""


FIRST_LOSS_CHECKS: tuple[Check, ...] = (is_declared_as_a_loss, accepts_logits_and_targets)
"""The other checks of a loss can only be run if these pass."""

LOSS_CHECKS: tuple[Check, ...] = (
    gives_one_loss_per_row,
    is_finite_with_its_gradient,
    is_lower_for_the_right_class,
    depends_on_soft_targets,
    gives_each_row_its_own_loss,
    uses_the_softmax_if_declared,
    leaves_batch_and_generators_alone,
    loss_emits_no_warnings,
)
"""The specification of a loss, in the order in which it is checked."""

FIRST_READER_CHECKS: tuple[Check, ...] = (is_declared_as_a_reader, recognizes_and_reads_its_example)
"""The other checks of a reader can only be run if these pass."""

READER_CHECKS: tuple[Check, ...] = (
    recognizes_nothing_else,
    reads_the_same_data_twice,
    gives_two_classes_and_names_its_source,
    gives_images_of_any_size,
    reports_its_progress,
    leaves_the_source_alone,
    refuses_damaged_data,
    reader_emits_no_warnings,
)
"""The specification of a reader, in the order in which it is checked."""

FIRST_TRACKER_CHECKS: tuple[Check, ...] = (is_declared_as_a_tracker, makes_an_observer_with_hooks)
"""The other checks of a tracker can only be run if these pass."""

TRACKER_CHECKS: tuple[Check, ...] = (
    writes_nothing_before_the_first_event,
    receives_the_events_of_a_comparison,
    receives_the_events_of_a_single_run,
    receives_a_comparison_again,
    receives_a_comparison_without_a_result,
    leaves_records_alone,
)
"""The specification of a tracker, in the order in which it is checked."""

AnySubject: TypeAlias = Subject | ModelSubject | LossSubject | ReaderSubject | TrackerSubject
"""A plugin under test."""

CHECKS_OF_KIND: Mapping[str, tuple[tuple[Check, ...], tuple[Check, ...]]] = {
    "strategy": (FIRST_CHECKS, CHECKS),
    "model": (FIRST_MODEL_CHECKS, MODEL_CHECKS),
    "loss": (FIRST_LOSS_CHECKS, LOSS_CHECKS),
    "dataset reader": (FIRST_READER_CHECKS, READER_CHECKS),
    "tracker": (FIRST_TRACKER_CHECKS, TRACKER_CHECKS),
}
"""For each kind of plugin the checks that come first, and the others."""

_KIND_OF: Mapping[type[AnySubject], str] = {
    Subject: "strategy",
    ModelSubject: "model",
    LossSubject: "loss",
    ReaderSubject: "dataset reader",
    TrackerSubject: "tracker",
}


def checks_of(subject: AnySubject) -> tuple[tuple[Check, ...], tuple[Check, ...]]:
    """Return the checks that come first, and the others."""
    return CHECKS_OF_KIND[_KIND_OF[type(subject)]]


def waiting_for(failed: Check, subject: AnySubject) -> Collection[Check]:
    """Return the checks that cannot be run as long as one of them fails."""
    first, others = checks_of(subject)
    if failed in first:
        return [*first[first.index(failed) + 1 :], *others]
    return CHECKS_OF_REPEATED_RUNS if failed is leaves_global_random_numbers_alone else ()


def run_check(check: Check, subject: AnySubject) -> tuple[list[str], BaseException | None]:
    """Run one check, with warnings ignored.

    Returns:
        What is wrong, each fault once, empty if the check passes; and the exception if the plugin raised one, which
        is then the last fault, or a `NotChecked`, which is no fault.
    """
    faults: dict[str, None] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for fault in check(subject):
                faults[fault] = None
        except NotChecked as reason:
            return list(faults), reason
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a plugin may raise anything; only this check fails
            return [*faults, f"{type(error).__name__}: {error}"], error
    return list(faults), None
