//! skiff as its users run it: the real binary against a real engine, a real registry and real git. `support` starts the
//! stack of `dev/` when it is not up.

mod credentials;
mod deploy;
mod failures;
mod interrupts;
mod limits;
mod manifest;
mod support;
