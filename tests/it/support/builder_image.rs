//! What stands in for `moby/buildkit`: an image whose `buildctl dial-stdio` leads to a [`super::bridge::Bridge`].

use std::process::Command;

use super::bridge::Bridge;
use super::stack;

/// An image in the stack's registry, and the containers that skiff makes of it for whoever has [`Self::variables`].
pub(crate) struct BuilderImage {
    /// Its name.
    pub name: String,
    folder: tempfile::TempDir,
    engine: String,
}

impl BuilderImage {
    /// `prefix`: below which it is pushed.
    pub(crate) fn push(prefix: &str, bridge: &Bridge) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = stack::variables()["DOCKER_HOST"].clone();
        let name = format!("{}/{prefix}/buildkit:1", stack::registry());
        let image = Self {
            name,
            folder,
            engine,
        };
        // Roots of its own give each test a configuration, and so a container, of its own.
        let mut roots = std::fs::read("/etc/ssl/certs/ca-certificates.crt").unwrap_or_default();
        roots.extend_from_slice(format!("# {prefix}\n").as_bytes());
        std::fs::write(image.folder.path().join("roots.pem"), roots).unwrap();
        image.make(&image.name, bridge);
        image
    }

    /// The next version, under another name.
    pub(crate) fn upgrade(&mut self, bridge: &Bridge) {
        self.name.push('1');
        self.make(&self.name, bridge);
    }

    /// Containers are looked for in this engine.
    pub(crate) fn in_engine(mut self, address: String) -> Self {
        self.engine = address;
        self
    }

    fn make(&self, name: &str, bridge: &Bridge) {
        let root = self.folder.path().join("image");
        std::fs::create_dir_all(&root).unwrap();
        let write = |file: &str, text: String| std::fs::write(root.join(file), text).unwrap();
        write(
            "buildctl",
            format!(
                "#!/bin/sh\n[ \"$*\" = dial-stdio ] && exec nc 127.0.0.1 {}\n",
                bridge.port()
            ),
        );
        let buildkitd = "#!/bin/sh\ngrep -q 'http = true' /etc/buildkit/buildkitd.toml && grep -q '# ' \"$SSL_CERT_FILE\" || \
                         { echo no configuration; exit 1; }\n\
                         echo >>/var/lib/buildkit/starts\ntrap 'exit 0' TERM\nwhile :; do sleep 1; done\n";
        write("buildkitd", buildkitd.to_owned());
        write(
            "Dockerfile",
            format!(
                "FROM {}/busybox:1\nCOPY --chmod=755 buildctl buildkitd /bin/\nENTRYPOINT [\"buildkitd\"]\n",
                stack::registry()
            ),
        );
        let output = format!("type=image,name={name},push=true,store=false,oci-mediatypes=false");
        let path = root.display().to_string();
        let build = [
            "buildx",
            "build",
            "--builder",
            "default",
            "--provenance=false",
            "--output",
        ];
        stack::docker(&[&build[..], &[&output, &path]].concat());
    }

    /// For skiff.
    pub(crate) fn variables(&self) -> [(&'static str, String); 2] {
        let roots = self.folder.path().join("roots.pem").display().to_string();
        [
            ("SSL_CERT_FILE", roots),
            ("DOCKER_HOST", self.engine.clone()),
        ]
    }

    /// For `containers.toml`.
    pub(crate) fn manifest(&self, driver: &str) -> String {
        format!(
            "[builder]\ndriver = \"{driver}\"\nimage = \"{}\"\n",
            self.name
        )
    }

    /// The engine's client.
    pub(crate) fn docker(&self, arguments: &[&str]) -> String {
        let output = Command::new("docker")
            .args(arguments)
            .envs(stack::variables())
            .env("DOCKER_HOST", &self.engine)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "docker {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Names of the containers that were made of it.
    pub(crate) fn containers(&self) -> Vec<String> {
        let format = "{{.Names}} {{.Image}}";
        let all = self.docker(&[
            "ps",
            "--all",
            "--filter",
            "label=io.skiff.builder",
            "--format",
            format,
        ]);
        let base = self.name.trim_end_matches('1');
        let lines = all.lines().filter(|line| line.contains(base));
        lines
            .map(|line| line.split(' ').next().unwrap().to_owned())
            .collect()
    }
}

impl Drop for BuilderImage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for container in self.containers() {
            self.docker(&["rm", "--force", &container]);
            self.docker(&["volume", "rm", &format!("{container}-state")]);
        }
    }
}
