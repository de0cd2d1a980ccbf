//! Keys, types, values.

use super::{errors, errors_of, load_in, repository, titles};

#[test]
fn the_contracts_example_is_good() {
    let text = r#"
version = 1
# required_version = ">=0.3"

[registry]
provider = "ecr"
repository = "team/{name}"
create = true

[release]
state = "team/skiff"

[channels]
latest = ["main", "development", "ml-development"]

[builder]
driver = "auto"

[cache]
backend = "registry"
ref = "{repository}:buildcache"
export = "channels"
mounts = "registry"

[mirrors]
"docker.io" = "123456789012.dkr.ecr.us-east-1.amazonaws.com/docker-hub"

[discover]
roots = ["infrastructure/containers/*"]
exclude = []

[defaults]
platforms = ["linux/amd64"]
profile = "sagemaker"
tags = ["{timestamp}"]
tag_unchanged = false

[containers.train]
context = "infrastructure/containers/train"
dockerfile = "Dockerfile"
target = "runtime"
args = { PYTHON = "3.11" }
contexts = { common = "libs/common" }
secrets = [{ id = "pip", env = "PIP_TOKEN" }]
ssh = ["default"]
labels = {}
network = "default"
extra_inputs = ["libs/common/**"]
needs = ["base"]
max_age = "7d"
timeout = "60m"
"#;
    let dir = repository(&[
        "infrastructure/containers/train/Dockerfile",
        "infrastructure/containers/base/Dockerfile",
        "libs/common/",
    ]);
    let found = load_in(dir.path(), text).err().unwrap_or_default();
    assert_eq!(titles(&found), [""; 0]);
}

#[test]
fn all_errors_of_a_file_come_at_once_in_its_order() {
    insta::assert_snapshot!(errors(
        &["c/train/Dockerfile", "c/etl/Dockerfile", "c/Big/Dockerfile"],
        r#"versoin = 1
[registry]
provider = "oci"
host = "https://registry.local/team"
[chanels]
latest = ["main"]
[cache]
backend = "regisrty"
export = "always"
[discover]
roots = "c/*"
[defaults]
args = { PYTHON = 3.10 }
timeout = "1w"
platforms = ["linux/x86_64"]
[containers.train]
context = "c/trian"
needs = ["elt", "train"]
[containers.etl]
context = "c/etl"
secrets = [{ id = "pip" }]
"#), @r#"
    error: unknown key `versoin`
     --> containers.toml:1:1
      |
    1 | versoin = 1
      | ^^^^^^^ not a key of the manifest
      |
      = help: did you mean `version`?

    error: wrong value for `registry.host`
     --> containers.toml:4:8
      |
    4 | host = "https://registry.local/team"
      |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ is not a registry host: expected `host` or `host:port`, without scheme or path
      |
      = help: write "registry.local"

    error: unknown key `chanels`
     --> containers.toml:5:2
      |
    5 | [chanels]
      |  ^^^^^^^ not a key of the manifest
      |
      = help: did you mean `channels`?

    error: wrong value for `cache.backend`
     --> containers.toml:8:11
      |
    8 | backend = "regisrty"
      |           ^^^^^^^^^^ expected one of "registry", "s3", "local", "none"
      |
      = help: did you mean "registry"?

    error: wrong type for `discover.roots`
      --> containers.toml:11:9
       |
    11 | roots = "c/*"
       |         ^^^^^ expected a list of strings, found a string
       |
       = help: write `["c/*"]`

    error: wrong type for `defaults.args.PYTHON`
      --> containers.toml:13:19
       |
    13 | args = { PYTHON = 3.10 }
       |                   ^^^^ expected a string, an integer or a boolean, found a float
       |
       = help: quote it, so that it stays as written: "3.10"

    error: wrong value for `defaults.timeout`
      --> containers.toml:14:11
       |
    14 | timeout = "1w"
       |           ^^^^ is not a duration
       |
       = help: write whole numbers with d, h, m or s, such as "7d", "90s" or "1h30m"

    error: wrong value for `defaults.platforms`
      --> containers.toml:15:14
       |
    15 | platforms = ["linux/x86_64"]
       |              ^^^^^^^^^^^^^^ `x86_64` is not an architecture
       |
       = help: did you mean "linux/amd64"?

    error: `c/trian` cannot be a context
      --> containers.toml:17:11
       |
    17 | context = "c/trian"
       |           ^^^^^^^^^ no such folder
       |
       = help: did you mean "c/train"?

    error: container `train` needs `elt`, which does not exist
      --> containers.toml:18:10
       |
    18 | needs = ["elt", "train"]
       |          ^^^^^ no such container
       |
       = help: did you mean `etl`?

    error: container `train` needs itself
      --> containers.toml:18:17
       |
    18 | needs = ["elt", "train"]
       |                 ^^^^^^^
       |
       = help: leave it out

    error: secret `pip` has no source
      --> containers.toml:21:12
       |
    21 | secrets = [{ id = "pip" }]
       |            ^^^^^^^^^^^^^^
       |
       = help: write one of `env = "VARIABLE"` and `file = "path"`
    "#);
}

#[test]
fn wrong_types_say_what_was_expected() {
    insta::assert_snapshot!(errors_of(
        "insecure = \"true\"\n[channels]\nlatest = \"main\"\n[cache]\nref = 5\n[discover]\nroots = [1]\n[defaults]\nlabels = [\"a\"]\nargs = { A = 0x10, B = [], C = 2020-01-01 }"
    ), @r#"
    error: wrong type for `registry.insecure`
     --> containers.toml:5:12
      |
    5 | insecure = "true"
      |            ^^^^^^ expected true or false, found a string
      |
      = help: write `true` without the quotes

    error: wrong type for `channels.latest`
     --> containers.toml:7:10
      |
    7 | latest = "main"
      |          ^^^^^^ expected a list of strings, found a string
      |
      = help: write `["main"]`

    error: wrong type for `cache.ref`
     --> containers.toml:9:7
      |
    9 | ref = 5
      |       ^ expected a string, found an integer
      |
      = help: quote it: "5"

    error: wrong type for `discover.roots`
      --> containers.toml:11:10
       |
    11 | roots = [1]
       |          ^ expected a string, found an integer
       |
       = help: quote it: "1"

    error: wrong type for `defaults.labels`
      --> containers.toml:13:10
       |
    13 | labels = ["a"]
       |          ^^^^^ expected a table, found a list

    error: wrong type for `defaults.args.A`
      --> containers.toml:14:14
       |
    14 | args = { A = 0x10, B = [], C = 2020-01-01 }
       |              ^^^^ expected a string, an integer or a boolean, found an integer
       |
       = help: quote it, so that it stays as written: "0x10"

    error: wrong type for `defaults.args.B`
      --> containers.toml:14:24
       |
    14 | args = { A = 0x10, B = [], C = 2020-01-01 }
       |                        ^^ expected a string, an integer or a boolean, found a list

    error: wrong type for `defaults.args.C`
      --> containers.toml:14:32
       |
    14 | args = { A = 0x10, B = [], C = 2020-01-01 }
       |                                ^^^^^^^^^^ expected a string, an integer or a boolean, found a date
       |
       = help: quote it, so that it stays as written: "2020-01-01"
    "#);
}

#[test]
fn wrong_values_say_what_would_be_right() {
    insta::assert_snapshot!(errors_of(
        "repository = \"Team/{nam}\"\n[channels]\n\"-x\" = [\"refs/heads/main\", \"a b\"]\nkey-1 = []\n[cache]\nref = \"{repository}\"\n[discover]\nroots = [\"a[\"]\n[defaults]\nplatforms = []\ntags = [\"{timestam}\", \"v 1\", \"feature/x\", \"key-{sha}\"]\nlabels = { \"skiff.key\" = \"1\" }\ncontext = \"\""
    ), @r#"
    error: wrong value for `registry.repository`
     --> containers.toml:5:14
      |
    5 | repository = "Team/{nam}"
      |              ^^^^^^^^^^^^ unknown variable `{nam}`
      |
      = help: did you mean `{name}`?

    error: wrong name in `channels.-x`
     --> containers.toml:7:1
      |
    7 | "-x" = ["refs/heads/main", "a b"]
      | ^^^^ is not a tag: 1 to 128 letters, digits, `_`, `.` or `-`, not starting with `.` or `-`

    error: wrong value for `channels.-x`
     --> containers.toml:7:9
      |
    7 | "-x" = ["refs/heads/main", "a b"]
      |         ^^^^^^^^^^^^^^^^^ is a ref, not a branch
      |
      = help: write "main"

    error: wrong value for `channels.-x`
     --> containers.toml:7:28
      |
    7 | "-x" = ["refs/heads/main", "a b"]
      |                            ^^^^^ no branch can have this name
      |
      = help: write a branch's name, such as "main", or a glob, such as "release/*"

    error: wrong name in `channels.key-1`
     --> containers.toml:8:1
      |
    8 | key-1 = []
      | ^^^^^ tags that begin with `key-` are the content keys'
      |
      = help: give the channel another name

    error: wrong value for `cache.ref`
      --> containers.toml:10:7
       |
    10 | ref = "{repository}"
       |       ^^^^^^^^^^^^^^ expected `repository:tag`: there is no tag
       |
       = help: write it like "{repository}:buildcache"

    error: wrong value for `discover.roots`
      --> containers.toml:12:10
       |
    12 | roots = ["a["]
       |          ^^^^ is not a pattern: unclosed character class; missing ']'
       |
       = help: `*` stands for one part of a path, `**` for any number; `{a,b}` and `[ab]` for one of these, without `/` inside

    error: wrong value for `defaults.platforms`
      --> containers.toml:14:13
       |
    14 | platforms = []
       |             ^^ is empty
       |
       = help: write a value, or leave the key out

    error: wrong value for `defaults.tags`
      --> containers.toml:15:9
       |
    15 | tags = ["{timestam}", "v 1", "feature/x", "key-{sha}"]
       |         ^^^^^^^^^^^^ unknown variable `{timestam}`
       |
       = help: did you mean `{timestamp}`?

    error: wrong value for `defaults.tags`
      --> containers.toml:15:23
       |
    15 | tags = ["{timestam}", "v 1", "feature/x", "key-{sha}"]
       |                       ^^^^^ is not a tag: 1 to 128 letters, digits, `_`, `.` or `-`, not starting with `.` or `-`

    error: wrong value for `defaults.tags`
      --> containers.toml:15:30
       |
    15 | tags = ["{timestam}", "v 1", "feature/x", "key-{sha}"]
       |                              ^^^^^^^^^^^ is not a tag: 1 to 128 letters, digits, `_`, `.` or `-`, not starting with `.` or `-`
       |
       = help: tags have no `/`; write `-` in its place

    error: wrong value for `defaults.tags`
      --> containers.toml:15:43
       |
    15 | tags = ["{timestam}", "v 1", "feature/x", "key-{sha}"]
       |                                           ^^^^^^^^^^^ tags that begin with `key-` are the content keys'
       |
       = help: begin it with another word

    error: wrong name in `defaults.labels."skiff.key"`
      --> containers.toml:16:12
       |
    16 | labels = { "skiff.key" = "1" }
       |            ^^^^^^^^^^^ labels that begin with `skiff.` are skiff's own
       |
       = help: give the label another name

    error: wrong value for `defaults.context`
      --> containers.toml:17:11
       |
    17 | context = ""
       |           ^^ is empty
       |
       = help: write a value, or leave the key out
    "#);
}

#[test]
fn build_options_have_their_grammars() {
    insta::assert_snapshot!(errors_of(
        "[defaults]\nsecrets = [{ env = \"A\" }, { id = \"b\", env = \"B\", file = \"b\" }, { id = \"c\", evn = \"C\" }]\nssh = [\"a\", \"a=/x\", \"=/y\"]\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\nextra_hosts = { db = \"host-gateway\" }\nshm_size = \"1x\"\nulimits = { nofiles = \"1024\" }\nentitlements = [\"network\"]\ncontexts = { base = \"docker-image://Python\" }"
    ), @r#"
    error: a secret has no id
     --> containers.toml:6:12
      |
    6 | secrets = [{ env = "A" }, { id = "b", env = "B", file = "b" }, { id = "c", evn = "C" }]
      |            ^^^^^^^^^^^^^
      |
      = help: write `id = "…"`, the one of `--mount=type=secret,id=…`

    error: secret `b` has two sources
     --> containers.toml:6:27
      |
    6 | secrets = [{ env = "A" }, { id = "b", env = "B", file = "b" }, { id = "c", evn = "C" }]
      |                           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: write one of `env = "VARIABLE"` and `file = "path"`

    error: unknown key `defaults.secrets.evn`
     --> containers.toml:6:76
      |
    6 | secrets = [{ env = "A" }, { id = "b", env = "B", file = "b" }, { id = "c", evn = "C" }]
      |                                                                            ^^^ not a key of `[defaults.secrets]`
      |
      = help: did you mean `env`?

    error: agent `a` is given twice
     --> containers.toml:7:13
      |
    7 | ssh = ["a", "a=/x", "=/y"]
      |             ^^^^^^
      |
      = help: give each an id of its own

    error: wrong value for `defaults.ssh`
     --> containers.toml:7:21
      |
    7 | ssh = ["a", "a=/x", "=/y"]
      |                     ^^^^^ has no id that a Dockerfile could name
      |
      = help: write "default" for the agent of SSH_AUTH_SOCK, or "name=/path/of/an/agent.sock"

    error: several platforms need profile "oci"
     --> containers.toml:8:13
      |
    8 | platforms = ["linux/amd64", "linux/arm64"]
      |             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ profile "docker" is one Docker v2 manifest
      |
      = help: name one platform, or write `profile = "oci"`

    error: wrong value for `defaults.extra_hosts.db`
     --> containers.toml:9:22
      |
    9 | extra_hosts = { db = "host-gateway" }
      |                      ^^^^^^^^^^^^^^ is not an IP address
      |
      = help: write it like "10.0.0.7" or "fd00::7"

    error: wrong value for `defaults.shm_size`
      --> containers.toml:10:12
       |
    10 | shm_size = "1x"
       |            ^^^^ is not a size
       |
       = help: write a whole number with k, m or g, such as "64m" or "1g"

    error: wrong name in `defaults.ulimits.nofiles`
      --> containers.toml:11:13
       |
    11 | ulimits = { nofiles = "1024" }
       |             ^^^^^^^ is not a limit
       |
       = help: did you mean `nofile`?

    error: wrong value for `defaults.entitlements`
      --> containers.toml:12:17
       |
    12 | entitlements = ["network"]
       |                 ^^^^^^^^^ expected one of "network.host", "security.insecure"

    error: wrong value for `defaults.contexts.base`
      --> containers.toml:13:21
       |
    13 | contexts = { base = "docker-image://Python" }
       |                     ^^^^^^^^^^^^^^^^^^^^^^^ `library/Python` is not a repository name: parts between `/` are lower-case letters and digits, joined by `.`, `_`, `__` or `-`
       |
       = help: write it like "docker-image://python:3.11"
    "#);
}

#[test]
fn each_provider_has_its_keys() {
    insta::assert_snapshot!(errors(&["a/Dockerfile"], "version = 1\n[registry]\nhost = \"r.local\"\nregion = \"us-east1\"\n[containers.a]\ncontext = \"a\"\n"), @r#"
    error: `registry.host` is for provider "oci" only
     --> containers.toml:3:1
      |
    3 | host = "r.local"
      | ^^^^
      |
      = note: an ECR registry's host follows from the credentials
      = help: leave it out, or write `provider = "oci"`; `account` and `region` are the guards of "ecr"

    error: wrong value for `registry.region`
     --> containers.toml:4:10
      |
    4 | region = "us-east1"
      |          ^^^^^^^^^^ is not an AWS region
      |
      = help: write a region's code, such as "us-east-1"
    "#);
    insta::assert_snapshot!(errors(&["a/Dockerfile"], "version = 1\n[registry]\nprovider = \"oci\"\naccount = \"123456789012\"\ncreate = false\n[containers.a]\ncontext = \"a\"\n"), @r#"
    error: `registry.host` is missing
     --> containers.toml:2:2
      |
    2 | [registry]
      |  ^^^^^^^^
      |
      = help: write `host = "…"`, for example "localhost:5000"

    error: `registry.account` is for provider "ecr" only
     --> containers.toml:4:1
      |
    4 | account = "123456789012"
      | ^^^^^^^
      |
      = note: only Amazon has accounts and regions
      = help: leave it out, or write `provider = "ecr"`

    error: `registry.create` is for provider "ecr" only
     --> containers.toml:5:1
      |
    5 | create = false
      | ^^^^^^
      |
      = note: other registries make a repository when something is pushed to it
      = help: leave it out
    "#);
}

#[test]
fn another_version_stands_alone() {
    insta::assert_snapshot!(errors_of("").replace("good", "good: the base of the tests"), @r"good: the base of the tests");
    insta::assert_snapshot!(errors(&[], "version = 2\nfuture = true\n"), @r"
    error: this version of the manifest is not known
     --> containers.toml:1:11
      |
    1 | version = 2
      |           ^ skiff 0.1.0 reads version 1
      |
      = help: write `version = 1`, or use the skiff that it was written for
    ");
    insta::assert_snapshot!(errors(&[], "version = 1\nrequired_version = \">=99.1\"\nfuture = true\n"), @r#"
    error: the manifest asks for another version of skiff
     --> containers.toml:2:20
      |
    2 | required_version = ">=99.1"
      |                    ^^^^^^^^ this is skiff 0.1.0
      |
      = help: install a version that fits
    "#);
    insta::assert_snapshot!(errors(&[], "version = \"1\"\nrequired_version = \"latest\"\n[registry]\nprovider = \"oci\"\nhost = \"r\"\n"), @r#"
    error: the manifest has no containers
     --> containers.toml:1:1
      |
    1 | version = "1"
      | ^
      |
      = help: let them be found:
              [discover]
              roots = ["containers/*"]
      = help: or write each:
              [containers.NAME]
              context = "path/of/its/folder"

    error: wrong type for `version`
     --> containers.toml:1:11
      |
    1 | version = "1"
      |           ^^^ expected an integer, found a string
      |
      = help: write `1` without the quotes

    error: wrong value for `required_version`
     --> containers.toml:2:20
      |
    2 | required_version = "latest"
      |                    ^^^^^^^^ `latest` is not a version of one to three numbers
      |
      = help: write comparators such as ">=0.3" or ">=0.3, <1"; operators: >= > < <= = ^ ~
    "#);
}

#[test]
fn mirrors_have_names_of_registries_and_are_not_mirrored_themselves() {
    insta::assert_snapshot!(errors_of(
        "[mirrors]\n\"docker.io\" = \"quay.io/hub\"\n\"quay.io\" = \"mirror.example:5000\"\nlibrary = \"x.example\"\n\"gcr.io\" = \"https://x.example\""
    ), @r#"
    error: the mirror `quay.io/hub` is itself mirrored
     --> containers.toml:6:15
      |
    6 | "docker.io" = "quay.io/hub"
      |               ^^^^^^^^^^^^^ below `quay.io`, for which `mirror.example:5000` stands in
      |
      = help: name the registry that has the images

    error: wrong name in `mirrors.library`
     --> containers.toml:8:1
      |
    8 | library = "x.example"
      | ^^^^^^^ is neither a registry's host nor the beginning of its repositories
      |
      = help: write it like "docker.io" or "registry.example:5000/hub"

    error: wrong value for `mirrors."gcr.io"`
     --> containers.toml:9:12
      |
    9 | "gcr.io" = "https://x.example"
      |            ^^^^^^^^^^^^^^^^^^^ is neither a registry's host nor the beginning of its repositories
      |
      = help: write it like "docker.io" or "registry.example:5000/hub"
    "#);
}
