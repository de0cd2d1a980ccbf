//! Starts the runtime, hands over arguments and environment, and exits with the code that comes back.

use std::process::ExitCode;

use skiff::Environment;

fn main() -> ExitCode {
    let environment = match Environment::snapshot() {
        Ok(environment) => environment,
        Err(error) => return skiff::failed_to_start("the current folder cannot be read", &error),
    };
    // Readers of contexts wait on blocking threads of their own, several for each of the builds that run.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    match runtime.enable_all().max_blocking_threads(2048).build() {
        Ok(runtime) => {
            let code = runtime.block_on(skiff::run(std::env::args_os().collect(), environment));
            // What may still run then is a blocking read that nobody waits for any more.
            runtime.shutdown_background();
            code
        }
        Err(error) => skiff::failed_to_start("the async runtime cannot be started", &error),
    }
}
