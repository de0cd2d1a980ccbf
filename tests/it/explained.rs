//! What a failure says beside the builder's own words: why, and what to do.

use crate::support::base64;
use crate::support::gate::{Answer, Gate, Rule};
use crate::support::guarded::{GuardedRegistry, Tls, USER};
use crate::support::stack;
use crate::support::workspace::{Ended, Workspace, ended};

fn fails(ended: &Ended, texts: &[&str]) {
    assert_eq!(ended.code, 1, "{}\n{}", ended.stdout, ended.stderr);
    for text in texts {
        assert!(
            ended.stderr.contains(text),
            "{text:?} is missing in:\n{}",
            ended.stderr
        );
    }
}

/// The failure of one container whose Dockerfile this is, in a context with these files.
fn failure(dockerfile: &str, files: &[(&str, &str)]) -> Ended {
    let workspace = Workspace::with(&[("etl", dockerfile)]);
    for (path, text) in files {
        workspace.write(&format!("containers/etl/{path}"), text);
    }
    workspace.commit();
    workspace.run(&["deploy"])
}

#[test]
fn a_source_that_an_ignore_file_excludes_names_its_line() {
    let ended = failure(
        "FROM BUSYBOX\nCOPY data/a.txt secrets/key.pem /x/\n",
        &[
            ("data/a.txt", "a"),
            ("secrets/key.pem", "k"),
            (".dockerignore", "# comment\n*.log\nsecrets\n"),
        ],
    );
    fails(
        &ended,
        &[
            "containers/etl/Dockerfile:2",
            "`secrets/key.pem` is in containers/etl, and containers/etl/.dockerignore:3 (`secrets`) excludes it",
            "add `!secrets/key.pem` below it",
        ],
    );
    let ended = failure(
        "FROM BUSYBOX\nCOPY a.py /\n",
        &[
            ("a.py", "a"),
            (".dockerignore", ""),
            ("Dockerfile.dockerignore", "**/*.py\n"),
        ],
    );
    fails(
        &ended,
        &["containers/etl/Dockerfile.dockerignore:1 (`**/*.py`) excludes it"],
    );
}

#[test]
fn a_source_that_is_not_there_names_the_nearest_that_is() {
    let files = [("src/main.py", "m"), ("requirements.txt", "r")];
    let ended = failure("FROM BUSYBOX\nCOPY src/mian.py /\n", &files);
    fails(
        &ended,
        &[
            "there is no `src/mian.py` in containers/etl, the build context",
            "did you mean `src/main.py`?",
        ],
    );
    let ended = failure("FROM BUSYBOX\nCOPY app/requirements.txt /\n", &files);
    fails(&ended, &["did you mean `requirements.txt`?"]);
    let ended = failure("FROM BUSYBOX\nCOPY ../libs/common /\n", &files);
    fails(&ended, &["nothing above the context can be copied"]);
    let ended = failure(
        "FROM BUSYBOX\nRUN --mount=type=bind,source=scr,target=/x ls /x\n",
        &files,
    );
    fails(
        &ended,
        &["containers/etl/Dockerfile:2", "did you mean `src`?"],
    );
}

#[test]
fn a_source_in_a_stage_or_a_named_context_is_looked_for_there() {
    let ended = failure(
        "FROM BUSYBOX AS tools\nFROM BUSYBOX\nCOPY --from=tools /nope /\n",
        &[("nope", "")],
    );
    fails(
        &ended,
        &["`nope` is looked for in `tools`, a stage or an image, not in the build context"],
    );
    let workspace = Workspace::with(&[("etl", "FROM BUSYBOX\nCOPY --from=common a.key /\n")]);
    workspace.write("libs/common/a.key", "");
    workspace.write("libs/common/.dockerignore", "*.key\n");
    workspace.manifest("[containers.etl]\ncontexts = { common = \"libs/common\" }\n");
    workspace.commit();
    fails(
        &workspace.run(&["deploy"]),
        &["`a.key` is in libs/common, and libs/common/.dockerignore:1 (`*.key`) excludes it"],
    );
}

#[test]
fn a_program_for_another_processor() {
    // The head of an ELF file for 64-bit ARM.
    let head = r"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0\x01\0\0\0";
    // By the kernel, and by a shell that takes it for a script.
    for run in ["[\"/bad\"]", "/bad"] {
        let ended = failure(
            &format!(
                "FROM BUSYBOX\nRUN printf '{head}' > /bad && head -c 200 /dev/zero >> /bad && chmod +x /bad\nRUN {run}\n"
            ),
            &[],
        );
        fails(
            &ended,
            &[
                "containers/etl/Dockerfile:3",
                "not for the builder's processor; the image is built for linux/amd64",
                "binfmt --install amd64",
            ],
        );
    }
}

#[test]
fn a_pull_that_is_denied_says_which_credentials_were_tried() {
    let registry = GuardedRegistry::start();
    let workspace = Workspace::with(&[("etl", &format!("FROM {}/base:1\n", registry.host()))]);
    fails(
        &workspace.run(&["deploy"]),
        &[
            "containers/etl/Dockerfile:1",
            "was asked without credentials:",
            "config.json has none for it",
            &format!("docker login {}", registry.host()),
        ],
    );
    let wrong = base64(&format!("{USER}:hunter2-not-the-password"));
    let config = format!(
        "{{\"auths\": {{\"{}\": {{\"auth\": \"{wrong}\"}}}}}}",
        registry.host()
    );
    workspace.write(".git/docker/config.json", config);
    let mut command = workspace.skiff(&["deploy"]);
    command.env("DOCKER_CONFIG", workspace.root().join(".git/docker"));
    let ended = ended(command);
    fails(
        &ended,
        &[
            "was given credentials from auths in",
            "and did not let them in",
        ],
    );
    assert!(!ended.stderr.contains("hunter2") && !ended.stderr.contains(&wrong));
}

#[test]
fn a_registry_that_limits_pulls() {
    let gate = Gate::start(&[Rule {
        method: "HEAD",
        path: "/busybox/manifests/",
        from: 1,
        times: u64::MAX,
        answer: Answer::Status(429),
    }]);
    let ended = failure(&format!("FROM {}/busybox:1\n", gate.host()), &[]);
    fails(
        &ended,
        &["429 Too Many Requests", "limits how often it is asked"],
    );
}

#[test]
fn names_that_nobody_knows() {
    let ended = failure("FROM nowhere.invalid/a/b:1\n", &[]);
    fails(
        &ended,
        &["no such host", "the builder could not look the name up"],
    );
    let step = "FROM BUSYBOX\nRUN wget http://nowhere.invalid/\n";
    let ended = failure(step, &[]);
    fails(
        &ended,
        &["bad address", "the step could not look a name up"],
    );
    let workspace = Workspace::with(&[("etl", step)]);
    workspace.manifest("[containers.etl]\nnetwork = \"none\"\n");
    workspace.commit();
    fails(
        &workspace.run(&["deploy"]),
        &["the step has no network: this container's `network` is \"none\""],
    );
}

#[test]
fn a_step_that_is_killed_or_has_no_room() {
    let ended = failure("FROM BUSYBOX\nRUN sh -c 'kill -9 $$' || exit $?\n", &[]);
    fails(&ended, &["exit code: 137", "memory ran out", "--jobs 1"]);
    let ended = failure(
        "FROM BUSYBOX\nRUN dd if=/dev/zero of=/dev/shm/x bs=1M count=999\n",
        &[],
    );
    fails(
        &ended,
        &[
            "No space left on device",
            "there is no room left on the builder: docker engine",
            "docker builder prune",
        ],
    );
    let ended = failure("FROM BUSYBOX\nRUN no-such-program\n", &[]);
    fails(&ended, &["exit code: 127", "a program was not found"]);
}

#[test]
fn a_server_that_the_image_does_not_trust() {
    let folder = tempfile::tempdir().unwrap();
    let tls = Tls::make(folder.path(), "localhost");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let _registry = GuardedRegistry::with_tls(&address, "", &tls);
    let url = address.replace("127.0.0.1", "localhost");
    let workspace = Workspace::with(&[(
        "etl",
        &format!(
            "FROM {}/python:3.11\nRUN python3 -c \"import urllib.request; urllib.request.urlopen('https://{url}/v2/')\"\n",
            stack::registry()
        ),
    )]);
    workspace.manifest("[containers.etl]\nnetwork = \"host\"\n");
    workspace.commit();
    fails(
        &workspace.run(&["deploy"]),
        &["CERTIFICATE_VERIFY_FAILED", "update-ca-certificates"],
    );
}
