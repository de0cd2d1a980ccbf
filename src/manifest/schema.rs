//! Every key of `containers.toml` with its type and grammar, as data: what [`super::check`] walks.
//!
//! `[defaults]` and `[containers.*]` share `container`.

use super::cache;
use super::grammar::{self, Refusal};
use super::mirrors;
use super::option_grammar as option;

/// What a value may be.
pub(super) enum Kind {
    /// A string that this grammar takes.
    Text(fn(&str) -> Result<(), Refusal>),
    /// One of these strings.
    OneOf(&'static [&'static str]),
    Bool,
    Integer,
    /// A string, or an integer or boolean that reads the same as a string.
    Scalar,
    List(&'static Kind),
    /// A list with one item at least.
    Filled(&'static Kind),
    /// A table with these keys.
    Table(&'static [Key]),
    /// A table whose keys the user chooses; they must pass this grammar.
    Map(fn(&str) -> Result<(), Refusal>, &'static Kind),
}

/// One key of a table.
pub(super) struct Key {
    pub name: &'static str,
    pub kind: Kind,
}

const fn key(name: &'static str, kind: Kind) -> Key {
    Key { name, kind }
}

const TEXT: Kind = Kind::Text(grammar::not_empty);
const TEXTS: Kind = Kind::List(&TEXT);

/// The file itself.
pub(super) const MANIFEST: Kind = Kind::Table(&[
    key("version", Kind::Integer),
    key("required_version", Kind::Text(grammar::requirement)),
    key("pin", Kind::Bool),
    key("registry", Kind::Table(REGISTRY)),
    key("release", Kind::Table(RELEASE)),
    key(
        "channels",
        Kind::Map(grammar::channel, &Kind::List(&Kind::Text(grammar::branch))),
    ),
    key("builder", Kind::Table(BUILDER)),
    key("cache", Kind::Table(CACHE)),
    key(
        "mirrors",
        Kind::Map(mirrors::prefix, &Kind::Text(mirrors::prefix)),
    ),
    key("discover", Kind::Table(DISCOVER)),
    key("defaults", Kind::Table(CONTAINER)),
    key(
        "containers",
        Kind::Map(grammar::container_name, &Kind::Table(CONTAINER)),
    ),
]);

const REGISTRY: &[Key] = &[
    key("provider", Kind::OneOf(&["ecr", "oci"])),
    key("host", Kind::Text(grammar::host)),
    key("insecure", Kind::Bool),
    key("account", Kind::Text(grammar::account)),
    key("region", Kind::Text(grammar::region)),
    key("repository", Kind::Text(grammar::repository_pattern)),
    key("create", Kind::Bool),
    key("untrusted", Kind::Text(grammar::repository_pattern)),
];

const RELEASE: &[Key] = &[key("state", Kind::Text(grammar::repository))];

const BUILDER: &[Key] = &[
    key(
        "driver",
        Kind::OneOf(&["auto", "docker", "docker-container", "remote"]),
    ),
    key("image", Kind::Text(grammar::image)),
    key(
        "endpoints",
        Kind::Filled(&Kind::Text(grammar::builder_address)),
    ),
];

const CACHE: &[Key] = &[
    key("backend", Kind::OneOf(&["registry", "s3", "local", "none"])),
    key("dir", TEXT),
    key("bucket", Kind::Text(cache::bucket)),
    key("prefix", Kind::Text(cache::key_prefix)),
    key("region", Kind::Text(grammar::region)),
    key("endpoint", Kind::Text(cache::endpoint)),
    key("path_style", Kind::Bool),
    key("ref", Kind::Text(grammar::cache_pattern)),
    key("export", Kind::OneOf(&["channels", "always", "never"])),
    key("mounts", Kind::OneOf(&["registry", "s3", "off"])),
];

const DISCOVER: &[Key] = &[
    key("roots", Kind::List(&Kind::Text(grammar::folder_glob))),
    key("exclude", Kind::List(&Kind::Text(grammar::folder_glob))),
];

/// The keys of `[defaults]` and of each `[containers.NAME]`.
const CONTAINER: &[Key] = &[
    key("context", TEXT),
    key("dockerfile", TEXT),
    key("target", TEXT),
    key("args", Kind::Map(grammar::variable_name, &Kind::Scalar)),
    key(
        "contexts",
        Kind::Map(grammar::variable_name, &Kind::Text(option::named_context)),
    ),
    key("secrets", Kind::List(&Kind::Table(SECRET))),
    key("ssh", Kind::List(&Kind::Text(option::ssh_agent))),
    key("labels", Kind::Map(grammar::label, &Kind::Scalar)),
    key("network", Kind::OneOf(&["default", "none", "host"])),
    key(
        "extra_hosts",
        Kind::Map(option::host_name, &Kind::Text(option::ip_address)),
    ),
    key("shm_size", Kind::Text(option::byte_size)),
    key(
        "ulimits",
        Kind::Map(option::ulimit_name, &Kind::Text(option::ulimit)),
    ),
    key(
        "no_cache_filter",
        Kind::List(&Kind::Text(option::stage_name)),
    ),
    key(
        "entitlements",
        Kind::List(&Kind::OneOf(&["network.host", "security.insecure"])),
    ),
    key("platforms", Kind::Filled(&Kind::Text(grammar::platform))),
    key(
        "profile",
        Kind::OneOf(&["docker", "sagemaker", "lambda", "oci"]),
    ),
    key("tags", Kind::List(&Kind::Text(grammar::tag_pattern))),
    key("tag_unchanged", Kind::Bool),
    key(
        "extra_inputs",
        Kind::List(&Kind::Text(grammar::folder_glob)),
    ),
    key("needs", TEXTS),
    key("max_age", Kind::Text(grammar::duration_text)),
    key("timeout", Kind::Text(grammar::duration_text)),
];

const SECRET: &[Key] = &[
    key("id", Kind::Text(option::secret_id)),
    key("env", Kind::Text(grammar::variable_name)),
    key("file", TEXT),
];
