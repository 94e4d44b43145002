"""Blocks of a report: headings, paragraphs, tables and figures, as Markdown and as HTML."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the title."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; backquotes mark code."""

    text: str


@dataclass(frozen=True)
class TableBlock:
    """A table of text."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class FigureBlock:
    """A figure by its file name, relative to the report."""

    name: str
    caption: str


Block = Heading | Paragraph | TableBlock | FigureBlock


def save_figure(figure: Figure, folder: Path, name: str, caption: str) -> FigureBlock:
    """Writes a figure as PNG; the same figure gives the same bytes."""
    from PIL import Image  # with which matplotlib writes PNG

    whole = io.BytesIO()
    figure.savefig(whole, dpi=110, metadata={"Software": None})  # the same trials give the same bytes
    # A palette makes half the size, so that reports can be kept under version control.
    Image.open(whole).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(folder / name, optimize=True)
    return FigureBlock(name, caption)


def markdown(block: Block) -> str:
    """One block as Markdown."""
    if isinstance(block, Heading):
        return f"{'#' * block.level} {block.text}"
    if isinstance(block, TableBlock):
        lines = [block.columns, tuple("---" for _ in block.columns), *block.rows]
        return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
    if isinstance(block, FigureBlock):
        return f"![{block.caption}]({block.name})"
    return block.text


def page(title: str, blocks: Sequence[Block]) -> str:
    """All blocks as one HTML page."""
    style = (
        "body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}"
        "table{border-collapse:collapse;margin:1rem 0;display:block;overflow-x:auto}"
        "td,th{border:1px solid #ccc;padding:.2rem .6rem;text-align:left}img{max-width:100%}"
        "figcaption{color:#555}"
    )
    body = "\n".join(_html(block) for block in blocks)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{style}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _html(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h{block.level}>{html.escape(block.text)}</h{block.level}>"
    if isinstance(block, TableBlock):
        head = "".join(f"<th>{html.escape(c)}</th>" for c in block.columns)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in block.rows)
        return f"<table><tr>{head}</tr>{body}</table>"
    if isinstance(block, FigureBlock):
        caption = html.escape(block.caption)
        return f'<figure><img src="{block.name}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
    marked = re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(block.text))
    return f"<p>{marked}</p>"
