//! The client side of `BuildKit`.

pub(crate) mod session;
