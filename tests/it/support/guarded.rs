//! A second registry that asks who is there.

use std::path::{Path, PathBuf};
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
    address: String,
}

/// A certificate that signs itself, and its key.
pub(crate) struct Tls {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Tls {
    /// `tls.crt` and `tls.key` in this folder, for this host.
    pub(crate) fn make(folder: &Path, host: &str) -> Self {
        let made = Self {
            certificate: folder.join("tls.crt"),
            key: folder.join("tls.key"),
        };
        let output = Command::new("openssl")
            .args(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj"
                    .split(' '),
            )
            .args(["/CN=test", "-addext", &format!("subjectAltName=DNS:{host}")])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .arg("-out")
            .arg(&made.certificate)
            .arg("-keyout")
            .arg(&made.key)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        made
    }
}

impl GuardedRegistry {
    /// Plain HTTP on a free port, for [`USER`] and [`PASSWORD`].
    pub(crate) fn start() -> Self {
        Self::admitting(HASH)
    }

    /// The same for another password.
    pub(crate) fn admitting(hash: &str) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        Self::run(&address, hash, "")
    }

    pub(crate) fn with_tls(address: &str, hash: &str, tls: &Tls) -> Self {
        let (certificate, key) = (tls.certificate.display(), tls.key.display());
        Self::run(
            address,
            hash,
            &format!(", tls: {{certificate: {certificate}, key: {key}}}"),
        )
    }

    fn run(address: &str, hash: &str, tls: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display();
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {path}/data}}}}\nhttp: {{addr: '{address}'{tls}}}\n\
             auth: {{htpasswd: {{realm: test, path: {path}/htpasswd}}}}\n"
        );
        std::fs::write(folder.path().join("config.yml"), config).unwrap();
        std::fs::write(folder.path().join("htpasswd"), format!("{USER}:{hash}\n")).unwrap();
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
            address: address.to_owned(),
        };
        for _ in 0..200 {
            if std::net::TcpStream::connect(address).is_ok() {
                return registry;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("the registry does not start");
    }

    pub(crate) fn host(&self) -> String {
        self.address.replace("127.0.0.1", "localhost")
    }

    /// From now on only who has the password of this hash is let in.
    pub(crate) fn admit_only(&self, hash: &str) {
        std::fs::write(
            self.folder.path().join("htpasswd"),
            format!("{USER}:{hash}\n"),
        )
        .unwrap();
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
