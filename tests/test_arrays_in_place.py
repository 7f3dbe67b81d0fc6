"""Changing arrays in place: the right elements, all of them and no others, or a refusal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

import unitrow as ur
from array_kinds import Exporter, Interface, numbers, read_only, views, writable_views
from unitrow.errors import ArrayError


def test_normalize_rows():
    a = numbers(40, 30)
    for axis in (-1, 0):
        results = []
        for view in writable_views(a, axis):
            counts = ur.normalize_rows_(view, axis)
            assert counts == (view.shape[1 + axis], 0, 0, 0)
            assert counts.changed == counts[0]
            assert ur.normalize_rows_(view, axis) == (0, view.shape[1 + axis], 0, 0)
            results.append(view.copy())
        assert all(np.array_equal(one, results[0]) for one in results)
        np.testing.assert_allclose(ur.row_norms(results[0], axis), 1, rtol=1e-7)


def test_normalize_writes_only_its_elements():
    wide = numbers(6, 9)
    before = wide.copy()
    ur.normalize_rows_(wide[::2, ::3])
    touched = np.zeros(wide.shape, bool)
    touched[::2, ::3] = True
    assert np.array_equal(wide[~touched], before[~touched])
    assert not np.array_equal(wide[touched], before[touched])


def test_normalize_rows_without_direction():
    a = np.array([[3, 4], [0, 0], [np.nan, 1], [np.inf, 1]], np.float32)
    assert ur.normalize_rows_(a) == (1, 0, 1, 2)
    assert np.array_equal(a, np.float32([[0.6, 0.8], [0, 0], [np.nan, 1], [np.inf, 1]]), equal_nan=True)
    for view in (numbers(3, 4), numbers(2, 2, 6, 4)[:, :, ::2]):
        view[..., -1, :] = 0
        before = view.copy()
        with pytest.raises(ArrayError, match="zero rows and 0 rows with NaN"):
            ur.normalize_rows_(view, on_degenerate="raise")
        assert np.array_equal(view, before)
    assert ur.normalize_rows_(numbers(3, 4), on_degenerate="raise").changed == 3


def test_normalize_options():
    with pytest.raises(ArrayError, match="'keep' or 'raise', not 'drop'"):
        ur.normalize_rows_(numbers(2, 3), on_degenerate="drop")
    with pytest.raises(ArrayError, match="None or 'torch', not 'jax'"):
        ur.normalize_rows_(numbers(2, 3), compat="jax")


def test_in_place_of_buffers_and_exports():
    for wrap in (Exporter, Interface, memoryview):
        a = numbers(3, 4)
        ur.normalize_rows_(wrap(a))
        np.testing.assert_allclose(ur.row_norms(a), 1, rtol=1e-7)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: read_only(numbers(3, 4)), "read-only"),
        (lambda: memoryview(numbers(3, 4)).toreadonly(), "read-only"),
        (lambda: Exporter(read_only(numbers(3, 4))), "read-only"),
        # A legacy capsule cannot say that its memory may be written.
        (lambda: Exporter(numbers(3, 4), versioned=False), "cannot say"),
        (lambda: Interface(read_only(numbers(3, 4))), "read-only"),
        (lambda: np.broadcast_to(numbers(4), (3, 4)), "read-only"),
        (lambda: as_strided(numbers(4), (3, 4), (0, 4)), "share memory"),
        (lambda: as_strided(numbers(9), (5, 5), (4, 4)), "share memory"),
        (lambda: numbers(3, 4)[:, ::-1], "backwards"),
        (lambda: np.float32(3), "0-dimensional|read-only"),
    ],
)
def test_in_place_refusals(make, words):
    with pytest.raises(ArrayError, match=words):
        ur.normalize_rows_(make())
    if words != "backwards":
        with pytest.raises(ArrayError, match=words):
            ur.remove_parallel_(make(), numbers(3, 4))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_remove_parallel(dtype):
    grad, rows = numbers(20, 15, dtype=dtype), numbers(20, 15, dtype=dtype) * 3
    g, r = grad.astype(np.float64), rows.astype(np.float64)
    for axis in (-1, 0):
        share = np.expand_dims((g * r).sum(axis) / (r * r).sum(axis), axis)
        expected = g - share * r
        for rows_view in writable_views(rows, axis):
            for grad_view in writable_views(grad, axis):
                assert ur.remove_parallel_(grad_view, rows_view, axis) is None
                np.testing.assert_allclose(grad_view, expected, atol=4 * np.finfo(dtype).eps)
        assert np.array_equal(rows, r)


def test_remove_parallel_refusals():
    a = numbers(4, 4)
    with pytest.raises(ArrayError, match=r"has shape \[4, 4\], and another argument has \[4, 3\]"):
        ur.remove_parallel_(a, numbers(4, 3))
    for grad, rows in [(a, a), (a[:3], a[1:]), (a[:, :2], a[:, 2:])]:
        with pytest.raises(ArrayError, match="shares memory"):
            ur.remove_parallel_(grad, rows)
    ur.remove_parallel_(a[:2], a[2:])
    ur.remove_parallel_(numbers(0, 4), numbers(0, 4))


@settings(max_examples=200, deadline=None)
@given(views(), st.data())
def test_in_place_on_views_of_any_rank_and_stride(view, data):
    axis = data.draw(st.integers(-view.ndim, view.ndim - 1))
    whole = view.base if view.base is not None and view.base.flags.writeable else view
    is_backward = view.size and view.shape[axis] > 1 and view.strides[axis] < 0
    if not view.flags.writeable or is_backward:
        with pytest.raises(ArrayError):
            ur.normalize_rows_(view, axis)
        return
    expected = np.ascontiguousarray(view).copy()
    ur.normalize_rows_(expected, axis)
    total = whole.sum() - view.sum()
    ur.normalize_rows_(view, axis)
    assert np.array_equal(view, expected)
    assert whole.sum() - view.sum() == pytest.approx(total, rel=1e-5, abs=1e-3)


def test_dlpack_copies_are_not_written():
    class Copying(Exporter):
        def __dlpack__(self, **kwargs):
            return self.inner.__dlpack__(**kwargs, copy=True)

    a = numbers(3, 4)
    assert np.array_equal(ur.row_norms(Copying(a)), ur.row_norms(a))
    with pytest.raises(ArrayError, match="read-only"):
        ur.normalize_rows_(Copying(a))
