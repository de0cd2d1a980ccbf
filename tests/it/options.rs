//! What a build is given beside its files: secrets, agents, hosts, limits, platforms, a time. `drivers/options.rs` runs over
//! every driver.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use crate::support::registry::{config, manifest, tags};
use crate::support::stack;
use crate::support::workspace::{Ended, Workspace, ended};

fn has(ended: &Ended, code: i32, texts: &[&str]) {
    let all = format!("{}{}", ended.stdout, ended.stderr);
    assert_eq!(ended.code, code, "{all}");
    for text in texts {
        assert!(all.contains(text), "{text:?} is missing in:\n{all}");
    }
    assert!(!all.contains("panicked"), "{all}");
}

/// A step that nobody has run before.
fn nonce() -> String {
    format!("nonce-{}", fastrand::u64(..))
}

fn sha256(text: &str) -> String {
    let script = format!("printf %s '{text}' | sha256sum");
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    String::from_utf8_lossy(&output.stdout)[..64].to_owned()
}

#[test]
fn two_containers_with_one_secret_id_get_each_its_own_value() {
    let nonce = nonce();
    // The very same step: a builder would run it once, with the value of either.
    let step = format!(
        "FROM BUSYBOX\nRUN --mount=type=secret,id=token echo {nonce} && sleep 1 && sha256sum < /run/secrets/token\n"
    );
    let workspace = Workspace::with(&[("one", &step), ("two", &step), ("too", &step)]);
    workspace.manifest(
        "[containers.one]\nsecrets = [{ id = \"token\", env = \"ONE_TOKEN\" }]\n\
         [containers.two]\nsecrets = [{ id = \"token\", file = \"secrets/two\" }]\n\
         [containers.too]\nsecrets = [{ id = \"token\", env = \"ONE_TOKEN\" }]\n",
    );
    workspace.write("secrets/two", "the-second-value");
    workspace.commit();
    let mut command = workspace.skiff(&["deploy", "-vv", "--jobs", "3", "--events", "events"]);
    command.env("ONE_TOKEN", "the-first-value");
    let ended = ended(command);
    has(&ended, 0, &[]);
    for (name, value) in [
        ("one", "the-first-value"),
        ("two", "the-second-value"),
        ("too", "the-first-value"),
    ] {
        let (name, hash) = (format!(" {name} #"), sha256(value));
        let printed = |line: &str| line.contains(&name) && line.contains(&hash);
        assert!(ended.stderr.lines().any(printed), "{}", ended.stderr);
    }
    let events = std::fs::read_to_string(workspace.root().join("events")).unwrap();
    for text in [&ended.stdout, &ended.stderr, &events] {
        assert!(!text.contains("the-first-value") && !text.contains("the-second-value"));
    }
}

#[test]
fn secrets_that_are_not_there_are_an_error_before_anything_is_built() {
    let workspace = Workspace::with(&[("etl", "FROM BUSYBOX\nRUN echo > /x\n")]);
    workspace.manifest(
        "[containers.etl]\nsecrets = [\n  { id = \"a\", env = \"NO_SUCH_VARIABLE\" },\n  { id = \"b\", file = \"no/such\" },\n  { id = \"c\", file = \"large\" },\n]\n",
    );
    workspace.write("large", vec![b'x'; (500 << 10) + 1]);
    workspace.commit();
    has(
        &workspace.run(&["deploy"]),
        2,
        &[
            "secret `a` of `etl` cannot be read: NO_SUCH_VARIABLE is not set",
            "containers.toml:10",
            "set NO_SUCH_VARIABLE",
            "secret `b` of `etl` cannot be read",
            "no/such: No such file",
            "containers.toml:11",
            "secret `c` of `etl` has more than 500 KiB",
        ],
    );
    assert!(tags(&workspace.repository("etl")).is_empty());
    // What does nothing needs no secrets.
    has(&workspace.run(&["deploy", "--dry-run"]), 0, &["etl"]);
}

#[test]
fn a_secret_that_is_not_given_fails_only_where_it_is_required() {
    let nonce = nonce();
    let workspace = Workspace::with(&[
        (
            "may",
            &format!(
                "FROM BUSYBOX\nRUN --mount=type=secret,id=x echo {nonce}; test ! -e /run/secrets/x\n"
            ),
        ),
        (
            "must",
            &format!("FROM BUSYBOX\nRUN --mount=type=secret,id=x,required=true echo {nonce}\n"),
        ),
    ]);
    workspace.deploy(&["may"]);
    has(
        &workspace.run(&["deploy", "must"]),
        1,
        &[
            "containers/must/Dockerfile:2",
            "secret x: not found",
            "env = \"VARIABLE\" }]",
        ],
    );
}

/// An agent with one key; ends when it is dropped.
struct Agent {
    folder: tempfile::TempDir,
    pid: String,
}

impl Agent {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = "cd \"$0\" && eval \"$(ssh-agent -a \"$0/agent.sock\")\" >&2 && ssh-keygen -q -t ed25519 -N '' -f key -C the-comment && ssh-add -q key && echo $SSH_AGENT_PID";
        let output = Command::new("sh")
            .args(["-c", script])
            .arg(folder.path())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let pid = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Self { folder, pid }
    }

    fn socket(&self) -> String {
        self.folder.path().join("agent.sock").display().to_string()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(&self.pid).status();
    }
}

/// Asks the agent for its keys, has one sign, and tries to remove them all; prints what came back.
const ASK: &str = r#"
import os, socket, struct
s = socket.socket(socket.AF_UNIX)
s.connect(os.environ["SSH_AUTH_SOCK"])
def ask(body):
    s.sendall(struct.pack(">I", len(body)) + body)
    size = struct.unpack(">I", s.recv(4, socket.MSG_WAITALL))[0]
    return s.recv(size, socket.MSG_WAITALL)
def field(data):
    return struct.pack(">I", len(data)) + data
keys = ask(bytes([11]))
size = struct.unpack(">I", keys[5:9])[0]
print("keys:", keys[0], b"the-comment" in keys)
print("remove all:", ask(bytes([19]))[0])
print("signed:", ask(bytes([13]) + field(keys[9:9 + size]) + field(b"data") + bytes(4))[0])
"#;

#[test]
fn a_step_may_list_and_use_the_keys_of_an_agent_and_change_nothing() {
    let agent = Agent::start();
    let nonce = nonce();
    let step = |id: &str| {
        format!(
            "FROM {}/python:3.11\nCOPY ask.py /\nRUN --mount=type=ssh{id} echo {nonce} && python3 /ask.py\n",
            stack::registry()
        )
    };
    let workspace = Workspace::with(&[("one", &step("")), ("two", &step(",id=git"))]);
    workspace.write("containers/one/ask.py", ASK);
    workspace.write("containers/two/ask.py", ASK);
    workspace.manifest(&format!(
        "[containers.one]\nssh = [\"default\"]\n[containers.two]\nssh = [\"git={}\"]\n",
        agent.socket()
    ));
    workspace.commit();
    let mut command = workspace.skiff(&["deploy"]);
    command.env("SSH_AUTH_SOCK", agent.socket());
    let ended = ended(command);
    has(&ended, 0, &[]);
    for line in ["keys: 12 True", "remove all: 5", "signed: 14"] {
        assert_eq!(ended.stderr.matches(line).count(), 2, "{}", ended.stderr);
    }
}

#[test]
fn an_agent_that_is_not_there_is_an_error_before_anything_is_built() {
    let workspace = Workspace::with(&[("etl", "FROM BUSYBOX\nRUN --mount=type=ssh echo\n")]);
    workspace.manifest("[containers.etl]\nssh = [\"default\", \"dead=dead.sock\", \"key=key\"]\n");
    workspace.write("key", "a private key");
    drop(UnixListener::bind(workspace.root().join("dead.sock")).unwrap());
    let mut command = workspace.skiff(&["deploy"]);
    command.env_remove("SSH_AUTH_SOCK");
    has(
        &ended(command),
        2,
        &[
            "no ssh agent `default` for container `etl`: SSH_AUTH_SOCK is not set",
            "containers.toml:9",
            "no ssh agent `dead` for container `etl`",
            "refused",
            "no ssh agent `key` for container `etl`",
            "key is not a socket",
            "ssh-add",
        ],
    );
    assert!(tags(&workspace.repository("etl")).is_empty());
}

#[test]
fn hosts_limits_and_shared_memory_are_the_step_s() {
    let workspace = Workspace::with(&[(
        "etl",
        &format!(
            "FROM BUSYBOX\nRUN echo {} && grep etl.internal /etc/hosts && df -k /dev/shm && ulimit -n\n",
            nonce()
        ),
    )]);
    workspace.manifest(
        "[defaults]\nextra_hosts = { \"db.internal\" = \"10.0.0.8\" }\nshm_size = \"123m\"\n\
         [containers.etl]\nextra_hosts = { \"etl.internal\" = \"fd00::7\" }\nulimits = { nofile = \"1234:2345\" }\n",
    );
    workspace.commit();
    has(&workspace.deploy(&[]), 0, &["fd00::7", "125952", "| 1234"]);
}

#[test]
fn a_stage_of_no_cache_filter_that_is_not_there_is_an_error() {
    let workspace = Workspace::with(&[("etl", "FROM BUSYBOX AS fresh\nFROM BUSYBOX\n")]);
    workspace.manifest("[containers.etl]\nno_cache_filter = [\"frsh\"]\n");
    has(
        &workspace.run(&["deploy", "--allow-dirty"]),
        2,
        &["has no stage `frsh`", "did you mean `fresh`?"],
    );
}

#[test]
fn a_named_context_may_be_an_image() {
    let workspace =
        Workspace::with(&[("etl", "FROM base\nCOPY --from=tools /bin/busybox /tool\n")]);
    let registry = stack::registry();
    workspace.manifest(&format!(
        "[containers.etl]\ncontexts = {{ base = \"docker-image://{registry}/busybox:1\", tools = \"docker-image://{registry}/busybox:1\" }}\n"
    ));
    workspace.commit();
    workspace.deploy(&["--release", "r1"]);
    assert!(tags(&workspace.repository("etl")).contains(&"r1".to_owned()));
}

#[test]
fn an_oci_image_may_have_several_platforms() {
    let workspace = Workspace::with(&[
        ("etl", "FROM scratch\nARG TARGETARCH\nCOPY x /$TARGETARCH\n"),
        ("child", "FROM etl\nCOPY --from=etl . /copy\n"),
    ]);
    workspace.write("containers/etl/x", "x");
    workspace.manifest(
        "[defaults]\nprofile = \"oci\"\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n",
    );
    workspace.commit();
    workspace.deploy(&["--release", "r1"]);
    for name in ["etl", "child"] {
        let index = manifest(&workspace.repository(name), "r1").unwrap();
        assert_eq!(
            index["mediaType"],
            "application/vnd.oci.image.index.v1+json"
        );
        let entries = index["manifests"].as_array().unwrap();
        // Two images, and the provenance of each.
        assert_eq!(entries.len(), 4, "{index}");
        for entry in &entries[..2] {
            let image = manifest(
                &workspace.repository(name),
                entry["digest"].as_str().unwrap(),
            )
            .unwrap();
            assert_eq!(
                image["layers"][0]["mediaType"],
                "application/vnd.oci.image.layer.v1.tar+zstd"
            );
        }
        let latest = manifest(&workspace.repository(name), "latest").unwrap();
        assert_eq!(latest, index);
    }
    // Both once more under the same name: it is of the same commit.
    workspace.deploy(&["--release", "r1"]);
    workspace.deploy(&["--release", "r2", "--platform", "linux/arm64"]);
    let index = manifest(&workspace.repository("etl"), "r2").unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2, "{index}");
}

#[test]
fn an_index_that_is_not_pushed_is_a_parent_too() {
    let workspace = Workspace::with(&[
        (
            "etl",
            "FROM scratch\nARG TARGETARCH\nCOPY Dockerfile /$TARGETARCH\n",
        ),
        ("child", "FROM etl\nCOPY --from=etl . /copy\n"),
    ]);
    workspace.manifest(
        "[defaults]\nprofile = \"oci\"\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n",
    );
    workspace.commit();
    has(
        &workspace.deploy(&["--no-push"]),
        0,
        &["nothing was pushed"],
    );
    assert!(tags(&workspace.repository("child")).is_empty());
}

#[test]
fn several_platforms_are_refused_where_no_index_is_run() {
    let workspace = Workspace::with(&[("etl", "FROM scratch\nCOPY Dockerfile /\n")]);
    workspace.manifest("[containers.etl]\nprofile = \"lambda\"\n");
    workspace.commit();
    has(
        &workspace.run(&["deploy", "--platform", "linux/amd64,linux/arm64"]),
        2,
        &[
            "`etl` cannot be built for several platforms",
            "Lambda runs no image index",
            "profile = \"oci\"",
        ],
    );
    workspace.manifest(
        "[defaults]\nprofile = \"sagemaker\"\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n",
    );
    has(
        &workspace.run(&["deploy", "--allow-dirty"]),
        2,
        &["containers.toml:10", "SageMaker runs no image index"],
    );
    workspace.manifest("[containers.etl]\nprofile = \"lambda\"\n");
    workspace.deploy(&["--release", "r1", "--platform", "linux/arm64"]);
    let config = config(&workspace.repository("etl"), "r1");
    assert_eq!(config["architecture"], "arm64");
}

#[test]
fn one_time_makes_one_digest() {
    for profile in ["docker", "oci"] {
        let dockerfile = format!(
            "FROM BUSYBOX\nRUN date +%s%N > /dev/null; echo {} > /x\nCOPY Dockerfile /y\n",
            nonce()
        );
        let workspace = Workspace::with(&[("etl", &dockerfile)]);
        workspace.manifest(&format!(
            "[defaults]\nprofile = \"{profile}\"\n[containers.etl]\nno_cache_filter = [\"all\"]\n[cache]\nbackend = \"none\"\n"
        ));
        workspace.dockerfile("etl", &dockerfile.replace("BUSYBOX\n", "BUSYBOX AS all\n"));
        workspace.commit();
        let built = |release: &str| {
            let mut command = workspace.skiff(&["deploy", "--all", "--release", release]);
            command.env("SOURCE_DATE_EPOCH", "1700000000");
            has(&ended(command), 0, &[]);
            manifest(&workspace.repository("etl"), release).unwrap()
        };
        let first = built("r1");
        std::thread::sleep(std::time::Duration::from_millis(1100));
        assert_eq!(first, built("r2"), "{profile}");
        let config = config(&workspace.repository("etl"), "r1");
        assert_eq!(config["created"], "2023-11-14T22:13:20Z");
    }
    let workspace = Workspace::with(&[("etl", "FROM BUSYBOX\n")]);
    let mut command = workspace.skiff(&["deploy"]);
    command.env("SOURCE_DATE_EPOCH", "yesterday");
    has(&ended(command), 2, &["SOURCE_DATE_EPOCH", "`yesterday`"]);
}

#[test]
fn proxies_of_the_docker_config_are_what_buildx_passes() {
    let dockerfile = format!(
        "FROM {}/busybox:1\nRUN env | grep -i proxy | sort | sed s/^/proxy-line:/\n",
        stack::registry()
    );
    let workspace = Workspace::with(&[("etl", &dockerfile)]);
    workspace.manifest("[containers.etl]\nargs = { HTTPS_PROXY = \"of-the-manifest\" }\nno_cache_filter = [\"all\"]\n");
    workspace.dockerfile("etl", &dockerfile.replace(":1\n", ":1 AS all\n"));
    workspace.commit();
    let plugins = std::fs::read_to_string(
        std::path::Path::new(&stack::variables()["DOCKER_CONFIG"]).join("config.json"),
    );
    let mut config: serde_json::Value = serde_json::from_str(&plugins.unwrap()).unwrap();
    let proxies = serde_json::json!({
        "httpProxy": "http://user:hunter2@proxy:1", "httpsProxy": "http://proxy:2",
        "noProxy": "a,b", "ftpProxy": "f", "allProxy": "all",
    });
    let engine = stack::variables()["DOCKER_HOST"].as_str();
    let lines = |text: &str| -> Vec<String> {
        let lines = text
            .lines()
            .filter_map(|line| Some(line.split_once("proxy-line:")?.1.to_owned()));
        lines.filter(|line| line.contains('=')).collect()
    };
    for name in ["default", engine] {
        config["proxies"][name] = proxies.clone();
        config["proxies"]["default"]["noProxy"] = "c".into();
        workspace.write(".git/docker/config.json", config.to_string());
        let folder = workspace.root().join(".git/docker");
        let mut command = workspace.skiff(&["build", "--release", &nonce()]);
        command.env("DOCKER_CONFIG", &folder);
        let ours = ended(command);
        has(&ours, 0, &[]);
        let theirs = Command::new("docker")
            .args(["buildx", "build", "--progress=plain", "--no-cache"])
            .args(["--build-arg", "HTTPS_PROXY=of-the-manifest"])
            .arg(workspace.root().join("containers/etl"))
            .envs(stack::variables())
            .env("DOCKER_CONFIG", &folder)
            .output()
            .unwrap();
        let theirs = lines(&String::from_utf8_lossy(&theirs.stderr));
        assert!(theirs.len() == 8, "{theirs:?}");
        assert_eq!(lines(&ours.stderr), theirs, "{}", ours.stderr);
    }
    // They are no part of the image.
    let config = config_text(&workspace);
    assert!(!config.contains("hunter2"), "{config}");
}

/// What the engine's BuildKit keeps of builds.
fn history() -> String {
    let home = Path::new(&stack::variables()["SKIFF_DEV_HOME"]);
    let path = home.join("docker/buildkit/history_c8d.db");
    String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
}

#[test]
fn a_proxys_password_is_in_no_history_of_the_builder() {
    let workspace = Workspace::with(&[("etl", "FROM BUSYBOX\n"), ("train", "FROM BUSYBOX\n")]);
    let password = nonce();
    let repository =
        |container| format!("{}/{}", stack::registry(), workspace.repository(container));
    for (container, proxy) in [
        ("etl", "http://proxy"),
        ("train", &format!("http://me:{password}@proxy")),
    ] {
        let config = serde_json::json!({ "proxies": { "default": { "httpProxy": proxy } } });
        workspace.write(".git/docker/config.json", config.to_string());
        let mut command = workspace.skiff(&["build", container, "--builder", "docker"]);
        command.env("DOCKER_CONFIG", workspace.root().join(".git/docker"));
        has(&ended(command), 0, &[]);
    }
    let history = history();
    assert!(history.contains(&repository("etl")));
    assert!(!history.contains(&repository("train")));
    assert!(!history.contains(&password));
}

fn config_text(workspace: &Workspace) -> String {
    let repository = workspace.repository("etl");
    let name = tags(&repository)
        .into_iter()
        .find(|tag| tag.starts_with("nonce"));
    config(&repository, &name.unwrap()).to_string()
}
