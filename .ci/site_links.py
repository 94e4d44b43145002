"""Links of docs/ that leave docs/: right in the repository, and plain text on the site, which holds docs/ alone."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

#: `[text](../path)`: the path is beside docs/.
_OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+([^)#]+)(?:#[^)]*)?\)")
_LOG = logging.getLogger("mkdocs.plugins.site_links")


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """The page with such links as text; one whose target is absent is a warning, which ends a strict build."""
    folder = Path(page.file.abs_src_path).parent
    root = Path(config.config_file_path).parent

    def plain(match: re.Match[str]) -> str:
        target = match[0].rpartition("(")[2].rstrip(")").partition("#")[0]
        path = (folder / target).resolve()
        if path.is_relative_to(config.docs_dir):
            return match[0]
        if not path.exists():
            _LOG.warning("%s links to %s, which is absent", page.file.src_uri, target)
        return f"{match[1]} (`{path.relative_to(root)}` in the repository)"

    return _OUTSIDE.sub(plain, markdown)
