import pytest

from unitrow import findings
from unitrow.findings import Finding, exit_code, integrity, severity_of, wanted


def one(verdict="unit", *severities):
    return {
        "verdict": verdict,
        "integrity": "pass",
        "findings": [{"severity": severity} for severity in severities],
    }


@pytest.mark.parametrize(
    ("checkpoints", "fail_on", "expect", "code"),
    [
        ([one()], "fail", "auto", 0),
        ([one("unit", "warn", "note")], "fail", "auto", 0),
        ([one("unit", "warn")], "warn", "auto", 1),
        ([one("free", "fail")], "fail", "auto", 1),
        ([one("free", "fail")], "never", "auto", 0),
        ([one("undecided")], "fail", "auto", 3),
        ([one("undecided")], "fail", "any", 0),
        ([{**one("undecided", "fail"), "integrity": "fail"}], "never", "any", 3),
        ([{**one("free", "fail"), "integrity": "fail"}], "never", "any", 0),
        ([one("unit", "unreadable")], "never", "any", 3),
        ([one("undecided", "unreadable"), one("free", "fail")], "fail", "auto", 1),
        ([], "fail", "any", 3),
        ([one("none")], "fail", "auto", 3),
        ([one("none")], "fail", "any", 0),
        ([one("none"), one("unit")], "fail", "auto", 0),
    ],
)
def test_exit_code(checkpoints, fail_on, expect, code):
    assert exit_code(checkpoints, expect=expect, fail_on=fail_on) == code


@pytest.mark.parametrize(
    ("code", "unit", "auto_yes", "auto_unknown", "any_"),
    [
        ("N_NOT_UNIT", "fail", "fail", "note", "note"),
        ("N_UNIFORM_SCALE", "fail", "warn", "note", "note"),
        ("N_WRONG_AXIS", "fail", "fail", "fail", "warn"),
        ("N_DRIFTED", "warn", "warn", "warn", "note"),
        ("R_ZERO_ROW", "warn", "warn", "warn", "note"),
        ("L_UNKNOWN", "unreadable", "unreadable", "unreadable", "note"),
    ],
)
def test_severities_follow_the_policy(code, unit, auto_yes, auto_unknown, any_):
    assert severity_of(code, "unit", "unknown") == unit
    assert severity_of(code, "auto", "yes") == auto_yes
    assert severity_of(code, "auto", "unknown") == auto_unknown
    assert severity_of(code, "any", "yes") == any_


def test_drift_that_the_trainer_explains_is_a_note_unless_unit_rows_are_demanded():
    assert severity_of("N_DRIFTED", "auto", "yes", explained=True) == "note"
    assert severity_of("N_DRIFTED", "unit", "yes", explained=True) == "warn"


def test_layout_and_norm_findings_never_change_integrity():
    norm = Finding("N_NOT_UNIT", "fail", "x", "")
    assert integrity([norm]) == "pass"
    assert integrity([norm, Finding("ST_EMPTY_TENSOR", "note", "x", "")]) == "note"
    assert (
        integrity([Finding("V_NAN", "fail", "x", ""), Finding("FS_IO", "unreadable", "x", "")])
        == "unreadable"
    )


def test_select_and_ignore_take_prefixes():
    assert wanted("ST_HOLE", (), ())
    assert wanted("ST_HOLE", ("ST_",), ())
    assert not wanted("ST_HOLE", ("V_",), ())
    assert not wanted("ST_HOLE", ("ST_",), ("ST_HOLE",))


def test_every_policy_code_belongs_to_a_layer():
    for code in findings.policy_codes():
        assert Finding(code, "note", "x", "").layer in {"norms", "layout", "file"}
