//! Against real git repositories in temporary folders.

mod affected;
mod base;
mod history;
mod random;
mod repository;
