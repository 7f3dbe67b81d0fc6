"""Every way in which a file is known to be broken gets its verdict and its code from the public audit."""

import os

import archive_cases
import file_cases
import index_cases
import pytest
import safetensors_cases
import value_cases

import unitrow as ur
from unitrow import _native, explain, findings

MODULES = (safetensors_cases, value_cases, archive_cases, file_cases, index_cases)
CASES = {name: case for module in MODULES for name, case in module.CASES.items()}

ELSEWHERE = {
    "FS_CHANGED": "tests/test_audit.py changes files between header and scan",
    "FS_IO": "crates/audit/src/header.rs reads a file that is gone",
}
"""Codes that no file at rest can raise in an audit, and who raises them."""


@pytest.fixture(params=CASES.items(), ids=CASES.keys())
def one(request):
    return request.param


def test_case(one, tmp_path):
    name, case = one
    if "FS_PERMISSION" in case.codes and os.geteuid() == 0:
        pytest.skip("root may read everything")
    target = case.build(tmp_path) or tmp_path
    report = ur.audit(target, expect="any", hash=case.digest)
    found = [finding for checkpoint in report.checkpoints for finding in checkpoint["findings"]]
    worst = findings.worst(one["integrity"] for one in report.checkpoints if one["integrity"] != "pass")
    said = [(one["code"], one["severity"], one["message"]) for one in found]
    assert case.codes <= {one["code"] for one in found}, (name, said)
    assert worst == case.verdict, (name, said)
    assert report.exit_code == {"fail": 1, "unreadable": 3}.get(case.verdict, report.exit_code), said


def test_no_case_hides_another_of_its_name():
    assert len(CASES) == sum(len(module.CASES) for module in MODULES)


def test_every_code_has_a_case():
    """A code that nothing can raise is a promise that nobody keeps."""
    families = tuple(f"{family}_" for family in findings.LAYERS if family not in "PHLNRF")
    known = {code for code in explain.codes() if code.startswith(families)}
    covered = {code for case in CASES.values() for code in case.codes}
    pickles = {code for code in known if code.startswith("PT_")}
    assert known - covered - pickles - set(ELSEWHERE) == set()
    assert {code for code, _ in _native.codes()} <= set(explain.codes())
