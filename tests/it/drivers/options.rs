//! What a build is given beside its files is the same with every driver.

use std::fmt::Write as _;

use serde_json::Value;

use super::table::Driven;
use super::{good, says};
use crate::support::registry::{config, manifest};
use crate::support::stack;
use crate::support::workspace::{Ended, Workspace, ended};

/// A container that shows an option: its Dockerfile, its keys in the manifest, and what its step prints or its failure says.
struct Shown {
    name: &'static str,
    dockerfile: String,
    keys: &'static str,
    says: Vec<String>,
}

/// `NONCE` in a Dockerfile stands for a word that no engine has seen, so that its steps run.
fn shown<const N: usize>(
    name: &'static str,
    dockerfile: &str,
    keys: &'static str,
    says: [&str; N],
) -> Shown {
    let nonce = format!("n{}", fastrand::u64(..));
    Shown {
        name,
        dockerfile: dockerfile.replace("NONCE", &nonce),
        keys,
        says: says.map(str::to_owned).into(),
    }
}

/// Those that are built.
fn built() -> Vec<Shown> {
    let network = std::fs::read_link("/proc/self/ns/net").unwrap();
    let network = network.display().to_string();
    // The very same step twice: a builder would run it once, with the value of either.
    let secret = format!(
        "FROM BUSYBOX\nRUN --mount=type=secret,id=t echo {} && wc -c < /run/secrets/t | sed s/^/bytes-/\n",
        fastrand::u64(..)
    );
    vec![
        shown(
            "target",
            "FROM BUSYBOX AS first\nRUN echo NONCE first-stage\nFROM BUSYBOX\nRUN exit 1\n",
            "target = \"first\"",
            ["first-stage"],
        ),
        shown(
            "args",
            "FROM BUSYBOX\nARG WHO=nobody\nRUN echo NONCE who-is-$WHO\n",
            "args = { WHO = \"somebody\" }",
            ["who-is-somebody"],
        ),
        shown(
            "secret-a",
            &secret,
            "secrets = [{ id = \"t\", env = \"FIVE\" }]",
            ["bytes-5"],
        ),
        shown(
            "secret-b",
            &secret,
            "secrets = [{ id = \"t\", env = \"SEVEN\" }]",
            ["bytes-7"],
        ),
        shown(
            "network-none",
            "FROM BUSYBOX\nRUN echo NONCE $(ls /sys/class/net | wc -l)-interface\n",
            "network = \"none\"",
            ["1-interface"],
        ),
        shown(
            "network-host",
            "FROM BUSYBOX\nRUN echo NONCE && readlink /proc/self/ns/net\n",
            "network = \"host\"",
            [&network],
        ),
        shown(
            "step-host",
            "FROM BUSYBOX\nRUN --network=host echo NONCE && readlink /proc/self/ns/net\n",
            "entitlements = [\"network.host\"]",
            [&network],
        ),
        shown(
            "hosts-and-limits",
            "FROM BUSYBOX\nRUN echo NONCE && grep db.internal /etc/hosts && df -k /dev/shm && echo files-$(ulimit -n)-$(ulimit -Hn)\n",
            "extra_hosts = { \"db.internal\" = \"10.0.0.8\" }\nshm_size = \"123m\"\nulimits = { nofile = \"1234:2345\" }",
            ["10.0.0.8", "125952", "files-1234-2345"],
        ),
        shown(
            "labels",
            "FROM BUSYBOX\nLABEL team=nobody\n",
            "labels = { team = \"ml\", \"org.example.x\" = \"a, \\\"b\\\"\" }",
            [],
        ),
        shown(
            "no-cache",
            "FROM BUSYBOX AS fresh\nRUN echo NONCE fresh > /x\nFROM BUSYBOX\nRUN echo NONCE kept > /y\nCOPY --from=fresh /x /x\n",
            "no_cache_filter = [\"fresh\"]",
            [],
        ),
    ]
}

/// Lines of the output that a container's steps printed.
fn printed<'a>(ended: &'a Ended, name: &str) -> Vec<&'a str> {
    let lines = ended.stderr.lines();
    let of_this = |line: &&str| line.split_whitespace().nth(1) == Some(name);
    lines.filter(of_this).collect()
}

/// Whether the step whose text has this word was taken from the builder's cache.
fn cached(ended: &Ended, name: &str, word: &str) -> bool {
    let lines = printed(ended, name);
    let step = lines.iter().find(|line| line.contains(word)).unwrap();
    let number = step.split_whitespace().nth(2).unwrap();
    lines
        .iter()
        .any(|line| line.contains(&format!("{number} cached")))
}

#[test]
fn every_driver_gives_a_build_its_options() {
    let prefix = Workspace::new().prefix.clone();
    for driven in Driven::all(&prefix) {
        let all = built();
        let containers: Vec<_> = all.iter().map(|c| (c.name, &*c.dockerfile)).collect();
        let workspace = Workspace::with(&containers);
        let mut tables = driven.manifest.clone();
        for container in &all {
            write!(
                tables,
                "[containers.{}]\n{}\n",
                container.name, container.keys
            )
            .unwrap();
        }
        workspace.manifest(&tables);
        workspace.commit();
        let deploy = |release: &str| {
            let mut command = driven.skiff(
                &workspace,
                &["deploy", "--all", "-vv", "--release", release],
            );
            command.env("FIVE", "hunt5").env("SEVEN", "hunter7");
            let ended = ended(command);
            good(&ended, &[&format!("(driver {}: builder.", driven.name)]);
            ended
        };
        let first = deploy("r1");
        for container in &all {
            let lines = printed(&first, container.name);
            for text in &container.says {
                let said = lines.iter().any(|line| line.contains(text));
                assert!(
                    said,
                    "{}, {}: no {text:?} in {lines:?}",
                    driven.name, container.name
                );
            }
        }
        assert!(!first.stderr.contains("hunt"), "{}", first.stderr);
        let labels = &config(&workspace.repository("labels"), "r1")["config"]["Labels"];
        assert_eq!(labels["team"], "ml", "{}", driven.name);
        assert_eq!(labels["org.example.x"], "a, \"b\"", "{}", driven.name);

        let second = deploy("r2");
        let cached = |word| cached(&second, "no-cache", word);
        assert!(
            !cached("fresh >") && cached("kept >"),
            "{}: {}",
            driven.name,
            second.stderr
        );
    }
}

#[test]
fn every_driver_says_which_entitlement_is_missing_and_where() {
    let prefix = Workspace::new().prefix.clone();
    let asked = shown(
        "asked",
        "FROM BUSYBOX\nRUN echo NONCE\n",
        "entitlements = [\"security.insecure\"]",
        [],
    );
    let host = shown(
        "host",
        "FROM BUSYBOX\nRUN --network=host echo NONCE\n",
        "",
        [],
    );
    for driven in Driven::all(&prefix) {
        let workspace =
            Workspace::with(&[("asked", &asked.dockerfile), ("host", &host.dockerfile)]);
        workspace.manifest(&format!(
            "{}[containers.asked]\n{}\n",
            driven.manifest, asked.keys
        ));
        workspace.commit();
        let ended = driven.run(&workspace, &["deploy", "--all", "--keep-going"]);
        assert_eq!(ended.code, 1, "{}\n{}", ended.stdout, ended.stderr);
        // The stack's engine grants the host's network, as engines do, and nothing else.
        says(
            &ended,
            &[
                "security.insecure is not allowed",
                "let the builder grant it",
                "network.host is not allowed",
                "entitlements = [\"network.host\"]",
            ],
        );
    }
}

/// A generator of SBOMs, as BuildKit runs it (`docs/attestations/sbom-protocol.md`): it finds nothing in any image.
fn generator(prefix: &str) -> String {
    let name = format!("{}/{prefix}/generator:1", stack::registry());
    let folder = tempfile::tempdir().unwrap();
    let scan = "#!/bin/sh\necho '{\"_type\": \"https://in-toto.io/Statement/v0.1\", \"predicateType\": \"https://spdx.dev/Document\", \
                \"predicate\": {\"SPDXID\": \"SPDXRef-DOCUMENT\"}}' > \"$BUILDKIT_SCAN_DESTINATION/all.spdx.json\"\n";
    let write = |file: &str, text: &str| std::fs::write(folder.path().join(file), text).unwrap();
    write("scan", scan);
    let base = format!("{}/busybox:1", stack::registry());
    write(
        "Dockerfile",
        &format!("FROM {base}\nCOPY --chmod=755 scan /bin/\nENTRYPOINT [\"/bin/scan\"]\n"),
    );
    let output = format!("--output=type=image,name={name},push=true,store=false");
    let path = folder.path().display().to_string();
    stack::docker(&[
        "buildx",
        "build",
        "--builder=default",
        "--provenance=false",
        &output,
        &path,
    ]);
    name
}

#[test]
fn every_driver_attests_what_profile_oci_asks_for() {
    let prefix = Workspace::new().prefix.clone();
    let generator = generator(&prefix);
    for driven in Driven::all(&prefix) {
        let etl = shown("etl", "FROM BUSYBOX\nRUN echo NONCE > /x\n", "", []);
        let workspace = Workspace::with(&[("etl", &etl.dockerfile)]);
        workspace.manifest(&format!(
            "{}[containers.etl]\nprofile = \"oci\"\nargs = {{ BUILDKIT_ATTEST_SBOM = \"generator={generator}\" }}\n",
            driven.manifest
        ));
        workspace.commit();
        good(
            &driven.run(&workspace, &["deploy", "--release", "r1"]),
            &["latest moved"],
        );
        let repository = workspace.repository("etl");
        let index = manifest(&repository, "r1").unwrap();
        let entries = index["manifests"].as_array().unwrap();
        let attested = entries.iter().find(|entry| {
            entry["annotations"]["vnd.docker.reference.type"] == "attestation-manifest"
        });
        let attested = attested.unwrap()["digest"].as_str().unwrap();
        let statements = manifest(&repository, attested).unwrap();
        let kind = |layer: &Value| layer["annotations"]["in-toto.io/predicate-type"].to_string();
        let kinds: Vec<_> = statements["layers"]
            .as_array()
            .unwrap()
            .iter()
            .map(kind)
            .collect();
        let has = |text: &str| kinds.iter().any(|kind| kind.contains(text));
        assert!(
            has("spdx.dev/Document") && has("slsa.dev/provenance"),
            "{}: {kinds:?}",
            driven.name
        );
    }
}
