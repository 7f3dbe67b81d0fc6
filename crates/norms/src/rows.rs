//! Views of rows in bytes: what a "row" is, and the one place where its bounds are checked.

use crate::{Dtype, Error};

/// Shape and strides of `[outer, len, inner]`, checked against a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) dtype: Dtype,
    pub(crate) shape: [usize; 3],
    /// In elements.
    pub(crate) strides: [usize; 3],
}

impl Layout {
    fn contiguous(found_bytes: usize, dtype: Dtype, shape: [usize; 3]) -> Result<Self, Error> {
        let [_, len, inner] = shape;
        let too_large = |strides| Error::TooLarge { shape, strides };
        let outer_stride = len.checked_mul(inner).ok_or(too_large([0, inner, 1]))?;
        let strides = [outer_stride, inner, 1];
        let needed_bytes = (shape[0].checked_mul(outer_stride))
            .and_then(|elements| elements.checked_mul(dtype.size_bytes()))
            .ok_or(too_large(strides))?;
        if needed_bytes != found_bytes {
            return Err(Error::BufferSize { needed_bytes, found_bytes });
        }
        Ok(Self { dtype, shape, strides }.simplified())
    }

    fn strided(
        found_bytes: usize,
        dtype: Dtype,
        shape: [usize; 3],
        strides: [usize; 3],
    ) -> Result<Self, Error> {
        let layout = Self { dtype, shape, strides };
        let needed_bytes = layout.span_bytes().ok_or(Error::TooLarge { shape, strides })?;
        // Counts of rows and of elements are formed later; they must not overflow either.
        (shape[0].checked_mul(shape[2]).and_then(|rows| rows.checked_mul(shape[1].max(1))))
            .ok_or(Error::TooLarge { shape, strides })?;
        if needed_bytes > found_bytes {
            return Err(Error::BufferSize { needed_bytes, found_bytes });
        }
        Ok(layout.simplified())
    }

    /// Bytes from the first element to the end of the last; none where that overflows.
    fn span_bytes(&self) -> Option<usize> {
        if self.shape.contains(&0) {
            return Some(0);
        }
        let mut last = 0_usize;
        for (length, stride) in self.shape.iter().zip(self.strides) {
            last = last.checked_add((length - 1).checked_mul(stride)?)?;
        }
        last.checked_add(1)?.checked_mul(self.dtype.size_bytes())
    }

    /// The same rows in the same order, written so that kernels meet fewer cases: unit axes carry stride 1
    /// (inner) or the whole extent (outer), and a lone outer axis of stride 1 becomes the inner one.
    fn simplified(mut self) -> Self {
        let [outer, len, inner] = self.shape;
        if self.shape.contains(&0) {
            self.strides = [0, 1, 0];
        } else if inner == 1 && outer > 1 && self.strides[0] == 1 && len > 1 && self.strides[1] != 1 {
            self.shape = [1, len, outer];
            self.strides = [0, self.strides[1], 1];
        } else if inner == 1 {
            self.strides[2] = 1;
        }
        if len <= 1 && inner == 1 {
            self.strides[1] = 1;
        }
        self
    }

    /// Whether no two elements share memory, so that rows may be written independently.
    ///
    /// Sufficient and not necessary: sorted by stride, each axis must step over all of the one below.
    fn is_disjoint(&self) -> bool {
        if self.shape.contains(&0) {
            return true;
        }
        let mut axes: Vec<_> =
            self.shape.iter().zip(self.strides).filter(|(length, _)| **length > 1).collect();
        axes.sort_by_key(|(_, stride)| *stride);
        let mut extent = 1;
        for (length, stride) in axes {
            if stride < extent {
                return false;
            }
            extent += (length - 1) * stride;
        }
        true
    }

    pub(crate) fn count(&self) -> usize {
        self.shape[0] * self.shape[2]
    }

    /// The same elements with the reduced and the inner axis exchanged: matrix rows become our rows.
    pub(crate) fn transposed(self) -> Self {
        let ([outer, len, inner], [a, b, c]) = (self.shape, self.strides);
        Self { dtype: self.dtype, shape: [outer, inner, len], strides: [a, c, b] }
    }

    /// Refuses another view that has not as many rows of the same length.
    pub(crate) fn check_same_rows(&self, what: &'static str, other: &Self) -> Result<(), Error> {
        if (self.count(), self.shape[1]) == (other.count(), other.shape[1]) {
            return Ok(());
        }
        Err(Error::Shape { what, expected: self.shape, found: other.shape })
    }

    /// Whether neighbouring rows interleave in memory, so that matrix rows are streamed rather than ours.
    pub(crate) fn is_columns(&self) -> bool {
        self.strides[1] != 1 && self.strides[2] == 1 && self.shape[2] > 1
    }

    /// First element of row (outer index, inner index).
    pub(crate) fn start(&self, row: usize) -> usize {
        let inner = self.shape[2];
        row / inner * self.strides[0] + row % inner * self.strides[2]
    }
}

/// A read-only view of shape `[outer, len, inner]`.
///
/// A *row* is the slice along `len` at one `(outer, inner)` position; there are `outer * inner` of them, in
/// that order. With `inner == 1` the last axis is reduced. The bytes are little-endian elements at any
/// alignment.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) layout: Layout,
}

impl<'a> Rows<'a> {
    /// The bytes of a row whose elements lie next to each other.
    #[inline]
    pub(crate) fn row(&self, row: usize) -> &'a [u8] {
        let size_bytes = self.layout.dtype.size_bytes();
        &self.bytes[self.layout.start(row) * size_bytes..][..self.layout.shape[1] * size_bytes]
    }

    /// Rows of a dense array in C order.
    ///
    /// # Errors
    /// [`Error::BufferSize`] unless `bytes` holds exactly `outer * len * inner` elements, [`Error::TooLarge`]
    /// where that product overflows.
    pub fn contiguous(
        bytes: &'a [u8],
        dtype: Dtype,
        outer: usize,
        len: usize,
        inner: usize,
    ) -> Result<Self, Error> {
        Ok(Self { bytes, layout: Layout::contiguous(bytes.len(), dtype, [outer, len, inner])? })
    }

    /// Rows at any non-negative distances.
    ///
    /// `strides` count elements; the first element is at the start of `bytes`.
    ///
    /// # Errors
    /// [`Error::BufferSize`] where the view reaches beyond `bytes`, [`Error::TooLarge`] where it cannot be
    /// addressed at all.
    pub fn strided(
        bytes: &'a [u8],
        dtype: Dtype,
        shape: [usize; 3],
        strides: [usize; 3],
    ) -> Result<Self, Error> {
        Ok(Self { bytes, layout: Layout::strided(bytes.len(), dtype, shape, strides)? })
    }

    /// How many rows there are: `outer * inner`.
    #[must_use]
    pub fn count(&self) -> usize {
        self.layout.count()
    }

    pub(crate) fn transposed(self) -> Self {
        Self { bytes: self.bytes, layout: self.layout.transposed() }
    }

    /// Refuses an output that does not hold one value per row.
    pub(crate) fn check_output(&self, found: usize) -> Result<(), Error> {
        let expected = self.count();
        if found == expected { Ok(()) } else { Err(Error::Length { what: "norms", expected, found }) }
    }

    /// Elements of each row.
    #[must_use]
    pub fn row_len(&self) -> usize {
        self.layout.shape[1]
    }

    /// The format of the elements.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        self.layout.dtype
    }
}

/// A view like [`Rows`] whose elements may be written. No two elements share memory.
#[derive(Debug)]
pub struct RowsMut<'a> {
    pub(crate) bytes: &'a mut [u8],
    pub(crate) layout: Layout,
}

impl<'a> RowsMut<'a> {
    /// Rows of a dense array in C order.
    ///
    /// # Errors
    /// As [`Rows::contiguous`].
    pub fn contiguous(
        bytes: &'a mut [u8],
        dtype: Dtype,
        outer: usize,
        len: usize,
        inner: usize,
    ) -> Result<Self, Error> {
        let layout = Layout::contiguous(bytes.len(), dtype, [outer, len, inner])?;
        Ok(Self { bytes, layout })
    }

    /// Rows at any non-negative distances.
    ///
    /// # Errors
    /// As [`Rows::strided`], and [`Error::Overlap`] where elements share memory.
    pub fn strided(
        bytes: &'a mut [u8],
        dtype: Dtype,
        shape: [usize; 3],
        strides: [usize; 3],
    ) -> Result<Self, Error> {
        let layout = Layout::strided(bytes.len(), dtype, shape, strides)?;
        if !layout.is_disjoint() {
            return Err(Error::Overlap { shape, strides });
        }
        Ok(Self { bytes, layout })
    }

    pub(crate) fn transposed(self) -> Self {
        Self { bytes: self.bytes, layout: self.layout.transposed() }
    }

    /// The same rows, read-only.
    #[must_use]
    pub fn as_rows(&self) -> Rows<'_> {
        Rows { bytes: self.bytes, layout: self.layout }
    }

    /// The same rows, for a shorter time.
    pub fn reborrow(&mut self) -> RowsMut<'_> {
        RowsMut { bytes: self.bytes, layout: self.layout }
    }

    /// How many rows there are: `outer * inner`.
    #[must_use]
    pub fn count(&self) -> usize {
        self.layout.count()
    }
}

/// `count` zeros, a number to each row: shapes are a caller's or a file's, so that there may be no room for them.
///
/// # Errors
/// [`Error::Memory`] where there is none.
pub fn zeros<T: Clone + Default>(count: usize) -> Result<Vec<T>, Error> {
    let mut numbers = Vec::new();
    numbers.try_reserve_exact(count).map_err(|_| Error::Memory { count })?;
    numbers.resize(count, T::default());
    Ok(numbers)
}
