"""Gold and predictions of the same items, joined by id."""

from __future__ import annotations

from collections.abc import Collection

from harness.errors import JoinError, SampleError


def same_ids(gold: Collection[str], predicted: Collection[str]) -> list[str]:
    """The ids of both, in gold's order.

    Raises:
        JoinError: if either has an id that the other lacks.
        SampleError: if both have none.
    """
    known = set(gold), set(predicted)
    absent, strange = sorted(known[0] - known[1]), sorted(known[1] - known[0])
    if absent or strange:
        differing = [
            f"{len(ids)} of {what} ({', '.join(ids[:3])}{', …' if len(ids) > 3 else ''})"
            for ids, what in ((absent, "gold have no prediction"), (strange, "the predictions are not in gold"))
            if ids
        ]
        raise JoinError(
            f"Gold and predictions must be of the same items, but {' and '.join(differing)}. "
            "An item without an answer needs an empty one."
        )
    if not gold:
        raise SampleError("There are no items to score.")
    return list(gold)
