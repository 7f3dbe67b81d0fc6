"""Arrays of every kind and memory order, for the tests of the border."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

RNG = np.random.default_rng(20)


def numbers(*shape, dtype=np.float32):
    return RNG.standard_normal(shape).astype(dtype)


@st.composite
def views(draw):
    """A dense array and a view of it by slicing and transposing; no dimension runs backwards along rows."""
    rank = draw(st.integers(1, 5))
    shape = [draw(st.integers(0, 5)) for _ in range(rank)]
    base = np.arange(1, 1 + int(np.prod(shape)), dtype=np.float32).reshape(shape)
    slices = tuple(
        slice(draw(st.integers(0, 2)), None, draw(st.sampled_from([1, 1, 2, 3, -1, -2]))) for _ in range(rank)
    )
    view = base[slices].transpose(draw(st.permutations(range(rank))))
    if draw(st.booleans()):
        view = np.broadcast_to(view, (draw(st.integers(0, 3)), *view.shape))
    return view


def writable_views(a, axis):
    """Views of fresh copies of `a` that reach the same elements in other orders of memory."""
    yield a.copy()
    yield np.asfortranarray(a)
    wide = np.zeros((a.shape[0] * 2, a.shape[1] * 3), a.dtype)
    wide[::2, ::3] = a
    yield wide[::2, ::3]
    yield np.flip(np.flip(a, 1 + axis).copy(), 1 + axis)


def read_only(a):
    a.flags.writeable = False
    return a


class Exporter:
    """An array known by DLPack alone."""

    def __init__(self, inner, *, versioned=True):
        self.inner = inner
        self.versioned = versioned

    def __dlpack__(self, **kwargs):
        if not self.versioned and kwargs:
            msg = "unexpected keyword"
            raise TypeError(msg)
        self.asked = kwargs
        return self.inner.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self.inner.__dlpack_device__()


class Interface:
    def __init__(self, inner, **changes):
        self.inner = inner
        self.__array_interface__ = {**inner.__array_interface__, **changes}
