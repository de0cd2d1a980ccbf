//! What the build options of a container may be: grammars beside those of [`super::grammar`].

use std::net::IpAddr;

use super::grammar::{Refusal, Verdict, not_empty};
use crate::diagnostic::nearest;
use crate::reference::ImageRef;

/// How a named context that is an image begins.
pub(super) const IMAGE: &str = "docker-image://";

fn refuse<T>(why: impl Into<String>, help: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal {
        why: why.into(),
        help: Some(help.into()),
    })
}

/// A folder, or `docker-image://` with the name of an image.
pub(super) fn named_context(text: &str) -> Verdict {
    not_empty(text)?;
    if let Some(image) = text.strip_prefix(IMAGE) {
        return match image.parse::<ImageRef>() {
            Ok(_) => Ok(()),
            Err(why) => refuse(
                why.to_string(),
                "write it like \"docker-image://python:3.11\"",
            ),
        };
    }
    if text.contains("://") {
        return refuse(
            "is neither a folder nor `docker-image://`",
            "write a folder, relative to this file, or \"docker-image://…\"",
        );
    }
    Ok(())
}

/// The id of a secret: BuildKit takes any text, a Dockerfile's mount none with a comma.
pub(super) fn secret_id(text: &str) -> Verdict {
    not_empty(text)?;
    if text.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, ',' | '=')) {
        return refuse(
            "cannot be named by `--mount=type=secret,id=…`",
            "use letters, digits, `_`, `-` and `.`",
        );
    }
    Ok(())
}

/// `ID` or `ID=SOCKET`.
pub(super) fn ssh_agent(text: &str) -> Verdict {
    const HELP: &str =
        "write \"default\" for the agent of SSH_AUTH_SOCK, or \"name=/path/of/an/agent.sock\"";
    let (id, socket) = text.split_once('=').unwrap_or((text, "."));
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == ',';
    if id.is_empty() || id.contains(odd) {
        return refuse("has no id that a Dockerfile could name", HELP);
    }
    if socket.is_empty() || socket.contains(['\0', ',']) {
        return refuse("does not name one socket", HELP);
    }
    Ok(())
}

/// An `ssh` entry that was found good: its id and its socket, `None` for the one of `SSH_AUTH_SOCK`.
pub(super) fn split_ssh(text: &str) -> (&str, Option<&str>) {
    text.split_once('=')
        .map_or((text, None), |(id, socket)| (id, Some(socket)))
}

/// A name that goes into `/etc/hosts`.
pub(super) fn host_name(text: &str) -> Verdict {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if text.is_empty() || !text.chars().all(good) {
        return refuse(
            "is not a host's name",
            "a host's name has letters, digits, `.`, `-` and `_`",
        );
    }
    Ok(())
}

pub(super) fn ip_address(text: &str) -> Verdict {
    match text.parse::<IpAddr>() {
        Ok(_) => Ok(()),
        Err(_) => refuse(
            "is not an IP address",
            "write it like \"10.0.0.7\" or \"fd00::7\"",
        ),
    }
}

pub(super) fn byte_size(text: &str) -> Verdict {
    bytes(text).map(drop)
}

/// `64m`, `1g`, `536870912`: a whole number with b, k, m or g (powers of 1024, as Docker counts), more than nothing.
pub(super) fn bytes(text: &str) -> Result<u64, Refusal> {
    const HELP: &str = "write a whole number with k, m or g, such as \"64m\" or \"1g\"";
    let lower = text.to_ascii_lowercase();
    let end = lower
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(end);
    let shift = match unit {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => return refuse("is not a size", HELP),
    };
    let Ok(number) = number.parse::<u64>() else {
        return refuse("is not a size", HELP);
    };
    match number.checked_mul(1 << shift) {
        Some(0) => refuse("is no size at all", HELP),
        // BuildKit reads it as a signed number.
        Some(bytes) if i64::try_from(bytes).is_ok() => Ok(bytes),
        _ => refuse("is too large", HELP),
    }
}

/// The names of `docker/go-units`, `ulimitNameMapping`.
const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

pub(super) fn ulimit_name(text: &str) -> Verdict {
    if ULIMITS.contains(&text) {
        return Ok(());
    }
    let help = match nearest(text, ULIMITS) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("the limits: {}", ULIMITS.join(", ")),
    };
    refuse("is not a limit", help)
}

/// `SOFT` or `SOFT:HARD`; -1 is unlimited.
pub(super) fn ulimit(text: &str) -> Verdict {
    const HELP: &str = "write it like \"1024\" or \"1024:2048\" (soft:hard); -1 is unlimited";
    let (soft, hard) = text.split_once(':').unwrap_or((text, text));
    let number = |text: &str| text.parse::<i64>().ok().filter(|n| *n >= -1);
    let (Some(soft), Some(hard)) = (number(soft), number(hard)) else {
        return refuse("is not a limit", HELP);
    };
    if hard != -1 && (soft > hard || soft == -1) {
        return refuse("has a soft limit above its hard one", HELP);
    }
    Ok(())
}

/// A stage, for `no_cache_filter`: BuildKit takes them as one list with commas.
pub(super) fn stage_name(text: &str) -> Verdict {
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control() || c == ',') {
        return refuse(
            "is not a stage's name",
            "write what follows `AS` in the Dockerfile",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_docker_s() {
        for (text, bytes_of) in [
            ("1g", 1 << 30),
            ("64M", 64 << 20),
            ("2kb", 2048),
            ("77", 77),
        ] {
            assert_eq!(bytes(text), Ok(bytes_of), "{text}");
        }
        for text in ["", "0", "g", "1.5g", "-1", "1t", "9999999999999g", "1 g"] {
            assert!(bytes(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn limits_have_soft_and_hard() {
        for text in ["1024", "1024:2048", "-1", "0:0", "1024:-1"] {
            assert_eq!(ulimit(text), Ok(()), "{text}");
        }
        for text in ["", "a", "2048:1024", "-1:1024", "-2", "1:2:3", "1k"] {
            assert!(ulimit(text).is_err(), "{text:?} was taken");
        }
        assert_eq!(
            ulimit_name("nofiles").unwrap_err().help.as_deref(),
            Some("did you mean `nofile`?")
        );
    }

    #[test]
    fn agents_have_an_id_and_perhaps_a_socket() {
        for text in ["default", "git=/run/agent.sock", "a=b=c"] {
            assert_eq!(ssh_agent(text), Ok(()), "{text}");
        }
        for text in ["", "=/x", "a=", "a b", "a=/x,/y"] {
            assert!(ssh_agent(text).is_err(), "{text:?} was taken");
        }
        assert_eq!(split_ssh("default"), ("default", None));
        assert_eq!(split_ssh("git=/run/a=b"), ("git", Some("/run/a=b")));
    }

    #[test]
    fn named_contexts_are_folders_or_images() {
        for text in ["libs/common", "docker-image://python:3.11", "../x"] {
            assert_eq!(named_context(text), Ok(()), "{text}");
        }
        for text in [
            "",
            "https://x/y.git",
            "docker-image://",
            "docker-image://A B",
            "oci-layout://x",
        ] {
            assert!(named_context(text).is_err(), "{text:?} was taken");
        }
    }
}
