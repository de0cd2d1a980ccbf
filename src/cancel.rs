//! Cancellation: one tree of tokens. The first Ctrl-C (or SIGTERM) cancels the root, the second ends the process.

pub(crate) use tokio_util::sync::CancellationToken;

use tokio::signal::unix::{SignalKind, signal};

use crate::error::ErrorKind;

/// A root token that the first SIGINT or SIGTERM cancels. A second signal ends the process at once with code 130.
pub(crate) fn on_signals() -> std::io::Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let root = CancellationToken::new();
    let token = root.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if token.is_cancelled() {
                #[expect(
                    clippy::exit,
                    reason = "the second signal: the user wants out now, whatever still runs"
                )]
                std::process::exit(ErrorKind::Interrupted.code().into());
            }
            token.cancel();
        }
    });
    Ok(root)
}
