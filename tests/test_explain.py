"""The catalogue behind `unitrow explain`: complete, forgiving to ask, and in step with the code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import unitrow
from unitrow import explain, findings

ROOT = Path(__file__).parents[1]
RUST = tuple(ROOT / "crates" / crate / "src" for crate in ("tensors", "audit"))
PYTHON = ROOT / "python" / "unitrow"

FAMILIES = ("FS", "ST", "X", "Z", "NPY", "PT", "V", "H", "L", "N", "R", "F")
CODE = rf"(?:{'|'.join(FAMILIES)})_[A-Z][A-Z0-9_]*"
VERDICTS = {
    "unit",
    "unit-rounded",
    "unit-eps",
    "unit-drifted",
    "uniform",
    "wrong-axis",
    "bounded",
    "free",
    "undecided",
    "none",
}
ENTRIES = [explain.lookup(code) for code in explain.codes()]


def each_entry(function):
    return pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.code)(function)


@each_entry
def test_an_entry_is_complete(entry):
    assert re.fullmatch(CODE, entry.code) or entry.code in VERDICTS
    assert entry.severity in ({""} if entry.code in VERDICTS else set(findings.SEVERITIES))
    assert len(entry.meaning.split()) >= 10
    assert entry.action.endswith(".")
    assert all(reference.strip() == reference != "" for reference in entry.see)


@each_entry
def test_a_title_is_one_plain_line(entry):
    assert "\n" not in entry.title
    assert len(entry.title) <= 88
    assert not entry.title[0].isupper()
    assert not entry.title.endswith(".")


@each_entry
def test_text_is_clean_paragraphs(entry):
    for text in (entry.meaning, entry.action):
        for paragraph in text.split("\n\n"):
            assert paragraph == " ".join(paragraph.split()) != ""
            assert paragraph.endswith("."), paragraph
            assert paragraph.count("`") % 2 == 0, paragraph


@each_entry
def test_an_entry_names_only_codes_that_exist(entry):
    named = re.findall(rf"\b{CODE}\b", f"{entry.meaning} {entry.action}")
    assert set(named) <= set(explain.codes())


@each_entry
def test_an_entry_names_only_options_and_functions_that_exist(entry):
    # An option of another program stands behind that program's name, so not at the first backtick.
    text = f"{entry.meaning} {entry.action}"
    options = (PYTHON / "cli" / "audit.py").read_text(encoding="utf-8")
    assert all(f'"{option}"' in options for option in re.findall(r"`(--[a-z-]+)", text))
    assert set(re.findall(r"`unitrow\.(\w+)", text)) <= set(unitrow.__all__)


def test_codes_are_unique_sorted_and_hold_every_verdict():
    modules = [module.ENTRIES for module in explain._MODULES]
    assert sum(map(len, modules)) == len(explain.codes())
    assert list(explain.codes()) == sorted(set(explain.codes()))
    assert {code for code in explain.codes() if code == code.lower()} == VERDICTS
    titles = [entry.title for entry in ENTRIES if entry.severity]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ("N_NOT_UNIT", "N_NOT_UNIT"),
        ("n_not_unit", "N_NOT_UNIT"),
        ("n-not-unit", "N_NOT_UNIT"),
        (" St_Hole\n", "ST_HOLE"),
        ("unit-eps", "unit-eps"),
        ("UNIT_EPS", "unit-eps"),
        ("Unit Eps", "unit-eps"),
        ("none", "none"),
    ],
)
def test_lookup_forgives_spelling(asked, code):
    assert explain.lookup(asked).code == code


@pytest.mark.parametrize(
    ("asked", "close"),
    [
        ("ST_DUP", ["ST_DUP_KEY", "ST_DUP_NAME"]),
        ("N_NOTUNIT", ["N_NOT_UNIT"]),
        ("unit-drift", ["unit-drifted"]),
        ("qqqqqqqq", []),
        ("", []),
    ],
)
def test_lookup_names_what_comes_close(asked, close):
    with pytest.raises(KeyError) as caught:
        explain.lookup(asked)
    name, *suggested = caught.value.args
    assert name == asked
    assert suggested[: len(close)] == close
    assert bool(suggested) == bool(close)


@pytest.mark.parametrize("width", [40, 60, 88, 200])
@each_entry
def test_render_wraps_and_loses_nothing(entry, width):
    text = explain.render(entry, width=width)
    for line in text.split("\n"):
        assert line == line.rstrip()
        # What stands between backticks is never broken: it is there to be copied.
        assert len(line) <= width or re.fullmatch(r"\s*[^\s`]*(`[^`]*`)?[^\s`]*", line), line
    words = text.split()
    for part in (entry.code, entry.title, entry.meaning, entry.action, *entry.see):
        assert " ".join(part.split()) in " ".join(words)


def test_render_in_full():
    assert explain.render(explain.lookup("L_NO_DECODER"), width=72) == (
        "L_NO_DECODER (note)\n"
        "the file holds nothing that could be a decoder\n"
        "\n"
        "No tensor of the file has the shape of a decoder: optimiser state,\n"
        "statistics, or a model of another kind. The bytes were checked, norms do\n"
        "not apply, and the verdict is `none`.\n"
        "\n"
        "What to do\n"
        "  Nothing, if this is expected. A run in which every checkpoint is like\n"
        "  this ends with exit code 3, unless `--expect any` was given."
    )


def test_render_lists_references():
    text = explain.render(explain.lookup("unit-drifted"))
    assert text.startswith("unit-drifted (verdict)\n")
    assert text.endswith("\nSee also\n  dictionary_learning#36")


def rust_codes():
    """Name and severity of every code constant, whether written out or listed in the `codes!` macro."""
    found = []
    for source in (file.read_text(encoding="utf-8") for folder in RUST for file in folder.rglob("*.rs")):
        for name, value in re.findall(r"pub const ([A-Z][A-Z0-9_]*): Code\s*=\s*([^;]*);", source):
            assert f'"{name}"' in value, value
            found.append((name, re.search(r"Severity::(\w+)", value)[1].lower()))
        for body in re.findall(r"^codes! \{(.*?)^\}", source, flags=re.DOTALL | re.MULTILINE):
            lines = [line.strip() for line in body.splitlines()]
            for line in filter(None, (line for line in lines if not line.startswith("//"))):
                name, severity = re.fullmatch(r'([A-Z0-9_]+) (\w+) ".*";', line).groups()
                found.append((name, severity.lower()))
    return sorted(set(found))


def test_every_rust_code_is_explained_with_its_severity():
    codes = rust_codes()
    assert {"FS_EMPTY", "ST_DUP_NAME", "V_NAN"} <= {name for name, _ in codes}
    explained = {entry.code: entry.severity for entry in ENTRIES}
    assert {name: severity for name, severity in codes if explained.get(name) != severity} == {}


def test_every_code_in_python_is_explained():
    mentioned = {
        code
        for file in PYTHON.rglob("*.py")
        for code in re.findall(rf"""["']({CODE})["']""", file.read_text(encoding="utf-8"))
    }
    assert {"N_NOT_UNIT", "L_UNKNOWN", "FS_UNSUPPORTED"} <= mentioned
    assert mentioned <= set(explain.codes())


@pytest.mark.parametrize("code", findings.policy_codes())
def test_the_usual_severity_is_that_of_the_default_policy(code):
    assert explain.lookup(code).severity == findings.severity_of(code, "auto", "yes")


@pytest.mark.parametrize("code", findings.policy_codes())
def test_a_severity_that_depends_on_expect_is_said_in_words(code):
    by_expect = {findings.severity_of(code, expect, "yes") for expect in ("unit", "auto", "any")}
    meaning = explain.lookup(code).meaning
    if len(by_expect) > 1:
        assert "--expect any" in meaning
        assert all(severity in meaning for severity in by_expect - {explain.lookup(code).severity})


def test_the_page_of_checks_is_the_catalogue():
    page = (ROOT / "docs" / "checks.md").read_text(encoding="utf-8")
    assert page == explain.table_markdown(), (
        "docs/checks.md is out of date; write unitrow.explain.table_markdown() to it"
    )


def test_the_page_has_one_row_per_entry():
    page = explain.table_markdown()
    for entry in ENTRIES:
        cells = [entry.code, *filter(None, [entry.severity]), entry.title]
        assert f"| `{cells[0]}` | {' | '.join(cells[1:])} |\n" in page
        assert "|" not in entry.title


def test_explaining_loads_nothing_heavy():
    script = (
        "import sys; from unitrow import explain; explain.render(explain.lookup('unit'));"
        "print(sorted({'numpy', 'torch', 'rich', 'jinja2', 'yaml', 'difflib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
