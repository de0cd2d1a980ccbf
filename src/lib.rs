//! skiff builds, caches and releases the changed containers of a monorepo. See `README.md` for users and
//! `CONTRIBUTING.md` for the tour of the code.

mod atomic_file;
mod aws;
mod buildkit;
mod cache;
mod cancel;
mod changes;
mod cli;
mod clock;
mod context;
mod diagnostic;
mod dockerfile;
pub mod engine;
mod environment;
mod error;
mod graph;
mod key;
mod lock;
mod manifest;
mod plan;
mod plan_file;
mod profile;
mod project;
mod reference;
mod registry;
mod release;
mod report;
mod resolve;
mod retry;
mod secret;
mod tls;

use std::ffi::OsString;
use std::process::ExitCode;

pub use environment::Environment;

/// Runs a command line and returns its exit code; everything that there is to say has been printed.
pub async fn run(arguments: Vec<OsString>, environment: Environment) -> ExitCode {
    // Boxed: it nests deep enough to exceed what the compiler follows.
    Box::pin(cli::run(arguments, environment)).await
}

/// For what fails before there is anything to run: one line on stderr and the code of an environment error.
pub fn failed_to_start(what: &str, error: &std::io::Error) -> ExitCode {
    report::output::Output::new(false).err(&format!("error: {what}: {error}"));
    ExitCode::from(error::ErrorKind::Input.code())
}
