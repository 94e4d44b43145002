"""`harness doctor`: checks the installation."""

from __future__ import annotations

from harness.cli.arguments import Json, Quiet
from harness.cli.printing import print_json


def doctor(*, json: Json = False, quiet: Quiet = False) -> int:
    """Check this installation.

    Example:
        harness doctor
    """
    from harness.doctor import checks

    found = checks()
    if json:
        print_json([{"name": c.name, "ok": c.ok, "detail": c.detail, "remedy": c.remedy} for c in found])
    else:
        for c in found:
            print(f"{'ok  ' if c.ok else 'FAIL'}  {c.name}: {c.detail}" + ("" if c.ok else f"\n      {c.remedy}"))
    return 0 if all(c.ok for c in found) else 1
