//! `skiff inputs`: the key of a container and all that it is made of, whoever can be asked.

use std::process::Command;

use serde_json::Value;

use crate::support::aws::{Answer, Api};
use crate::support::registry::{all_tags, config, digest, get};
use crate::support::stack;
use crate::support::workspace::{Workspace, ended};

/// What `skiff inputs NAME --format json` prints.
fn inputs(mut command: Command) -> (Value, String) {
    command.args(["--format", "json"]);
    let ended = ended(command);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    (serde_json::from_str(&ended.stdout).unwrap(), ended.stderr)
}

fn names(object: &Value) -> Vec<&str> {
    object
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

#[test]
fn the_key_and_its_inputs_are_those_of_the_image() {
    let workspace = Workspace::with(&[
        ("base", "FROM BUSYBOX\nCOPY base.txt /\n"),
        (
            "etl",
            "FROM base\nARG TOKEN\nCOPY src /src\nCOPY --from=BUSYBOX /bin/busybox /b\nRUN --mount=type=secret,id=pip true\n",
        ),
    ]);
    workspace.write("containers/base/base.txt", "1");
    workspace.write("containers/etl/src/main.py", "1");
    workspace.write("containers/etl/notes.txt", "1");
    workspace.write("libs/a", "1");
    workspace.manifest(
        "[containers.etl]\nargs = { TOKEN = \"hunter2-argument\" }\nlabels = { team = \"hunter2-label\" }\n\
         contexts = { libs = \"libs\" }\nextra_inputs = [\"libs/**\"]\nsecrets = [{ id = \"pip\", env = \"PIP\" }]\n",
    );
    workspace.commit();
    let skiff = |arguments: &[&str]| {
        let mut command = workspace.skiff(arguments);
        command.env("PIP", "hunter2-secret");
        command
    };
    let (before, _) = inputs(skiff(&["inputs", "etl"]));
    let deployed = ended(skiff(&["deploy", "--all", "--release", "r1"]));
    assert_eq!(deployed.code, 0, "{}", deployed.stderr);
    let (after, said) = inputs(skiff(&["inputs", "etl"]));
    assert_eq!(before, after);
    assert_eq!(said, "");

    let key = after["key"].as_str().unwrap();
    let repository = workspace.repository("etl");
    assert!(all_tags(&repository).contains(&format!("key-{key}")));
    let labels = config(&repository, "r1")["config"]["Labels"].clone();
    let label: Value = serde_json::from_str(labels["skiff.inputs"].as_str().unwrap()).unwrap();
    assert_eq!(after["inputs"], label);
    let base = digest(&get(stack::registry(), "/v2/busybox/manifests/1").1);
    let busybox = format!("image:{}/busybox:1", stack::registry());
    let found = names(&after["inputs"]);
    for input in [
        "arg:TOKEN",
        "attribute:platform",
        "context",
        "context:libs",
        "dockerfile",
        "exporter:compression",
        "extra_inputs",
        "label:team",
        "parent:base",
        &busybox,
    ] {
        assert!(found.contains(&input), "{input}: {found:?}");
    }
    assert_eq!(after["inputs"][&busybox], base);
    assert_eq!(after["unknown"], Value::Array(vec![]));

    let human = ended(skiff(&["inputs", "etl"]));
    for text in [
        format!("key {key}\n"),
        format!("{busybox}  {base}"),
        "src/main.py".to_owned(),
        "notes.txt".to_owned(),
    ] {
        assert!(human.stdout.contains(&text), "{text}:\n{}", human.stdout);
    }
    for text in [&human.stdout, &after.to_string()] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn where_no_registry_answers_all_the_rest_is_listed() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = format!("localhost:{}", free.local_addr().unwrap().port());
    drop(free);
    let workspace = Workspace::with(&[
        ("base", &format!("FROM {host}/python:3.11\n")),
        ("etl", "FROM base\nCOPY main.py /\n"),
        ("always", "FROM scratch\nADD https://example.com/x /\n"),
    ]);
    workspace.write("containers/etl/main.py", "1");
    workspace.manifest_for(&host, "");
    workspace.commit();
    let (base, _) = inputs(workspace.skiff(&["inputs", "base"]));
    assert_eq!(base["key"], Value::Null);
    let input = format!("image:{host}/python:3.11");
    assert_eq!(base["unknown"][0]["input"], input);
    let why = base["unknown"][0]["why"].as_str().unwrap();
    assert!(why.contains("refused"), "{why}");
    assert!(!names(&base["inputs"]).contains(&input.as_str()));

    let (etl, _) = inputs(workspace.skiff(&["inputs", "etl"]));
    assert_eq!(etl["unknown"][0]["input"], "parent:base");
    assert!(names(&etl["inputs"]).contains(&"context"));
    assert_eq!(etl["contexts"][0]["files"][1]["path"], "main.py");

    let human = workspace.run(&["inputs", "base"]);
    assert_eq!(human.code, 0, "{}", human.stderr);
    assert!(
        human.stdout.starts_with("no key: its base image"),
        "{}",
        human.stdout
    );
    assert!(
        human.stdout.contains(&format!("{input}  not known")),
        "{}",
        human.stdout
    );

    // One that never has a key says so, and lists its inputs.
    let (always, _) = inputs(workspace.skiff(&["inputs", "always"]));
    let why = always["unknown"][0]["why"].as_str().unwrap();
    assert!(why.contains("--checksum"), "{why}");
    assert!(names(&always["inputs"]).contains(&"dockerfile"));
}

#[test]
fn where_aws_says_no_the_registry_is_not_known_and_all_the_rest_is_listed() {
    let workspace = Workspace::with(&[("etl", "FROM BUSYBOX\nCOPY main.py /\n")]);
    workspace.write("containers/etl/main.py", "1");
    workspace.write(
        "containers.toml",
        "version = 1\n[registry]\nrepository = \"team/{name}\"\n[discover]\nroots = [\"containers/*\"]\n\
         [defaults]\ntags = [\"{branch}\"]\n",
    );
    let api = Api::start(|_, _| Answer::Error("AccessDeniedException", "you may not"));
    let mut skiff = workspace.skiff(&["inputs", "etl"]);
    skiff.env("AWS_ENDPOINT_URL", api.url());
    let (etl, said) = inputs(skiff);
    assert!(
        said.contains("warning: AWS refuses ecr:GetAuthorizationToken"),
        "{said}"
    );
    assert_eq!(etl["key"], Value::Null);
    assert_eq!(etl["unknown"][0]["input"], "label:skiff.repository");
    let inputs = names(&etl["inputs"]);
    assert!(inputs.contains(&"context"), "{inputs:?}");
    assert!(!inputs.contains(&"label:skiff.repository"), "{inputs:?}");
}
