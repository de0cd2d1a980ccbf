//! The stack of `dev/`: used as it is when its variables are set, else started by `dev/up`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use super::aws::TrueName;

const VARIABLES: [&str; 9] = [
    "DOCKER_HOST",
    "SKIFF_DEV_REGISTRY",
    "SKIFF_DEV_HOME",
    "DOCKER_CONFIG",
    "AWS_ENDPOINT_URL",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_REGION",
    "PATH",
];

/// The variables that `dev/up --env` sets.
pub(crate) fn variables() -> &'static BTreeMap<String, String> {
    static STACK: OnceLock<BTreeMap<String, String>> = OnceLock::new();
    STACK.get_or_init(|| {
        if std::env::var_os("SKIFF_DEV_REGISTRY").is_some() {
            return VARIABLES
                .iter()
                .map(|name| ((*name).to_owned(), std::env::var(name).unwrap()))
                .collect();
        }
        let up = Path::new(env!("CARGO_MANIFEST_DIR")).join("dev/up");
        // The shell undoes the quoting of `--env`.
        let script = "eval \"$(\"$0\" --env)\" && env -0";
        let output = Command::new("bash")
            .arg("-c")
            .arg(script)
            .arg(&up)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "dev/up failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let pairs = text.split('\0').filter_map(|entry| entry.split_once('='));
        pairs
            .filter(|(name, _)| VARIABLES.contains(name))
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .collect()
    })
}

/// `host:port` of the registry.
pub(crate) fn registry() -> &'static str {
    &variables()["SKIFF_DEV_REGISTRY"]
}

/// The engine's own client.
pub(crate) fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker")
        .args(arguments)
        .envs(variables())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "docker {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `host:port` of AWS's APIs.
pub(crate) fn aws() -> &'static str {
    variables()["AWS_ENDPOINT_URL"]
        .strip_prefix("http://")
        .unwrap()
}

/// The same command as the arguments of another.
pub(crate) fn within(outer: &[&str], command: &Command) -> Command {
    let mut whole = Command::new(outer[0]);
    whole
        .args(&outer[1..])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => whole.env(name, value),
            None => whole.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        whole.current_dir(folder);
    }
    whole
}

/// A second engine. Without network, so that it disturbs nothing; it ends when it is dropped.
pub(crate) struct SecondEngine {
    folder: tempfile::TempDir,
    process: std::process::Child,
    /// It is alone in a namespace of processes, and can be killed with all that it runs.
    alone: bool,
}

impl SecondEngine {
    /// As CodeBuild and GitHub have it: without the containerd image store.
    pub(crate) fn plain() -> Self {
        Self::start(false, |dockerd| dockerd)
    }

    /// With the store, and empty: a fresh runner.
    pub(crate) fn fresh() -> Self {
        Self::start(true, |dockerd| dockerd)
    }

    /// With the store, and with room for 200 MB.
    pub(crate) fn on_a_small_disk() -> Self {
        Self::start(true, |dockerd| {
            // The fourth argument is its data root.
            let script =
                "mkdir -p \"$4\" && mount -t tmpfs -o size=200m none \"$4\" && exec \"$0\" \"$@\"";
            within(&["unshare", "--mount", "sh", "-c", script], &dockerd)
        })
    }

    /// With the store, inside.
    pub(crate) fn inside(place: &TrueName) -> Self {
        Self::start(true, |dockerd| place.inside(&dockerd))
    }

    /// With the store, and for [`Self::kill`].
    pub(crate) fn mortal() -> Self {
        let mut engine = Self::start(true, |dockerd| Self::alone(&dockerd));
        engine.alone = true;
        engine
    }

    fn alone(dockerd: &Command) -> Command {
        let namespaces = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
        within(&[&["unshare"], &namespaces[..]].concat(), dockerd)
    }

    /// Ends it as a machine ends that loses its power: at once, with every process that it has started.
    pub(crate) fn kill(&mut self) {
        assert!(self.alone);
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts one that was killed again, on what is on its disk.
    pub(crate) fn start_again(&mut self) {
        // What would mislead it: the state of processes that are gone.
        for name in ["exec", "pid", "docker.sock"] {
            let path = self.folder.path().join(name);
            let _ = std::fs::remove_file(&path);
            let _ = std::fs::remove_dir_all(&path);
        }
        self.process = Self::run(self.folder.path(), |dockerd| Self::alone(&dockerd));
    }

    /// Without the builder's housekeeping: it looks at all caches a second after the start, and a step that wants a cache
    /// mount in that moment gets another, empty one (see `buildkit/usage.rs`).
    fn start(containerd_store: bool, place: impl FnOnce(Command) -> Command) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            "{{\"features\": {{\"containerd-snapshotter\": {containerd_store}}}, \"bridge\": \"none\", \
             \"iptables\": false, \"ip6tables\": false, \"ip-forward\": false, \
             \"builder\": {{\"gc\": {{\"enabled\": false}}}}}}"
        );
        std::fs::write(folder.path().join("daemon.json"), config).unwrap();
        let process = Self::run(folder.path(), place);
        Self {
            folder,
            process,
            alone: false,
        }
    }

    /// Returns once it takes connections.
    fn run(folder: &Path, place: impl FnOnce(Command) -> Command) -> std::process::Child {
        let stack = Path::new(&variables()["SKIFF_DEV_HOME"]).join("stack/usr");
        let path = |name: &str| folder.join(name);
        let log = std::fs::File::create(path("log")).unwrap();
        let mut dockerd = Command::new(stack.join("sbin/dockerd"));
        dockerd
            .arg("--config-file")
            .arg(path("daemon.json"))
            .arg("--data-root")
            .arg(path("data"))
            .arg("--exec-root")
            .arg(path("exec"))
            .arg("--pidfile")
            .arg(path("pid"))
            .arg(format!("--host=unix://{}", path("docker.sock").display()))
            .env(
                "PATH",
                format!(
                    "{0}/bin:{0}/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
                    stack.display()
                ),
            );
        let process = place(dockerd)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let started = std::time::Instant::now();
        while std::os::unix::net::UnixStream::connect(path("docker.sock")).is_err() {
            let log = || std::fs::read_to_string(path("log")).unwrap_or_default();
            assert!(
                started.elapsed().as_secs() < 60,
                "the engine does not start: {}",
                log()
            );
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        process
    }

    pub(crate) fn address(&self) -> String {
        format!(
            "unix://{}",
            self.folder.path().join("docker.sock").display()
        )
    }
}

impl Drop for SecondEngine {
    fn drop(&mut self) {
        if self.alone {
            // The kernel unmounts what it mounted.
            let _ = self.process.kill();
            let _ = self.process.wait();
            return;
        }
        // SIGTERM, so that it unmounts what it mounted.
        let _ = Command::new("kill")
            .arg(self.process.id().to_string())
            .status();
        let _ = self.process.wait();
    }
}
