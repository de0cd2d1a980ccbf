//! The command line: arguments to requests, one thin function a command.

mod args;
mod builder;
mod cache;
mod contexts;
mod cost;
mod deploy;
mod inputs;
mod keys;
mod lock;
mod moving;
mod nothing;
mod opened;
mod promotion;
mod ready;
mod registry;
mod released;
mod releases;
mod request;
mod selection;

use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use self::args::{Cli, Command};
use self::request::{DeployRequest, Invocation};
use crate::environment::Environment;
use crate::error::Error;
use crate::report::output::Output;

/// Runs what the arguments say. Everything is printed; the code is all that is left to return.
pub(crate) async fn run(arguments: Vec<std::ffi::OsString>, environment: Environment) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        // clap's own text: an error (code 2) on stderr, help and version (code 0) on stdout.
        Err(text) => {
            let _ = text.print();
            return ExitCode::from(u8::try_from(text.exit_code()).unwrap_or(2));
        }
    };
    let verbose = cli.global.verbose;
    let output = Output::new(request::color(cli.global.color, &environment));
    tell_panics(output.clone());
    log(verbose, &output);
    let result = dispatch(cli, &environment, &output).await;
    result.unwrap_or_else(|error| {
        output.err(&error.render(output.screen(), verbose > 0));
        error.exit_code()
    })
}

async fn dispatch(cli: Cli, environment: &Environment, output: &Output) -> Result<ExitCode, Error> {
    let invocation = Invocation::new(&cli.global, environment)?;
    match cli.command {
        Command::Deploy(args) => deploy(args, true, &invocation, environment, output).await,
        Command::Build(args) => deploy(args, false, &invocation, environment, output).await,
        Command::Plan(args) => {
            let request = DeployRequest::plan(args, environment)?;
            deploy::run(request, &invocation, environment, output).await
        }
        Command::Why(args) => {
            let request = DeployRequest::why(args, environment)?;
            deploy::run(request, &invocation, environment, output).await
        }
        Command::Inputs(args) => inputs::run(&args, &invocation, environment, output).await,
        Command::Releases(args) => releases::list(&args, &invocation, environment, output).await,
        Command::Status(args) => releases::status(&args, &invocation, environment, output).await,
        Command::Promote(args) => moving::promote(args, &invocation, environment, output).await,
        Command::Cache(command) => cache::run(command, &invocation, environment, output).await,
        Command::Lock(args) => lock::run(&args, &invocation, environment, output).await,
        Command::Rollback(args) => moving::rollback(args, &invocation, environment, output).await,
    }
}

async fn deploy(
    args: args::DeployArgs,
    promote: bool,
    invocation: &Invocation,
    environment: &Environment,
    output: &Output,
) -> Result<ExitCode, Error> {
    let request = DeployRequest::new(args, promote, environment)?;
    deploy::run(request, invocation, environment, output).await
}

/// A panic is a defect of skiff; what is said of it must not stand in the live region, where the next frame overwrites
/// it.
fn tell_panics(output: Output) {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        output.make_way();
        tell(panic);
    }));
}

/// skiff's own log, for its developers: `-v` raises skiff's targets only.
fn log(verbose: u8, output: &Output) {
    let level = match verbose {
        0 => return,
        1 => "skiff=debug",
        _ => "skiff=trace",
    };
    let output = output.clone();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(level))
        .with_ansi(output.color)
        .with_writer(move || output.tracing_writer())
        .init();
}
