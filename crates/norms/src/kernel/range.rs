//! Rows that are written, divided among threads without sharing an element.

use std::marker::PhantomData;

use crate::Dtype;
use crate::rows::{Layout, Rows, RowsMut};
use crate::vector::Vector;

/// Bytes of each matrix row that one group of columns takes: two cache lines, which come as a pair.
const GROUP_BYTES: usize = 128;

/// How many matrix rows ahead their part of the group is asked for: no hardware prefetcher follows strides
/// beyond a page.
const AHEAD_ROWS: usize = 32;

/// Some consecutive rows of a view, owned exclusively.
#[derive(Debug)]
pub(crate) struct RowRange<'a> {
    base: *mut u8,
    layout: Layout,
    first: usize,
    count: usize,
    owner: PhantomData<&'a mut [u8]>,
}

// SAFETY: a range is the only one with access to its rows: `RowsMut` holds views without shared elements, and
// `split` gives each row to one range.
unsafe impl Send for RowRange<'_> {}

impl<'a> RowRange<'a> {
    /// All rows of a view.
    pub(crate) fn whole(rows: RowsMut<'a>) -> Self {
        let RowsMut { bytes, layout } = rows;
        Self { base: bytes.as_mut_ptr(), layout, first: 0, count: layout.count(), owner: PhantomData }
    }

    /// Parts of `part` rows each, the last one shorter.
    pub(crate) fn split(self, part: usize) -> impl Iterator<Item = Self> {
        (0..self.count).step_by(part.max(1)).map(move |start| Self {
            base: self.base,
            layout: self.layout,
            first: self.first + start,
            count: part.max(1).min(self.count - start),
            owner: PhantomData,
        })
    }

    /// How many rows these are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The number of the first row within the view.
    pub(crate) fn first(&self) -> usize {
        self.first
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// The rows as slices of their own.
    ///
    /// # Panics
    /// Unless each row lies whole in memory.
    pub(crate) fn into_rows(self) -> impl Iterator<Item = &'a mut [u8]> {
        let layout = self.layout;
        assert!(layout.strides[1] == 1, "rows that lie whole");
        let size_bytes = layout.dtype.size_bytes();
        (self.first..self.first + self.count).map(move |row| {
            // SAFETY: the view was checked to lie within the buffer and to hold no element twice; this range
            // alone has access to its rows, and each is given away once.
            unsafe {
                let start = self.base.add(layout.start(row) * size_bytes);
                std::slice::from_raw_parts_mut(start, layout.shape[1] * size_bytes)
            }
        })
    }
}

/// How many rows are taken out of a layout at a time.
pub(crate) fn group_of(layout: &Layout) -> usize {
    if layout.strides[1] == 1 { 1 } else { GROUP_BYTES / layout.dtype.size_bytes() }
}

/// A few rows at a time of a [`RowRange`], each next to each other in memory: in place where it is so anyhow,
/// else copied out and back.
pub(crate) struct Window<'a> {
    range: RowRange<'a>,
    copies: Vec<u8>,
    loaded: usize,
}

impl<'a> Window<'a> {
    pub(crate) fn new(range: RowRange<'a>) -> Self {
        Self { range, copies: Vec::new(), loaded: 0 }
    }

    fn row_bytes(&self) -> usize {
        self.range.layout.shape[1] * self.range.layout.dtype.size_bytes()
    }

    fn is_direct(&self) -> bool {
        self.range.layout.strides[1] == 1
    }

    /// Makes `count` rows available, from `first` of the range on.
    #[inline(always)]
    pub(crate) fn load<V: Vector>(&mut self, first: usize, count: usize) {
        assert!(first + count <= self.range.count, "rows of the range");
        self.loaded = first;
        if !self.is_direct() {
            self.copies.resize(count * self.row_bytes(), 0);
            self.copy::<V>(count, true);
        }
    }

    /// Row `index` of those loaded.
    pub(crate) fn row(&mut self, index: usize) -> &mut [u8] {
        let row_bytes = self.row_bytes();
        if !self.is_direct() {
            return &mut self.copies[index * row_bytes..][..row_bytes];
        }
        assert!(self.loaded + index < self.range.count, "rows of the range");
        let layout = &self.range.layout;
        let start = layout.start(self.range.first + self.loaded + index) * layout.dtype.size_bytes();
        // SAFETY: the view was checked to lie within the buffer, this range alone has access to the row, and
        // the row is borrowed from it.
        unsafe { std::slice::from_raw_parts_mut(self.range.base.add(start), row_bytes) }
    }

    /// Writes the first `count` loaded rows back where they are copies.
    #[inline(always)]
    pub(crate) fn store<V: Vector>(&mut self, count: usize) {
        if !self.is_direct() {
            self.copy::<V>(count, false);
        }
    }

    #[inline(always)]
    fn copy<V: Vector>(&mut self, count: usize, out: bool) {
        match self.range.layout.dtype.size_bytes() {
            1 => self.copy_elements::<V, 1>(count, out),
            2 => self.copy_elements::<V, 2>(count, out),
            4 => self.copy_elements::<V, 4>(count, out),
            _ => self.copy_elements::<V, 8>(count, out),
        }
    }

    #[inline(always)]
    fn copy_elements<V: Vector, const SIZE: usize>(&mut self, count: usize, out: bool) {
        let layout = self.range.layout;
        let len = layout.shape[1];
        let first = self.range.first + self.loaded;
        let starts: Vec<_> = (0..count).map(|index| layout.start(first + index) * SIZE).collect();
        let copies = self.copies.as_chunks_mut::<SIZE>().0;
        for step in 0..len {
            let offset = step * layout.strides[1] * SIZE;
            let ahead = offset + AHEAD_ROWS * layout.strides[1] * SIZE;
            // SAFETY: the CPU has the instruction set of `V`, as in every kernel; a prefetch may point anywhere.
            unsafe { prefetch_ends::<V>(self.range.base, &starts, ahead) };
            for (index, start) in starts.iter().enumerate() {
                // SAFETY: an element of a row of this range; the view was checked to lie within the buffer.
                unsafe {
                    let element = self.range.base.add(start + offset).cast::<[u8; SIZE]>();
                    if out {
                        copies[index * len + step] = *element;
                    } else {
                        *element = copies[index * len + step];
                    }
                }
            }
        }
    }
}

/// Asks for what lies `offset` beyond the first and the last of `starts`.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn prefetch_ends<V: Vector>(base: *const u8, starts: &[usize], offset: usize) {
    if let [first, .., last] = starts {
        // SAFETY: by contract; a prefetch may point anywhere.
        unsafe {
            V::prefetch(base.wrapping_add(first + offset));
            V::prefetch(base.wrapping_add(last + offset));
        }
    }
}

/// As [`Window`], for rows that are only read.
pub(crate) struct ReadWindow<'a> {
    rows: Rows<'a>,
    copies: Vec<u8>,
    loaded: usize,
}

impl<'a> ReadWindow<'a> {
    pub(crate) fn new(rows: Rows<'a>) -> Self {
        Self { rows, copies: Vec::new(), loaded: 0 }
    }

    pub(crate) fn dtype(&self) -> Dtype {
        self.rows.layout.dtype
    }

    /// Makes `count` rows available, from `first` of the view on.
    #[inline(always)]
    pub(crate) fn load<V: Vector>(&mut self, first: usize, count: usize) {
        self.loaded = first;
        let layout = self.rows.layout;
        if layout.strides[1] == 1 {
            return;
        }
        let size_bytes = layout.dtype.size_bytes();
        self.copies.resize(count * layout.shape[1] * size_bytes, 0);
        match size_bytes {
            1 => self.copy_elements::<V, 1>(count),
            2 => self.copy_elements::<V, 2>(count),
            4 => self.copy_elements::<V, 4>(count),
            _ => self.copy_elements::<V, 8>(count),
        }
    }

    #[inline(always)]
    fn copy_elements<V: Vector, const SIZE: usize>(&mut self, count: usize) {
        let layout = self.rows.layout;
        let len = layout.shape[1];
        let starts: Vec<_> = (0..count).map(|index| layout.start(self.loaded + index) * SIZE).collect();
        let copies = self.copies.as_chunks_mut::<SIZE>().0;
        for step in 0..len {
            let offset = step * layout.strides[1] * SIZE;
            let ahead = offset + AHEAD_ROWS * layout.strides[1] * SIZE;
            // SAFETY: the CPU has the instruction set of `V`, as in every kernel; a prefetch may point anywhere.
            unsafe { prefetch_ends::<V>(self.rows.bytes.as_ptr(), &starts, ahead) };
            for (index, start) in starts.iter().enumerate() {
                let at = start + offset;
                copies[index * len + step].copy_from_slice(&self.rows.bytes[at..at + SIZE]);
            }
        }
    }

    /// Row `index` of those loaded.
    pub(crate) fn row(&self, index: usize) -> &[u8] {
        let layout = &self.rows.layout;
        let row_bytes = layout.shape[1] * layout.dtype.size_bytes();
        if layout.strides[1] != 1 {
            return &self.copies[index * row_bytes..][..row_bytes];
        }
        self.rows.row(self.loaded + index)
    }
}
