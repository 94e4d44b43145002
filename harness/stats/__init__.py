"""How sure a number is: clustered bootstrap intervals, paired tests, power, correction for several tests."""

from harness.stats.bootstrap import bootstrap_ci, bootstrap_cis, bootstrap_sums_ci
from harness.stats.correction import holm
from harness.stats.intervals import Interval, wilson_ci
from harness.stats.paired import PairedDifference, join_items, paired_difference, paired_differences
from harness.stats.power import clustered_se, minimum_detectable_effect

__all__ = [
    "Interval",
    "PairedDifference",
    "bootstrap_ci",
    "bootstrap_cis",
    "bootstrap_sums_ci",
    "clustered_se",
    "holm",
    "join_items",
    "minimum_detectable_effect",
    "paired_difference",
    "paired_differences",
    "wilson_ci",
]
