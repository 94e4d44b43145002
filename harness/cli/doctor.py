"""`harness doctor`: checks the installation."""

from __future__ import annotations

import argparse

from harness.cli.printing import print_json


def doctor(a: argparse.Namespace) -> int:
    """Prints every check of the installation."""
    from harness.doctor import checks

    found = checks()
    if a.json:
        print_json([{"name": c.name, "ok": c.ok, "detail": c.detail, "remedy": c.remedy} for c in found])
    else:
        for c in found:
            print(f"{'ok  ' if c.ok else 'FAIL'}  {c.name}: {c.detail}" + ("" if c.ok else f"\n      {c.remedy}"))
    return 0 if all(c.ok for c in found) else 1
