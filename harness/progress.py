"""How long-running work reports where it stands."""

from __future__ import annotations

from collections.abc import Callable

#: Called with what is being done, how much of it is done, and how much there is in all.
ProgressCallback = Callable[[str, int, int], None]
