"""Every command of the README and of docs/ is one that the command line has, with the options that it has."""

import pkgutil
import re
import shlex
from pathlib import Path

import pytest

from harness.cli import commands
from harness.cli.main import main

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "examples/plugin/README.md",
    *(ROOT / "docs").rglob("*.md"),
]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")

#: A line of a code block, which is a whole command.
LINE = re.compile(r"^(?: {4,}|)(?:\$ |\w+=\S+ )*(?:\.venv/bin/)?harness (.+)$", re.M)
#: A command in running text, which may leave out what the text does not talk about.
INLINE = re.compile(r"`(?:\w+=\S+ )*(?:\.venv/bin/)?harness ([^`]+)`")


def texts():
    for page in PAGES:
        text = page.read_text("utf-8").replace("\\\n", " ")
        yield page.relative_to(ROOT).as_posix(), text


def split(command):
    """The words of each command of a line, without comments and pipes."""
    found: list[list[str]] = [[]]
    for word in shlex.split(command, comments=True):
        if word in (";", "|", ">", "&&"):
            found.append([])
        elif word.endswith(";"):
            found[-1].append(word[:-1])
            found.append([])
        else:
            found[-1].append(word)
    return [found[0], *(f[1:] for f in found[1:] if f and f[0].endswith("harness"))]


def whole_commands():
    return sorted({(page, m[1]) for page, text in texts() for m in LINE.finditer(text)})


def inline_commands():
    return sorted({(page, re.sub(r"\s+", " ", m[1])) for page, text in texts() for m in INLINE.finditer(text)})


@pytest.fixture
def parsed(monkeypatch, capsys):
    """Parses words as the command line does, runs nothing, and gives what it had to say against them."""
    monkeypatch.setattr(commands.Command, "invoke", lambda self, ctx: 0)

    def parse(words):
        main(words)
        return capsys.readouterr().err

    return parse


@pytest.mark.parametrize(("page", "command"), whole_commands())
def test_commands_parse(parsed, page, command):
    for words in split(command):
        assert parsed(words) == ""


@pytest.mark.parametrize(("page", "command"), inline_commands())
def test_commands_in_running_text_parse_as_far_as_they_go(parsed, page, command):
    for words in split(command):
        error = parsed([word for word in words if word not in ("…", "[…]")])
        assert error == "" or re.search(r"Missing|requires an argument|^Usage", error), error


@pytest.mark.parametrize(
    ("page", "target"),
    sorted({(page, m[1]) for page, text in texts() for m in re.finditer(r"(?:^ {4}|`)make ([a-z-]+)", text, re.M)}),
)
def test_make_has_every_target_that_is_named(page, target):
    assert re.search(rf"^{target}:", MAKEFILE, re.M) or (ROOT / "models" / f"{target}.yaml").exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_to_files(page):
    """The site's own check sees docs/ alone."""
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    absent = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert absent == []


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) < 150


def code_spans():
    """What stands between backticks, by page; not the log, which is history."""
    for page, text in texts():
        if not page.endswith("log.md"):
            yield from ((page, span) for span in re.findall(r"`([^`\n]+)`", text))


FILE = re.compile(r"(harness|tasks|models|sweeps|tests|benchmarks)/[\w/.-]+\w/?")


@pytest.mark.parametrize(("page", "path"), sorted({span for span in code_spans() if FILE.fullmatch(span[1])}))
def test_files_that_are_named_exist(page, path):
    assert (ROOT / path).exists() or (ROOT / page).parent.joinpath(path).exists()


@pytest.mark.parametrize(
    ("page", "name"), sorted({s for s in code_spans() if re.fullmatch(r"harness(\.\w+)+", s[1]) and ".py" not in s[1]})
)
def test_python_names_that_are_named_exist(page, name):
    pkgutil.resolve_name(name)


@pytest.mark.slow
def test_the_python_of_the_readme_runs(harness_home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    scope: dict = {}
    exec(compile(code, "README.md", "exec"), scope)
    frame = scope["result"].to_frame()
    assert "cra.u2t.pmi.r_at_1" in set(frame.index)
    assert frame["value"].notna().all()
