//! The one error that ends a command. Its kind decides the exit code; it renders itself, once, in `main`.
//!
//! A container that fails to build is not an error but data ([`crate::engine::outcome`]): a run goes on past it.

use std::process::ExitCode;

use crate::diagnostic::Diagnostic;
use crate::diagnostic::human::{self, Screen};

/// Why a command ended, as far as a caller can act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// Usage, manifest or environment: found before anything was done.
    Input,
    /// The same: another run has used the release's name, or a tag.
    NameTaken,
    /// A build, a push or a check failed.
    Build,
    /// Built and pushed, but a promotion that was due did not happen.
    Promotion,
    /// The user, or the system, asked to stop.
    Interrupted,
}

impl ErrorKind {
    /// The exit codes of the contract.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Build => 1,
            Self::Input | Self::NameTaken => 2,
            Self::Promotion => 3,
            Self::Interrupted => 130,
        }
    }
}

/// What ends a command: one or more diagnostics, and the cause below them for `-v`.
#[derive(Debug)]
pub(crate) struct Error {
    pub kind: ErrorKind,
    pub diagnostics: Vec<Diagnostic>,
    pub source: Option<anyhow::Error>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, diagnostics: Vec<Diagnostic>) -> Self {
        Self {
            kind,
            diagnostics,
            source: None,
        }
    }

    /// Input errors, all that were found at once.
    pub(crate) fn input(diagnostics: impl Into<Vec<Diagnostic>>) -> Self {
        Self::new(ErrorKind::Input, diagnostics.into())
    }

    /// Keeps the cause, which `-v` shows.
    #[must_use]
    pub(crate) fn caused_by(mut self, source: impl Into<anyhow::Error>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind.code())
    }

    /// The text for people; with `verbose`, the causes as well.
    pub(crate) fn render(&self, screen: Screen, verbose: bool) -> String {
        let mut text = human::render(&self.diagnostics, screen);
        if let (true, Some(source)) = (verbose, &self.source) {
            for cause in source.chain() {
                text.push_str("\n  caused by: ");
                text.push_str(&cause.to_string());
            }
        }
        text
    }
}

impl From<Diagnostic> for Error {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::input(vec![diagnostic])
    }
}

impl From<Vec<Diagnostic>> for Error {
    fn from(diagnostics: Vec<Diagnostic>) -> Self {
        Self::input(diagnostics)
    }
}
