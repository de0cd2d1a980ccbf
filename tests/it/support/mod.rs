//! What tests stand on: the stack of `dev/`, throw-away monorepos, eyes on the registry, and a gate before it.

pub(crate) mod gate;
pub(crate) mod guarded;
pub(crate) mod registry;
pub(crate) mod stack;
pub(crate) mod workspace;
