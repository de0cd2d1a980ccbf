//! Remedies for failures that many users meet, chosen by what the builder and the step said. Only texts are chosen here,
//! never behaviour.

use crate::manifest::model::{Container, Network};

/// What is known of a failure.
pub(super) struct Clues<'a> {
    pub(super) message: &'a str,
    /// The step's last lines.
    pub(super) log: &'a [String],
    pub(super) container: &'a Container,
    /// The builder, for people.
    pub(super) builder: &'a str,
}

/// What to do, and what explains it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Remedy {
    pub(super) note: Option<String>,
    pub(super) help: String,
}

fn help(text: impl Into<String>) -> Remedy {
    Remedy {
        note: None,
        help: text.into(),
    }
}

fn noted(note: impl Into<String>, text: impl Into<String>) -> Remedy {
    Remedy {
        note: Some(note.into()),
        ..help(text)
    }
}

/// Lines of a step's log that are looked at, from its end: an error that a step got over is no cause.
const LOG_LINES: usize = 30;

/// The remedy of the first kind of failure that fits, the particular ones before the general ones.
pub(super) fn find(clues: &Clues<'_>) -> Option<Remedy> {
    let kinds: [fn(&Clues<'_>) -> Option<Remedy>; 11] = [
        not_given,
        not_allowed,
        emulation,
        space,
        rate_limit,
        names,
        certificates,
        registry_rules,
        refused,
        killed,
        not_found,
    ];
    kinds.iter().find_map(|kind| kind(clues))
}

impl Clues<'_> {
    fn says(&self, texts: &[&str]) -> bool {
        let message = self.message.to_lowercase();
        texts.iter().any(|text| message.contains(text))
    }

    fn logs(&self, texts: &[&str]) -> bool {
        let from = self.log.len().saturating_sub(LOG_LINES);
        self.log[from..].iter().any(|line| {
            let line = line.to_lowercase();
            texts.iter().any(|text| line.contains(text))
        })
    }
}

/// The text between two others.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(inside, _)| inside)
}

/// Secrets and agents that a step requires.
fn not_given(clues: &Clues<'_>) -> Option<Remedy> {
    let message = clues.message;
    if let Some(id) = between(message, "secret ", ": not found") {
        return Some(help(format!(
            "give the container the secret: secrets = [{{ id = \"{id}\", env = \"VARIABLE\" }}]"
        )));
    }
    let agent = between(message, "no SSH key \"", "\" forwarded")
        .or_else(|| between(message, "no ssh agent `", "` is given"))?;
    Some(help(format!(
        "give the container the agent: ssh = [\"{agent}\"]"
    )))
}

/// Entitlements: those the container does not ask for, and those the builder does not grant.
fn not_allowed(clues: &Clues<'_>) -> Option<Remedy> {
    let known = ["network.host", "security.insecure"];
    let name = known
        .iter()
        .find(|name| clues.says(&[&format!("{name} is not allowed")]))?;
    if clues.says(&["by build daemon"]) {
        return Some(help(format!(
            "let the builder grant it: {} in `builder.entitlements` of an engine's daemon.json, {name} in \
             `insecure-entitlements` of a buildkitd.toml; the container that skiff makes grants network.host only, so name a \
             builder of your own (--builder)",
            name.replace('.', "-")
        )));
    }
    Some(help(format!(
        "a step of the Dockerfile asks for it: allow it with entitlements = [\"{name}\"]"
    )))
}

fn emulation(clues: &Clues<'_>) -> Option<Remedy> {
    // The kernel's word, bash's, and what is said by a shell that takes the program for a script, as busybox's does.
    let texts = [
        "exec format error",
        "cannot execute binary file",
        "line 1: elf",
    ];
    if !clues.says(&texts) && !clues.logs(&texts) {
        return None;
    }
    let platforms = &clues.container.platforms;
    let names: Vec<_> = platforms.iter().map(ToString::to_string).collect();
    let mut architectures: Vec<_> = platforms.iter().map(|p| p.architecture.as_str()).collect();
    architectures.dedup();
    Some(noted(
        format!(
            "the step runs a program that is not for the builder's processor; the image is built for {}",
            names.join(", ")
        ),
        format!(
            "build where the processor is that one, or install emulation on the builder's machine (docker run --privileged \
             --rm tonistiigi/binfmt --install {}); if the platform is the builder's own, the program is for another one, or \
             a script without `#!`",
            architectures.join(",")
        ),
    ))
}

fn space(clues: &Clues<'_>) -> Option<Remedy> {
    let texts = ["no space left on device", "disk quota exceeded"];
    (clues.says(&texts) || clues.logs(&texts)).then(|| {
        noted(
            format!("there is no room left on the builder: {}", clues.builder),
            "free space there: `docker system df` shows what an engine holds, `docker builder prune` lets go of its build \
             cache, `buildctl prune` of that of any other BuildKit; if only /dev/shm was full, raise `shm_size`",
        )
    })
}

fn rate_limit(clues: &Clues<'_>) -> Option<Remedy> {
    let texts = [
        "toomanyrequests",
        "too many requests",
        "429",
        "rate exceeded",
    ];
    clues.says(&texts).then(|| {
        help(
            "the registry limits how often it is asked: wait, log in to it (an account has a higher limit), or keep the \
             base image in a registry of your own",
        )
    })
}

/// Names that the builder, or a step, could not look up.
fn names(clues: &Clues<'_>) -> Option<Remedy> {
    let texts = [
        "no such host",
        "temporary failure in name resolution",
        "name or service not known",
        "could not resolve",
        "couldn't resolve",
        "failed to resolve host",
        "nameresolutionerror",
        "bad address",
        "eai_again",
        "enotfound",
        "server misbehaving",
        "network is unreachable",
    ];
    if clues.says(&texts) {
        return Some(help(
            "the builder could not look the name up: see that it is right, and that the builder's machine resolves it \
             (a proxy, a VPN, its resolv.conf)",
        ));
    }
    if !clues.logs(&texts) {
        return None;
    }
    Some(match clues.container.network {
        Network::None => help(
            "the step has no network: this container's `network` is \"none\"; fetch in another container, or write \
             network = \"default\"",
        ),
        Network::Default => help(
            "the step could not look a name up: see that the name is right, that the builder's machine has a resolver which \
             its containers reach, and whether a proxy is needed (proxies in docker's config.json); network = \"host\" \
             uses the machine's own network",
        ),
        Network::Host => help(
            "the step could not look a name up: see that the name is right, and that the builder's machine resolves it",
        ),
    })
}

fn certificates(clues: &Clues<'_>) -> Option<Remedy> {
    let http = ["server gave http response to https client"];
    if clues.says(&http) {
        return Some(help(
            "the registry speaks plain http: let the builder know it as an insecure one (insecure-registries of the \
             engine's daemon.json), or give the registry a certificate",
        ));
    }
    let texts = [
        "x509:",
        "certificate signed by unknown authority",
        "certificate verify failed",
        "certificate_verify_failed",
        "certificate problem",
        "unable to get local issuer certificate",
        "self-signed certificate",
        "self signed certificate",
        "certificate has expired",
    ];
    if clues.says(&texts) {
        return Some(help(
            "the builder does not trust that server: give it the authority's certificate \
             (/etc/docker/certs.d/HOST/ca.crt on the engine's machine), and see that its clock is right",
        ));
    }
    clues.logs(&texts).then(|| {
        help(
            "the image does not trust that server: install the package ca-certificates in it, or copy your authority's \
             certificate in and run update-ca-certificates; see that the builder's clock is right",
        )
    })
}

/// Rules of registries that a push runs into.
fn registry_rules(clues: &Clues<'_>) -> Option<Remedy> {
    if clues.says(&["is immutable"]) {
        return Some(help(
            "let the repository's tag immutability exclude the tags that move (the channels and `buildcache*`), and give \
             other content another name",
        ));
    }
    let denied = clues.says(&["403 forbidden"]) && clues.says(&[".dkr.ecr."]);
    denied.then(|| {
        help(
            "the principal needs ecr:BatchGetImage and GetDownloadUrlForLayer to pull, and ecr:BatchCheckLayerAvailability, \
             InitiateLayerUpload, UploadLayerPart, CompleteLayerUpload and PutImage to push, and the repository room for \
             another image (a quota)",
        )
    })
}

fn refused(clues: &Clues<'_>) -> Option<Remedy> {
    clues
        .says(&["connection refused", "i/o timeout", "deadline exceeded"])
        .then(|| {
            help(
                "see that the server runs, that its host and port are right, and that the builder reaches it",
            )
        })
}

fn killed(clues: &Clues<'_>) -> Option<Remedy> {
    let memory = ["cannot allocate memory", "out of memory"];
    if clues.says(&["exit code: 137", "cannot allocate memory"]) {
        let note = "137 is 128 + 9: the step was killed, most likely because memory ran out";
        return Some(noted(
            note,
            "build fewer containers at a time (--jobs 1), let the step do less at once (make -j, workers), or give the \
             builder more memory",
        ));
    }
    (clues.says(&["exit code: "]) && clues.logs(&memory)).then(|| {
        help("memory ran out: build fewer containers at a time (--jobs 1), or give the builder more of it")
    })
}

/// Images and programs that are not there.
fn not_found(clues: &Clues<'_>) -> Option<Remedy> {
    if clues.says(&["failed to resolve source metadata"]) && clues.says(&["not found"]) {
        return Some(help(
            "see the image's name, tag and platform: its registry does not have it",
        ));
    }
    clues.says(&["exit code: 127"]).then(|| {
        help(
            "127: a program was not found; install it in this stage or an earlier one of it, and see its name and PATH",
        )
    })
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::manifest::model::Platform;

    fn told(messages: &[(&str, &str)], container: &Container) -> String {
        let mut text = String::new();
        for (message, line) in messages {
            let log = [(*line).to_owned()];
            let clues = Clues {
                message,
                log: &log,
                container,
                builder: "docker engine 28 at unix:///x",
            };
            let _ = writeln!(text, "{message} | {line}.");
            let Some(remedy) = find(&clues) else {
                text.push_str("  no remedy\n");
                continue;
            };
            let _ = remedy.note.map(|note| writeln!(text, "  note: {note}"));
            let _ = writeln!(text, "  help: {}", remedy.help);
        }
        text
    }

    fn container() -> Container {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("Dockerfile"), "FROM scratch\n").unwrap();
        let text = "version = 1\n[registry]\nprovider = \"oci\"\nhost = \"r.local\"\n[containers.a]\ncontext = \".\"\n";
        let path = folder.path().join("containers.toml");
        std::fs::write(&path, text).unwrap();
        let (manifest, _) = crate::manifest::load(&path, "containers.toml").unwrap();
        manifest.containers["a"].clone()
    }

    #[test]
    fn each_kind_of_failure_has_its_remedy() {
        let exit = "process \"/bin/sh -c x\" did not complete successfully: exit code:";
        let one = format!("{exit} 1");
        let messages = [
            ("secret pip: not found", ""),
            ("failed to load LLB: network.host is not allowed", ""),
            (
                "granting entitlement security.insecure is not allowed by build daemon configuration",
                "",
            ),
            (&one, "exec /bin/sh: exec format error"),
            (&one, "dd: error writing 'x': No space left on device"),
            ("a:1: failed to do request: 429 Too Many Requests", ""),
            (
                "dial tcp: lookup r.example on 10.0.0.2:53: no such host",
                "",
            ),
            (&one, "curl: (6) Could not resolve host: example.com"),
            (
                "tls: failed to verify certificate: x509: certificate signed by unknown authority",
                "",
            ),
            (&one, "SSL: CERTIFICATE_VERIFY_FAILED"),
            (&format!("{exit} 137"), ""),
            (&format!("{exit} 127"), "/bin/sh: foo: not found"),
            (
                "r.local/a:1: failed to resolve source metadata for r.local/a:1: not found",
                "",
            ),
            (&one, "something else"),
        ];
        insta::assert_snapshot!(told(&messages, &container()), @r#"
    secret pip: not found | .
      help: give the container the secret: secrets = [{ id = "pip", env = "VARIABLE" }]
    failed to load LLB: network.host is not allowed | .
      help: a step of the Dockerfile asks for it: allow it with entitlements = ["network.host"]
    granting entitlement security.insecure is not allowed by build daemon configuration | .
      help: let the builder grant it: security-insecure in `builder.entitlements` of an engine's daemon.json, security.insecure in `insecure-entitlements` of a buildkitd.toml; the container that skiff makes grants network.host only, so name a builder of your own (--builder)
    process "/bin/sh -c x" did not complete successfully: exit code: 1 | exec /bin/sh: exec format error.
      note: the step runs a program that is not for the builder's processor; the image is built for linux/amd64
      help: build where the processor is that one, or install emulation on the builder's machine (docker run --privileged --rm tonistiigi/binfmt --install amd64); if the platform is the builder's own, the program is for another one, or a script without `#!`
    process "/bin/sh -c x" did not complete successfully: exit code: 1 | dd: error writing 'x': No space left on device.
      note: there is no room left on the builder: docker engine 28 at unix:///x
      help: free space there: `docker system df` shows what an engine holds, `docker builder prune` lets go of its build cache, `buildctl prune` of that of any other BuildKit; if only /dev/shm was full, raise `shm_size`
    a:1: failed to do request: 429 Too Many Requests | .
      help: the registry limits how often it is asked: wait, log in to it (an account has a higher limit), or keep the base image in a registry of your own
    dial tcp: lookup r.example on 10.0.0.2:53: no such host | .
      help: the builder could not look the name up: see that it is right, and that the builder's machine resolves it (a proxy, a VPN, its resolv.conf)
    process "/bin/sh -c x" did not complete successfully: exit code: 1 | curl: (6) Could not resolve host: example.com.
      help: the step could not look a name up: see that the name is right, that the builder's machine has a resolver which its containers reach, and whether a proxy is needed (proxies in docker's config.json); network = "host" uses the machine's own network
    tls: failed to verify certificate: x509: certificate signed by unknown authority | .
      help: the builder does not trust that server: give it the authority's certificate (/etc/docker/certs.d/HOST/ca.crt on the engine's machine), and see that its clock is right
    process "/bin/sh -c x" did not complete successfully: exit code: 1 | SSL: CERTIFICATE_VERIFY_FAILED.
      help: the image does not trust that server: install the package ca-certificates in it, or copy your authority's certificate in and run update-ca-certificates; see that the builder's clock is right
    process "/bin/sh -c x" did not complete successfully: exit code: 137 | .
      note: 137 is 128 + 9: the step was killed, most likely because memory ran out
      help: build fewer containers at a time (--jobs 1), let the step do less at once (make -j, workers), or give the builder more memory
    process "/bin/sh -c x" did not complete successfully: exit code: 127 | /bin/sh: foo: not found.
      help: 127: a program was not found; install it in this stage or an earlier one of it, and see its name and PATH
    r.local/a:1: failed to resolve source metadata for r.local/a:1: not found | .
      help: see the image's name, tag and platform: its registry does not have it
    process "/bin/sh -c x" did not complete successfully: exit code: 1 | something else.
      no remedy
    "#);
    }

    #[test]
    fn the_container_s_own_settings_come_into_it() {
        let mut container = container();
        container.network = Network::None;
        container.platforms.push(Platform {
            os: "linux".into(),
            architecture: "arm64".into(),
            variant: None,
        });
        let messages = [
            ("exit code: 1", "wget: bad address 'example.com'"),
            ("exit code: 255", "exec /bin/sh: exec format error"),
            ("exit code: 127", "/server: line 1: ELF\u{fffd}: not found"),
        ];
        let text = told(&messages, &container);
        assert_eq!(text.matches("not for the builder's processor").count(), 2);
        assert!(text.contains("`network` is \"none\""), "{text}");
        assert!(text.contains("for linux/amd64, linux/arm64"), "{text}");
        assert!(text.contains("--install amd64,arm64"), "{text}");
    }
}
