//! skiff builds, caches and releases the changed containers of a monorepo. See `README.md` for users and
//! `CONTRIBUTING.md` for the tour of the code.

mod buildkit;
mod cancel;
mod clock;
mod context;
mod diagnostic;
mod dockerfile;
mod error;
mod graph;
mod manifest;
mod reference;
mod registry;
mod retry;
mod secret;
