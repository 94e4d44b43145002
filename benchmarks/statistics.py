"""How often intervals hold the truth and tests err: the procedures of harness.stats, simulated.

`.venv/bin/python benchmarks/statistics.py` draws 1,500 worlds for each row, with `--quick` 150.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    from simulations import main

    main()
else:
    # Scripts of this folder find this file where they ask for the standard library's module of the same name.
    found, here = sys.path[:], Path(__file__).resolve().parent
    sys.modules.pop(__name__)
    sys.path[:] = [folder for folder in found if Path(folder).resolve() != here]
    import statistics  # noqa: F401  # takes this module's place

    sys.path[:] = found
