"""How sure a number is: clustered intervals, seeds as a factor, paired tests, power, correction for several tests."""

from harness.stats.binomial import clopper_pearson_ci
from harness.stats.bootstrap import bootstrap_ci, bootstrap_cis, bootstrap_sums_ci
from harness.stats.correction import holm
from harness.stats.intervals import Interval
from harness.stats.paired import PairedDifference, join_items, paired_difference, paired_differences
from harness.stats.power import clustered_se, minimum_detectable_effect
from harness.stats.seeds import Arm, pseudo_values, seeded_ci, seeded_difference

__all__ = [
    "Arm",
    "Interval",
    "PairedDifference",
    "bootstrap_ci",
    "bootstrap_cis",
    "bootstrap_sums_ci",
    "clopper_pearson_ci",
    "clustered_se",
    "holm",
    "join_items",
    "minimum_detectable_effect",
    "paired_difference",
    "paired_differences",
    "pseudo_values",
    "seeded_ci",
    "seeded_difference",
]
