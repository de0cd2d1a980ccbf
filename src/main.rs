//! Starts the runtime, hands over arguments and environment, and exits with the code that comes back.

use std::process::ExitCode;

use skiff::Environment;

fn main() -> ExitCode {
    let environment = match Environment::snapshot() {
        Ok(environment) => environment,
        Err(error) => return skiff::failed_to_start("the current folder cannot be read", &error),
    };
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => {
            let code = runtime.block_on(skiff::run(std::env::args_os().collect(), environment));
            // What may still run then is a blocking read that nobody waits for any more.
            runtime.shutdown_background();
            code
        }
        Err(error) => skiff::failed_to_start("the async runtime cannot be started", &error),
    }
}
