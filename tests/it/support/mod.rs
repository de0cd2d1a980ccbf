//! What tests stand on: the stack of `dev/`, throw-away monorepos, eyes on the registry, and a gate before it.

pub mod gate;
pub mod guarded;
pub mod registry;
pub mod stack;
pub mod workspace;
