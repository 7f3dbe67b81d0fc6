//! One pass over checkpoint bytes: findings and the statistics behind a verdict.
#![forbid(unsafe_code)]
