//! Addresses as people write them: `unix://`, `tcp://`, `ssh://` of engines and of builders.

use rustls::pki_types::ServerName;

use super::DialError;
use super::stream::Route;
use super::tls::TlsFiles;

/// Who listens there: it decides what ssh starts and what TLS announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Engine,
    BuildKit,
}

/// A place that bytes can be sent to, and how it is called.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(super) shown: String,
    pub(super) route: Route,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Address {
    /// `tls`: makes `tcp://` a TLS connection. `tls://` is one in any case.
    pub(super) fn parse(text: &str, peer: Peer, tls: Option<&TlsFiles>) -> Result<Self, DialError> {
        let wrong = || DialError::Address(text.to_owned(), peer);
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let route = match scheme {
            "unix" if rest.starts_with('/') => Route::Unix(rest.into()),
            "tcp" | "tls" | "http" | "https" => {
                let address = rest.trim_end_matches('/');
                let host = host_of(address).ok_or_else(wrong)?;
                let default = TlsFiles::default();
                match tls {
                    None if matches!(scheme, "tcp" | "http") => Route::Tcp(address.to_owned()),
                    tls => encrypted(address, host, peer, tls.unwrap_or(&default))?,
                }
            }
            "ssh" => Route::Program(ssh(rest, peer).ok_or_else(wrong)?),
            _ => return Err(wrong()),
        };
        Ok(Self {
            shown: text.to_owned(),
            route,
        })
    }
}

/// The host of `host:port`.
fn host_of(address: &str) -> Option<&str> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host
        .strip_prefix('[')
        .map_or(Some(host), |h| h.strip_suffix(']'))?;
    (!host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok()).then_some(host)
}

fn encrypted(address: &str, host: &str, peer: Peer, tls: &TlsFiles) -> Result<Route, DialError> {
    let name = tls.server_name.as_deref().unwrap_or(host);
    let server = ServerName::try_from(name.to_owned())
        .map_err(|error| DialError::Tls(name.to_owned(), error.to_string()))?;
    let protocol = match peer {
        Peer::Engine => "http/1.1",
        Peer::BuildKit => "h2",
    };
    Ok(Route::Tls {
        address: address.to_owned(),
        server,
        config: tls.config(protocol)?,
    })
}

/// `[user@]host[:port]` to the command that docker's and BuildKit's clients run (docker/cli `cli/connhelper/ssh`, BuildKit
/// `client/connhelper/ssh`). It must not ask anything: nobody could answer.
fn ssh(rest: &str, peer: Peer) -> Option<Vec<String>> {
    let rest = rest.trim_end_matches('/');
    let (user, place) = rest
        .split_once('@')
        .map_or((None, rest), |(user, place)| (Some(user), place));
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse::<u16>().ok()?)),
        None => (place, None),
    };
    // A host that begins with `-` would be an option.
    let plain =
        |text: &str| !text.is_empty() && !text.starts_with('-') && !text.contains(['/', ' ']);
    if !plain(host) || !user.is_none_or(plain) {
        return None;
    }
    let mut words: Vec<String> = [
        "ssh",
        "-o",
        "BatchMode=yes",
        "-o",
        "ConnectTimeout=15",
        "-T",
    ]
    .map(str::to_owned)
    .into();
    if let Some(user) = user {
        words.extend(["-l".to_owned(), user.to_owned()]);
    }
    if let Some(port) = port {
        words.extend(["-p".to_owned(), port.to_string()]);
    }
    words.extend(["--".to_owned(), host.to_owned()]);
    let remote: &[&str] = match peer {
        Peer::Engine => &["docker", "system", "dial-stdio"],
        Peer::BuildKit => &["buildctl", "dial-stdio"],
    };
    words.extend(remote.iter().map(|&word| word.to_owned()));
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(text: &str, peer: Peer) -> Option<String> {
        Address::parse(text, peer, None)
            .ok()
            .map(|address| match address.route {
                Route::Unix(path) => path.display().to_string(),
                Route::Tcp(address) => address,
                Route::Tls {
                    address, server, ..
                } => format!("{address} as {}", server.to_str()),
                Route::Program(words) => words.join(" "),
            })
    }

    #[test]
    fn addresses_are_read_as_docker_and_buildctl_do() {
        for (text, expected) in [
            ("unix:///tmp/d.sock", "/tmp/d.sock"),
            ("tcp://127.0.0.1:2375", "127.0.0.1:2375"),
            ("tcp://[::1]:2375/", "[::1]:2375"),
            (
                "tls://builder.local:1234",
                "builder.local:1234 as builder.local",
            ),
            (
                "ssh://me@host:2222",
                "ssh -o BatchMode=yes -o ConnectTimeout=15 -T -l me -p 2222 -- host docker system dial-stdio",
            ),
        ] {
            assert_eq!(route(text, Peer::Engine).as_deref(), Some(expected));
        }
        let ssh = route("ssh://host", Peer::BuildKit).unwrap();
        assert!(ssh.ends_with("-- host buildctl dial-stdio"), "{ssh}");
        for wrong in [
            "tcp://host",
            "docker",
            "unix://",
            "unix://relative",
            "tcp://:1",
            "tcp://h:x",
            "ssh://",
            "ssh://-oProxyCommand=x",
            "ssh://h/path",
            "npipe:////./pipe/docker",
        ] {
            assert_eq!(route(wrong, Peer::BuildKit), None, "{wrong}");
        }
    }
}
