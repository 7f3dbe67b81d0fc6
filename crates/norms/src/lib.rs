//! Exact row norms, renormalisation and projections, in SIMD.
