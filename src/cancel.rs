//! Cancellation: one tree of tokens. The first Ctrl-C (or SIGTERM) cancels the root, the second ends the process.

pub(crate) use tokio_util::sync::CancellationToken;

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::error::ErrorKind;
use crate::report::output::Output;

/// A root token that the first SIGINT, SIGTERM or SIGHUP cancels. A second one ends the process at once with code 130.
pub(crate) fn on_signals(output: Output) -> std::io::Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let root = CancellationToken::new();
    let token = root.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            if token.is_cancelled() {
                output.err(
                    "stopped at once: what was under way on the builder or in the registry may go on for a while; \
                     running the same command again is safe",
                );
                #[expect(clippy::exit, reason = "the user wants out now, whatever still runs")]
                std::process::exit(ErrorKind::Interrupted.code().into());
            }
            output.err("interrupted: stopping (once more stops at once)");
            token.cancel();
        }
    });
    Ok(root)
}

/// What work that must not be cut short may still take after the cancellation.
const WIND_UP: Duration = Duration::from_secs(10);

/// Fires when work should have ended: a while after the cancellation.
pub(crate) async fn overdue(cancel: &CancellationToken) {
    cancel.cancelled().await;
    tokio::time::sleep(WIND_UP).await;
}
