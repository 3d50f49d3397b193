"""Significance tests for the difference between two arms, over new trainings *and* new images.

`endpoint_differences` is for several seeds on a fixed test split, `fold_differences` for repeated cross-validation.
`calibration_error_interval` is for a single arm.
"""

from fer_augment.significance.bootstrap import shares_above
from fer_augment.significance.calibration_error import calibration_error_interval
from fer_augment.significance.cross_validation import fold_differences
from fer_augment.significance.differences import (
    LEVEL,
    POWER,
    Difference,
    Summary,
    Verdict,
    holm,
    mean_interval,
    verdict,
)
from fer_augment.significance.endpoints import accuracy_weights, balanced_accuracy_weights, recall_weights
from fer_augment.significance.fixed_split import (
    ArmStatistics,
    arm_statistics,
    endpoint_difference,
    endpoint_differences,
    pair_differences,
)
from fer_augment.significance.planning import runs_for_half_width

__all__ = [
    "LEVEL",
    "POWER",
    "ArmStatistics",
    "Difference",
    "Summary",
    "Verdict",
    "accuracy_weights",
    "arm_statistics",
    "balanced_accuracy_weights",
    "calibration_error_interval",
    "endpoint_difference",
    "endpoint_differences",
    "fold_differences",
    "holm",
    "mean_interval",
    "pair_differences",
    "recall_weights",
    "runs_for_half_width",
    "shares_above",
    "verdict",
]
