//! What a builder may ask of skiff while it builds: one module for each service of the session.

pub(crate) mod filesync;
