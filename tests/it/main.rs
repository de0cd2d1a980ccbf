//! skiff as its users run it: the real binary against a real engine, a real registry and real git. `support` starts the
//! stack of `dev/` when it is not up.

#![allow(clippy::disallowed_methods)] // Tests read the environment and the clock as they like.
#![allow(clippy::unwrap_used, clippy::expect_used)] // A test that cannot go on fails.
#![allow(unreachable_pub)] // One binary: `pub` says what `support` offers.

mod cache;
mod cache_commands;
mod cache_faults;
mod cache_mounts;
mod cache_s3;
mod cache_s3_mounts;
mod changes;
mod contexts;
mod credentials;
mod deploy;
mod drivers;
mod ecr;
mod explained;
mod failures;
mod ignore;
mod inputs;
mod interrupts;
mod keys;
mod limits;
mod lock;
mod manifest;
mod options;
mod plan_file;
mod plan_many;
mod release_deploys;
mod release_faults;
mod release_history;
mod release_nothing;
mod release_quotas;
mod release_races;
mod release_shared;
mod release_terminal;
mod releases;
mod support;
mod untrusted;
