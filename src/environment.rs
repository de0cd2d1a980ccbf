//! The process's surroundings, read once in `main` and passed on as a value.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// A snapshot of what skiff was started with.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Variables whose name and value are UTF-8; others are nobody's concern here.
    pub variables: BTreeMap<String, String>,
    /// The folder that relative paths start from.
    pub directory: PathBuf,
    pub stdout_is_terminal: bool,
    pub stderr_is_terminal: bool,
}

impl Environment {
    /// Reads the process's environment. An error when the current folder is gone.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one reader of the environment"
    )]
    pub fn snapshot() -> std::io::Result<Self> {
        use std::io::IsTerminal as _;

        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Ok(Self {
            variables: std::env::vars_os().filter_map(text).collect(),
            directory: std::env::current_dir()?,
            stdout_is_terminal: std::io::stdout().is_terminal(),
            stderr_is_terminal: std::io::stderr().is_terminal(),
        })
    }

    /// A variable that is set and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.variables
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// Docker's configuration folder: `DOCKER_CONFIG`, or `.docker` at home.
    pub(crate) fn docker_config(&self) -> Option<PathBuf> {
        self.get("DOCKER_CONFIG")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(self.get("HOME")?).join(".docker")))
    }

    /// stderr is a terminal on which lines can be written again.
    pub(crate) fn can_redraw(&self) -> bool {
        self.stderr_is_terminal && self.get("TERM").is_some_and(|term| term != "dumb")
    }

    /// Coloured output: `--color`, then `NO_COLOR` (no-color.org), then whether stderr is a terminal.
    pub(crate) fn color(&self, asked: Option<bool>) -> bool {
        let terminal = self.stderr_is_terminal && self.get("TERM") != Some("dumb");
        asked.unwrap_or_else(|| self.get("NO_COLOR").is_none() && terminal)
    }
}
