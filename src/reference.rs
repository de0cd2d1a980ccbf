//! Names of things in registries, valid once made: [`RegistryHost`], [`Repository`], [`Tag`], [`Digest`], [`ImageRef`].
//!
//! Grammar: the OCI distribution spec 1.1 (`<name>`, `<reference>`) and distribution/reference's normalisation of
//! Docker's short names (`python` = `docker.io/library/python`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a name is not one. The text is a fragment that names the part and says what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidReference(String);

fn invalid<T>(text: impl Into<String>) -> Result<T, InvalidReference> {
    Err(InvalidReference(text.into()))
}

/// `host[:port]` of a registry, as it stands in image names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RegistryHost(String);

impl RegistryHost {
    pub fn new(text: &str) -> Result<Self, InvalidReference> {
        let (name, port) = split_port(text);
        let bracketed = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
        let valid_name = match bracketed {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                !name.is_empty()
                    && name.split('.').all(|part| {
                        !part.is_empty()
                            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                            && !part.starts_with('-')
                            && !part.ends_with('-')
                    })
            }
        };
        let valid_port = port.is_none_or(|p| p.parse::<u16>().is_ok_and(|n| n > 0));
        if valid_name && valid_port {
            Ok(Self(text.to_owned()))
        } else {
            invalid(format!(
                "`{text}` is not a registry host: expected `host` or `host:port`, without scheme or path"
            ))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host without its port, and without the brackets of an IPv6 address.
    pub fn name(&self) -> &str {
        split_port(&self.0)
            .0
            .trim_start_matches('[')
            .trim_end_matches(']')
    }

    /// A private registry of Amazon ECR: `<account>.dkr.ecr.<region>.amazonaws.com`, with FIPS `ecr-fips`, with both IP
    /// versions `<account>.dkr-ecr.<region>.on.aws`; other partitions have other domains.
    pub(crate) fn is_ecr(&self) -> bool {
        let mut labels = self.name().split('.');
        let account = labels.next().unwrap_or_default();
        let (first, second) = (labels.next(), labels.next());
        let service = match first {
            Some("dkr") => matches!(second, Some("ecr" | "ecr-fips")),
            Some(service) => matches!(service, "dkr-ecr" | "dkr-ecr-fips"),
            None => false,
        };
        service && account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit())
    }

    /// Loopback by name or address: the only hosts that are spoken to in plain HTTP without being told to.
    pub fn is_loopback(&self) -> bool {
        let name = self.name();
        name == "localhost"
            || name.ends_with(".localhost")
            || name
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }
}

fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, port))
            if !port.contains(']') && (!name.contains(':') || name.ends_with(']')) =>
        {
            (name, Some(port))
        }
        _ => (text, None),
    }
}

/// A repository: registry host and path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Repository {
    pub host: RegistryHost,
    path: String,
}

impl Repository {
    pub fn new(host: RegistryHost, path: &str) -> Result<Self, InvalidReference> {
        if path.is_empty() || path.len() > 255 {
            return invalid(format!(
                "`{path}` is not a repository name: it has 1 to 255 characters"
            ));
        }
        if path.split('/').all(is_path_component) {
            return Ok(Self {
                host,
                path: path.to_owned(),
            });
        }
        invalid(format!(
            "`{path}` is not a repository name: parts between `/` are lower-case letters and digits, \
             joined by `.`, `_`, `__` or `-`"
        ))
    }

    /// The path below the host, such as `team/train`.
    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn tag(&self, tag: &Tag) -> ImageRef {
        ImageRef {
            repository: self.clone(),
            tag: Some(tag.clone()),
            digest: None,
        }
    }

    pub fn digest(&self, digest: &Digest) -> ImageRef {
        ImageRef {
            repository: self.clone(),
            tag: None,
            digest: Some(digest.clone()),
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host.0, self.path)
    }
}

impl FromStr for Repository {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        match text.split_once('/') {
            Some((host, path)) => Self::new(RegistryHost::new(host)?, path),
            None => invalid(format!(
                "`{text}` is not a repository: expected `host/path`"
            )),
        }
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(part: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !alphanumeric(*first) || !alphanumeric(*last) {
        return false;
    }
    bytes.split(|b| alphanumeric(*b)).all(|separator| {
        matches!(separator, [] | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
    })
}

/// A tag: `[A-Za-z0-9_][A-Za-z0-9._-]{0,127}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(String);

impl Tag {
    pub fn new(text: &str) -> Result<Self, InvalidReference> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        match text.as_bytes() {
            [first, rest @ ..]
                if word(*first)
                    && rest.len() < 128
                    && rest.iter().all(|b| word(*b) || matches!(b, b'.' | b'-')) =>
            {
                Ok(Self(text.to_owned()))
            }
            _ => invalid(format!(
                "`{text}` is not a tag: 1 to 128 letters, digits, `_`, `.` or `-`, not starting with `.` or `-`"
            )),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// This tag of a container: the same, or `NAME-TAG` where others share its repository.
    ///
    /// # Errors
    /// Both together are too long for a tag.
    pub fn of(&self, container: &str, shared: bool) -> Result<Self, InvalidReference> {
        if shared {
            Self::new(&format!("{container}-{self}"))
        } else {
            Ok(self.clone())
        }
    }
}

/// A content digest, `sha256:` and 64 lower-case hex digits (`sha512` is valid too and never made here).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    pub fn new(text: &str) -> Result<Self, InvalidReference> {
        let length = match text.split_once(':') {
            Some(("sha256", _)) => 64,
            Some(("sha512", _)) => 128,
            _ => 0,
        };
        let hex = text.split_once(':').map_or("", |(_, hex)| hex);
        if length > 0
            && hex.len() == length
            && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        {
            Ok(Self(text.to_owned()))
        } else {
            invalid(format!(
                "`{text}` is not a digest: expected `sha256:` and 64 hex digits"
            ))
        }
    }

    /// The SHA-256 of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        use std::fmt::Write as _;

        use sha2::Digest as _;
        let mut text = String::from("sha256:");
        for byte in sha2::Sha256::digest(bytes) {
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 hex digits, for tables.
    pub fn short(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, hex)| &hex[..12])
    }
}

/// An image in a registry, by tag, by digest or both.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageRef {
    pub repository: Repository,
    pub tag: Option<Tag>,
    pub digest: Option<Digest>,
}

/// The registry that a name without a host means.
const DOCKER_HUB: &str = "docker.io";

impl FromStr for ImageRef {
    type Err = InvalidReference;

    /// Parses as Docker does: without a host it is `docker.io`, without a path there `library/`, without tag and
    /// digest `latest`.
    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(Digest::new(digest)?)),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(Tag::new(tag)?)),
            _ => (rest, None),
        };
        let named_host = |host: &str| {
            host == "localhost" || host.contains(['.', ':']) || host.to_lowercase() != host
        };
        let (host, path) = match name.split_once('/') {
            Some(("docker.io" | "index.docker.io", path)) => (DOCKER_HUB, path),
            Some((host, path)) if named_host(host) => (host, path),
            _ => (DOCKER_HUB, name),
        };
        let official = host == DOCKER_HUB && !path.contains('/');
        let path = if official {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        let host = RegistryHost::new(host)?;
        let tag = if tag.is_none() && digest.is_none() {
            Some(Tag("latest".into()))
        } else {
            tag
        };
        Ok(Self {
            repository: Repository::new(host, &path)?,
            tag,
            digest,
        })
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repository.fmt(f)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{}", tag.0)?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{}", digest.0)?;
        }
        Ok(())
    }
}

/// Text in, text out: `Display` and serde for the newtypes above.
macro_rules! as_text {
    ($($name:ident => $parse:expr),*) => {$(
        impl TryFrom<String> for $name {
            type Error = InvalidReference;
            fn try_from(text: String) -> Result<Self, InvalidReference> { $parse(&text) }
        }
        impl From<$name> for String {
            fn from(value: $name) -> Self { value.to_string() }
        }
    )*};
}
as_text!(
    RegistryHost => RegistryHost::new, Tag => Tag::new, Digest => Digest::new,
    Repository => str::parse, ImageRef => str::parse
);

macro_rules! display_inner {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
    )*};
}
display_inner!(RegistryHost, Tag, Digest);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn image(text: &str) -> String {
        text.parse::<ImageRef>().unwrap().to_string()
    }

    #[test]
    fn short_names_are_completed_as_docker_does() {
        assert_eq!(image("python"), "docker.io/library/python:latest");
        assert_eq!(
            image("index.docker.io/python:3"),
            "docker.io/library/python:3"
        );
        assert_eq!(image("nvidia/cuda:12.4"), "docker.io/nvidia/cuda:12.4");
        assert_eq!(image("localhost:5000/a/b"), "localhost:5000/a/b:latest");
        assert_eq!(image("localhost/a:1"), "localhost/a:1");
        assert_eq!(image("[::1]:5000/a:1"), "[::1]:5000/a:1");
        let digest = Digest::of(b"x");
        assert_eq!(
            image(&format!("ghcr.io/a/b@{digest}")),
            format!("ghcr.io/a/b@{digest}")
        );
        assert_eq!(
            image(&format!("ghcr.io/a/b:1@{digest}")),
            format!("ghcr.io/a/b:1@{digest}")
        );
    }

    #[test]
    fn wrong_names_are_refused() {
        for text in [
            "",
            ":1",
            "Python",
            "a//b",
            "a:",
            "a b",
            "-a",
            "a/b:.x",
            "a@sha256:12",
            "http://x/y",
            "a..b/c:1:2",
        ] {
            assert!(text.parse::<ImageRef>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn loopback_is_known_by_name_and_address() {
        for (host, loopback) in [
            ("localhost:5000", true),
            ("127.0.0.9", true),
            ("[::1]:5000", true),
            ("registry.local", false),
        ] {
            assert_eq!(
                RegistryHost::new(host).unwrap().is_loopback(),
                loopback,
                "{host}"
            );
        }
    }

    #[test]
    fn ecr_is_known_by_name() {
        for (host, ecr) in [
            ("123456789012.dkr.ecr.us-east-1.amazonaws.com", true),
            ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", true),
            (
                "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
                true,
            ),
            ("123456789012.dkr-ecr.us-east-1.on.aws", true),
            ("public.ecr.aws", false),
            ("dkr.ecr.us-east-1.amazonaws.com", false),
            ("localhost:5000", false),
        ] {
            assert_eq!(RegistryHost::new(host).unwrap().is_ecr(), ecr, "{host}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same(text in "[a-z0-9.:/@_-]{1,40}") {
            if let Ok(image) = text.parse::<ImageRef>() {
                prop_assert_eq!(image.to_string().parse::<ImageRef>().unwrap(), image);
            }
        }
    }
}
