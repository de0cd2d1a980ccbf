//! What a builder asks for, from the headers of its call (`BuildKit`: `session/filesync/filesync.go`).

use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::context::filter::Filter;

/// A folder's name, and what of it is wanted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub dir: String,
    pub filter: Filter,
}

impl Asked {
    pub(super) fn read(headers: &MetadataMap) -> Result<Self, Status> {
        Ok(Self {
            dir: values(headers, "dir-name")?
                .into_iter()
                .next()
                .unwrap_or_default(),
            filter: Filter {
                include: values(headers, "include-patterns")?,
                exclude: values(headers, "exclude-patterns")?,
                follow: values(headers, "followpaths")?,
            },
        })
    }
}

/// All values of a header. With `<key>-encoded` they are URL-encoded: a header holds ASCII only.
fn values(headers: &MetadataMap, key: &str) -> Result<Vec<String>, Status> {
    let encoded = headers.get(format!("{key}-encoded")).is_some_and(|flag| {
        matches!(
            flag.as_bytes(),
            b"1" | b"t" | b"T" | b"true" | b"True" | b"TRUE"
        )
    });
    headers
        .get_all(key)
        .iter()
        .map(|value| {
            let bytes = value.as_bytes();
            let bytes = if encoded {
                unescape(bytes)
            } else {
                Some(bytes.to_vec())
            };
            bytes
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .ok_or_else(|| Status::invalid_argument(format!("header {key} cannot be decoded")))
        })
        .collect()
}

/// Undoes Go's `url.QueryEscape`: `+` is a space, `%xx` a byte.
fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        plain.push(match first {
            b'+' => b' ',
            b'%' => {
                let (code, behind) = rest.split_at_checked(2)?;
                rest = behind;
                let digit = |byte: u8| char::from(byte).to_digit(16);
                u8::try_from(digit(code[0])? * 16 + digit(code[1])?).ok()?
            }
            byte => byte,
        });
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &str)]) -> MetadataMap {
        let mut headers = MetadataMap::new();
        for (key, value) in list {
            headers.append(*key, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn reads_repeated_and_encoded_headers() {
        let asked = Asked::read(&headers(&[
            ("dir-name", "context"),
            ("exclude-patterns", "a%2fb+c"),
            ("exclude-patterns", "!x"),
            ("followpaths", "src+%C3%A9%2Fa"),
            ("followpaths-encoded", "1"),
        ]))
        .unwrap();
        assert_eq!(asked.dir, "context");
        assert_eq!(asked.filter.include, [""; 0]);
        assert_eq!(asked.filter.exclude, ["a%2fb+c", "!x"]);
        assert_eq!(asked.filter.follow, ["src é/a"]);
    }

    #[test]
    fn refuses_what_cannot_be_decoded() {
        for value in ["%", "%4", "%zz", "%+1", "%ff"] {
            let list = [
                ("include-patterns", value),
                ("include-patterns-encoded", "1"),
            ];
            assert!(Asked::read(&headers(&list)).is_err(), "{value}");
        }
    }
}
