//! `skiff inputs`: what a container is made from. Asks neither engine nor registry.

use std::process::ExitCode;

use super::args::{FormatArg, InputsArgs};
use super::request::Invocation;
use crate::cancel::CancellationToken;
use crate::context::entry::Entry;
use crate::context::inputs::{self, BuildContext};
use crate::context::{ContextError, walk};
use crate::diagnostic::human;
use crate::environment::Environment;
use crate::error::Error;
use crate::manifest;
use crate::project;
use crate::report::inputs::{ContextFiles, Inputs};
use crate::report::output::Output;

pub(crate) fn run(
    args: &InputsArgs,
    invocation: &Invocation,
    environment: &Environment,
    output: &Output,
) -> Result<ExitCode, Error> {
    let path = manifest::find(invocation.manifest.as_deref(), &environment.directory)?;
    let shown = project::shown(&path, &environment.directory);
    let (manifest, warnings) = manifest::load(&path, &shown)?;
    if !warnings.is_empty() {
        output.err(&human::render(&warnings, output.color));
    }
    let container = manifest
        .containers
        .get(&args.name)
        .ok_or_else(|| project::unknown(&args.name, &manifest))?;
    let contexts = inputs::contexts(container)
        .map_err(|error| inputs::diagnostic(&error, &[], &manifest.root))?;
    let mut read = Vec::with_capacity(contexts.len());
    for context in &contexts {
        let files = files(context)
            .map_err(|error| inputs::diagnostic(&error, &contexts, &manifest.root))?;
        read.push(ContextFiles::new(context, files, &manifest.root));
    }
    let inputs = Inputs {
        container: &container.name,
        contexts: read,
    };
    output.out(&match args.format {
        FormatArg::Human => inputs.human(),
        FormatArg::Json => inputs.json(),
    });
    Ok(ExitCode::SUCCESS)
}

/// All that is left of a context, in the order in which it is sent.
fn files(context: &BuildContext) -> Result<Vec<Entry>, ContextError> {
    let mut files = Vec::new();
    walk::walk(
        &context.root,
        &context.filter(),
        &walk::nothing_known,
        &CancellationToken::new(),
        |entry| {
            files.push(entry);
            Ok(())
        },
    )?;
    Ok(files)
}
