//! What can be wrong with a caller's arguments.

/// The ways in which a call is refused: before any row is touched, but for [`Error::Memory`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The buffer does not hold what shape, strides and dtype describe.
    #[error("the buffer holds {found_bytes} bytes, but the view needs {needed_bytes}")]
    BufferSize {
        /// Bytes that the view describes.
        needed_bytes: usize,
        /// Bytes that were given.
        found_bytes: usize,
    },
    /// Shape times strides leaves the address space.
    #[error("shape {shape:?} with strides {strides:?} is larger than the address space")]
    TooLarge {
        /// Outer, reduced and inner length.
        shape: [usize; 3],
        /// Distances in elements.
        strides: [usize; 3],
    },
    /// Two elements of a view that is to be written share memory.
    #[error("shape {shape:?} with strides {strides:?} overlaps itself and cannot be written")]
    Overlap {
        /// Outer, reduced and inner length.
        shape: [usize; 3],
        /// Distances in elements.
        strides: [usize; 3],
    },
    /// An output or a second view has another shape than the first.
    #[error("{what} has {found} elements where {expected} are needed")]
    Length {
        /// Which argument.
        what: &'static str,
        /// What the first view asks for.
        expected: usize,
        /// What was given.
        found: usize,
    },
    /// Two views that must agree in shape do not.
    #[error("{what} has shape {found:?} where {expected:?} is needed")]
    Shape {
        /// Which argument.
        what: &'static str,
        /// Shape of the first view.
        expected: [usize; 3],
        /// Shape that was given.
        found: [usize; 3],
    },
    /// The operation is not offered for this dtype.
    #[error("{what} cannot be {found}")]
    Dtype {
        /// Which argument.
        what: &'static str,
        /// Its dtype.
        found: crate::Dtype,
    },
    /// A hyperparameter is outside its range.
    #[error("{name} = {value} is out of range")]
    Parameter {
        /// Name as in `torch.optim.Adam`.
        name: &'static str,
        /// The value, printed.
        value: String,
    },
    /// Rows have no direction, and the caller asked to be told; no row was written.
    #[error("{zero} zero rows and {nonfinite} rows with NaN or Inf cannot be normalised")]
    Degenerate {
        /// Rows whose elements are all zero.
        zero: usize,
        /// Rows that hold a NaN or an infinity.
        nonfinite: usize,
    },
    /// There is no memory for a number to each row.
    #[error("no memory for {count} numbers, one to a row")]
    Memory {
        /// How many numbers.
        count: usize,
    },
    /// The operating system refused to start the worker threads.
    #[error("cannot start {threads} threads: {message}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// The operating system's words.
        message: String,
    },
}
