//! A second registry that asks who is there.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::stack;

pub(crate) const USER: &str = "AWS";
pub(crate) const PASSWORD: &str = "s3cret-of-the-test";
/// bcrypt of [`PASSWORD`].
const HASH: &str = "$2b$04$abcdefghijklmnopqrstuud3F16mdEjBS0XjkfCARt.Mz1Ksy9lvq";

/// Ends when it is dropped.
pub(crate) struct GuardedRegistry {
    folder: tempfile::TempDir,
    process: Child,
    port: u16,
}

impl GuardedRegistry {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let path = folder.path().display();
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {path}/data}}}}\nhttp: {{addr: 127.0.0.1:{port}}}\n\
             auth: {{htpasswd: {{realm: test, path: {path}/htpasswd}}}}\n"
        );
        std::fs::write(folder.path().join("config.yml"), config).unwrap();
        std::fs::write(folder.path().join("htpasswd"), format!("{USER}:{HASH}\n")).unwrap();
        let program =
            Path::new(&stack::variables()["SKIFF_DEV_HOME"]).join("stack/usr/bin/docker-registry");
        let process = Command::new(program)
            .arg("serve")
            .arg(folder.path().join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Self {
            folder,
            process,
            port,
        };
        for _ in 0..200 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return registry;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("the registry does not start");
    }

    pub(crate) fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// What is stored: repositories, as folders.
    pub(crate) fn has(&self, repository: &str, tag: &str) -> bool {
        let tags =
            format!("data/docker/registry/v2/repositories/{repository}/_manifests/tags/{tag}");
        self.folder.path().join(tags).exists()
    }
}

impl Drop for GuardedRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
