//! skiff on a terminal of its own, with somebody who answers: util-linux's `script` makes the terminal.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use super::workspace::{Ended, Workspace};

/// How a question of skiff's ends.
const QUESTION: &str = "[y/N] ";

/// Runs it to its end, and types this once it asks. stdout and stderr are one, as on every terminal.
pub(crate) fn on_terminal(workspace: &Workspace, arguments: &[&str], typed: &str) -> Ended {
    let skiff = workspace.skiff(arguments);
    let line = format!(
        "exec {} {}",
        skiff.get_program().display(),
        arguments.join(" ")
    );
    let mut script = Command::new("script");
    script
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .current_dir(workspace.root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    for (name, value) in skiff.get_envs() {
        match value {
            Some(value) => script.env(name, value),
            None => script.env_remove(name),
        };
    }
    let mut script = script.spawn().unwrap();
    let (mut keyboard, mut screen) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
    let mut shown = Vec::new();
    let mut piece = [0; 4096];
    let mut typed = Some(typed);
    loop {
        let count = screen.read(&mut piece).unwrap();
        if count == 0 {
            break;
        }
        shown.extend_from_slice(&piece[..count]);
        if shown.ends_with(QUESTION.as_bytes())
            && let Some(typed) = typed.take()
        {
            keyboard.write_all(typed.as_bytes()).unwrap();
        }
    }
    Ended {
        code: script.wait().unwrap().code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&shown).into_owned(),
        stderr: String::new(),
    }
}
