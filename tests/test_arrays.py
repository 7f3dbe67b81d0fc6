"""The border between Python's arrays and the kernels: every layout is right or refused, none is copied."""

from __future__ import annotations

import array
import ctypes
import gc
import os
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

import unitrow as ur
from array_kinds import Exporter, Interface, numbers, views
from unitrow.errors import ArrayError, ArrayTypeError, UnitrowError


def test_fortran_order_is_not_read_as_c_order():
    # rust-numpy's as_slice() accepts Fortran order, and a naive binding then measures the wrong rows.
    a = numbers(5, 7)
    assert np.array_equal(ur.row_norms(a.T), ur.row_norms(a.T.copy()))
    assert np.array_equal(ur.row_norms(np.asfortranarray(a)), ur.row_norms(a))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("shape", [(6, 5), (3,), (2, 3, 4), (1, 1), (2, 1, 3, 4), (0, 4), (4, 0), (2, 0, 3)])
def test_agrees_with_numpy_on_every_axis(shape, dtype):
    a = numbers(*shape, dtype=dtype)
    for axis in range(-len(shape), len(shape)):
        found = ur.row_norms(a, axis=axis)
        expected = np.linalg.norm(a.astype(np.float64), axis=axis)
        assert found.dtype == np.float64
        assert found.shape == np.shape(expected)
        np.testing.assert_allclose(found, expected, rtol=1e-15)


@settings(max_examples=400, deadline=None)
@given(views(), st.data())
def test_views_of_any_rank_and_stride(view, data):
    axis = data.draw(st.integers(-view.ndim, view.ndim - 1))
    dense = np.ascontiguousarray(view)
    expected = ur.row_norms(dense, axis=axis)
    if view.size and view.shape[axis] > 1 and view.strides[axis] < 0:
        with pytest.raises(ArrayError, match="backwards"):
            ur.row_norms(view, axis=axis)
    else:
        assert np.array_equal(ur.row_norms(view, axis=axis), expected)


def test_axis_out_of_range_and_rank_0():
    for axis in (2, -3, 10**6):
        with pytest.raises(ArrayError, match=f"has 2 dimensions, and axis {axis} is not among them"):
            ur.row_norms(numbers(2, 3), axis=axis)
    with pytest.raises(ArrayError, match="0-dimensional"):
        ur.row_norms(np.array(1.0))


def test_errors_are_both_ours_and_builtin():
    with pytest.raises(ValueError, match="axis") as caught:
        ur.row_norms(numbers(2, 3), axis=5)
    assert isinstance(caught.value, UnitrowError)
    with pytest.raises(TypeError, match="list is no array") as caught:
        ur.row_norms([[1.0, 2.0]])
    assert isinstance(caught.value, UnitrowError)


@pytest.mark.parametrize("thing", [None, 1.0, "abc", [[1.0]], {"a": 1}, object(), np.float64(3)])
def test_what_is_no_array(thing):
    with pytest.raises((ArrayTypeError, ArrayError)):
        ur.row_norms(thing)


@pytest.mark.parametrize("dtype", ["i4", "u1", "?", "c8", "O", "U3", "M8[s]", "V4", "longdouble", "f4,i4"])
def test_dtypes_without_norms(dtype):
    with pytest.raises(ArrayTypeError, match="of dtype"):
        ur.row_norms(np.zeros((2, 3), dtype=dtype))


def test_swapped_bytes():
    with pytest.raises(ArrayError, match="bytes are swapped"):
        ur.row_norms(numbers(2, 3).astype(">f4"))


def test_masked_array():
    with pytest.raises(ArrayError, match="masked"):
        ur.row_norms(np.ma.masked_array(numbers(2, 3), mask=False))


def test_field_of_a_record():
    records = np.zeros(4, dtype=[("w", "f4", (3,)), ("tag", "u1")])
    with pytest.raises(ArrayError, match="parts of an element"):
        ur.row_norms(records["w"])
    aligned = np.zeros(4, dtype=np.dtype([("w", "f4", (3,)), ("n", "i4")]))
    aligned["w"] = numbers(4, 3)
    assert np.array_equal(ur.row_norms(aligned["w"]), ur.row_norms(aligned["w"].copy()))


def test_unaligned_memory():
    raw = bytearray(1 + 4 * 6)
    a = np.frombuffer(raw, dtype=np.float32, offset=1).reshape(2, 3)
    a[...] = numbers(2, 3)
    assert not a.flags.aligned
    assert np.array_equal(ur.row_norms(a), ur.row_norms(a.copy()))


def test_read_only_and_broadcast_memory_can_be_read():
    a = numbers(2, 3)
    a.flags.writeable = False
    assert np.array_equal(ur.row_norms(a), ur.row_norms(a.copy()))
    wide = np.broadcast_to(a[:1], (4, 3))
    assert np.array_equal(ur.row_norms(wide), np.repeat(ur.row_norms(a[:1]), 4))
    assert np.array_equal(ur.row_norms(np.broadcast_to(np.float32(2), (3, 4))), [4.0, 4.0, 4.0])


def test_overlapping_windows_can_be_read():
    windows = as_strided(numbers(10), shape=(6, 5), strides=(4, 4))
    assert np.array_equal(ur.row_norms(windows), ur.row_norms(windows.copy()))


def test_subclasses_of_ndarray():
    class Tagged(np.ndarray):
        pass

    a = numbers(2, 3)
    assert np.array_equal(ur.row_norms(a.view(Tagged)), ur.row_norms(a))


def test_ml_dtypes():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"):
        a = numbers(3, 9).astype(getattr(ml_dtypes, name))
        assert np.array_equal(ur.row_norms(a), ur.row_norms(a.astype(np.float64))), name
    with pytest.raises(ArrayTypeError, match="float8_e8m0fnu"):
        ur.row_norms(np.ones((2, 2)).astype(ml_dtypes.float8_e8m0fnu))


# The buffer protocol


def test_buffers():
    flat = numbers(6)
    for view in (memoryview(flat), array.array("f", flat), (ctypes.c_float * 6)(*flat)):
        assert np.array_equal(ur.row_norms(view), ur.row_norms(flat))
    table = memoryview(array.array("d", range(6))).cast("B").cast("d", (2, 3))
    assert np.array_equal(ur.row_norms(table), ur.row_norms(np.arange(6.0).reshape(2, 3)))
    assert np.array_equal(ur.row_norms(memoryview(numbers(4, 6))[::2]).shape, (2,))
    with pytest.raises(ArrayTypeError, match="dtype 'B'"):
        ur.row_norms(b"1234")
    with pytest.raises(ArrayTypeError, match="dtype '>f'"):
        ur.row_norms(memoryview(flat.astype(">f4")))


def test_a_buffer_is_released():
    numbers_ = array.array("f", [3.0, 4.0])
    assert ur.row_norms(numbers_) == 5.0
    numbers_.append(0.0)  # BufferError while a buffer is held


# DLPack


@pytest.mark.parametrize("versioned", [True, False])
def test_dlpack_capsules(versioned):
    for a in (numbers(3, 4), numbers(3, 4).T, numbers(6, 4)[::2, 1:], numbers(0, 3), numbers(4)[::-1, None]):
        exporter = Exporter(a, versioned=versioned)
        assert np.array_equal(ur.row_norms(exporter), ur.row_norms(a))
        assert exporter.asked == ({"max_version": (1, 0)} if versioned else {})


def test_dlpack_carries_read_only_arrays():
    a = numbers(3, 4)
    a.flags.writeable = False
    assert np.array_equal(ur.row_norms(Exporter(a)), ur.row_norms(a))


@pytest.mark.parametrize("versioned", [True, False])
def test_dlpack_memory_is_handed_back(versioned):
    class Owner(np.ndarray):
        pass

    owner = numbers(3, 4).view(Owner)
    gone = weakref.ref(owner)
    ur.row_norms(Exporter(owner, versioned=versioned))
    with pytest.raises(ArrayError):
        ur.row_norms(Exporter(owner, versioned=versioned), axis=7)
    before = sys.getrefcount(owner)
    ur.row_norms(Exporter(owner, versioned=versioned))
    assert sys.getrefcount(owner) == before
    del owner
    gc.collect()
    assert gone() is None


def test_dlpack_capsule_is_taken_once():
    capsule = numbers(3, 4).__dlpack__(max_version=(1, 0))

    class Again:
        def __dlpack__(self, **_):
            return capsule

    assert ur.row_norms(Again()).shape == (3,)
    with pytest.raises(ArrayTypeError, match="no fresh DLPack capsule"):
        ur.row_norms(Again())


def test_dlpack_refusals():
    class Elsewhere:
        def __dlpack__(self, **_):
            raise AssertionError

        def __dlpack_device__(self):
            return (2, 0)

    class Odd(Elsewhere):
        def __dlpack__(self, **_):
            return 7

        def __dlpack_device__(self):
            return (1, 0)

    class Broken(Odd):
        def __dlpack__(self, **_):
            msg = "not today"
            raise BufferError(msg)

    with pytest.raises(ArrayTypeError, match="not in CPU memory"):
        ur.row_norms(Elsewhere())
    with pytest.raises(ArrayTypeError, match="no fresh DLPack capsule"):
        ur.row_norms(Odd())
    with pytest.raises(ArrayTypeError, match="not today") as caught:
        ur.row_norms(Broken())
    assert isinstance(caught.value.__cause__, BufferError)
    with pytest.raises(ArrayTypeError, match="dtype int32"):
        ur.row_norms(Exporter(np.zeros((2, 2), np.int32)))


# __array_interface__


def test_array_interface():
    narrow = numbers(4, dtype=np.float16)
    for a in (numbers(3, 4), numbers(3, 4).T, numbers(6, 4)[::2, 1:], numbers(0, 3), narrow):
        assert np.array_equal(ur.row_norms(Interface(a)), ur.row_norms(a))


def test_array_interface_refusals():
    a = numbers(2, 3)
    for changes, error, words in [
        ({"typestr": ">f4"}, ArrayTypeError, "'>f4'"),
        ({"typestr": "<i4"}, ArrayTypeError, "'<i4'"),
        ({"data": None}, ArrayTypeError, "no usable 'data'"),
        ({"mask": a}, ArrayError, "masked"),
        ({"strides": (4,)}, ArrayError, "another rank"),
        ({"strides": (6, 2)}, ArrayError, "parts of an element"),
        ({"shape": (2**62, 2**62)}, ArrayError, "address space"),
    ]:
        with pytest.raises(error, match=words):
            ur.row_norms(Interface(a, **changes))


def test_null_memory():
    class Nowhere:
        __array_interface__ = {"version": 3, "typestr": "<f4", "shape": (2, 3), "data": (0, False)}  # noqa: RUF012

    with pytest.raises(ArrayTypeError, match="no memory"):
        ur.row_norms(Nowhere())


# Threads and start-up


def test_the_interpreter_runs_on_during_a_kernel():
    a = np.ones((4096, 4096), dtype=np.float32)
    ticks, done = [0], threading.Event()

    def tick():
        while not done.is_set():
            ticks[0] += 1

    thread = threading.Thread(target=tick)
    thread.start()
    during = []
    for _ in range(5):
        before = ticks[0]
        ur.row_norms(a)
        during.append(ticks[0] - before)
    done.set()
    thread.join()
    # A kernel that held the interpreter would let a handful through, on entry and on return.
    assert max(during) > 100


def test_many_threads_share_one_array():
    a = numbers(64, 512)
    expected = ur.row_norms(a)
    found = []
    threads = [threading.Thread(target=lambda: found.append(ur.row_norms(a))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(np.array_equal(one, expected) for one in found)


def test_more_rows_than_memory_holds():
    # An array without memory of its own can have more rows than there is room for norms.
    rows = np.broadcast_to(np.ones(1, np.float32), (2**58, 3))
    with pytest.raises(MemoryError):
        ur.row_norms(rows)
    for axis, shape in ((-1, (2**58, 0)), (0, (0, 2**58))):
        with pytest.raises(MemoryError):
            ur.normalize_rows_(np.zeros(shape, np.float32), axis, on_degenerate="raise")


@pytest.mark.parametrize("text", ["two", "0", "-1", "1.5", "", "99999999"])
def test_a_thread_count_that_is_none_is_ignored_aloud(text):
    code = "import unitrow._native as native; assert native.available_threads() > 0"
    environment = {**os.environ, "UNITROW_NUM_THREADS": text}
    run = subprocess.run(
        [sys.executable, "-c", code], check=True, env=environment, capture_output=True, text=True, timeout=60
    )
    assert f'UNITROW_NUM_THREADS is no number from 1 to 1024 and is ignored: "{text}"' in run.stderr


def test_import_needs_no_numpy():
    code = "import sys, unitrow.arrays; assert not {'numpy', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_forked_child_has_threads_of_its_own():
    # Threads do not survive a fork: a child that took over its parent's pool would wait for them for ever.
    code = """if True:
        import os, signal
        import numpy as np
        import unitrow as ur
        a = np.ones((2048, 4096), np.float32)
        assert (ur.row_norms(a) == 64).all()
        child = os.fork()
        if child == 0:
            signal.alarm(120)
            os._exit(0 if (ur.row_norms(a) == 64).all() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert (ur.row_norms(a) == 64).all()
    """
    environment = {**os.environ, "UNITROW_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, env=environment, timeout=300)
