//! The patterns of `${name#pattern}` and `${name%pattern}`: `*` is any text, `?` any character, `\` escapes.

/// Where a pattern is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Front,
    Back,
}

enum Piece {
    AnyText,
    AnyCharacter,
    Character(char),
}

/// The value without what the pattern matches at this end, the longest or shortest match; the value itself when there
/// is none. `None`: the pattern has an escape that means nothing.
pub(super) fn trim(value: &str, pattern: &str, end: End, longest: bool) -> Option<String> {
    let pattern = pieces(pattern)?;
    let value: Vec<char> = value.chars().collect();
    let mut lengths: Vec<usize> = (0..=value.len()).collect();
    if longest {
        lengths.reverse();
    }
    let rest = lengths.into_iter().find_map(|length| {
        let (cut, rest) = match end {
            End::Front => value.split_at(length),
            End::Back => {
                let (rest, cut) = value.split_at(value.len() - length);
                (cut, rest)
            }
        };
        matches(&pattern, cut).then_some(rest)
    });
    Some(rest.unwrap_or(&value).iter().collect())
}

fn pieces(pattern: &str) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        pieces.push(match c {
            '*' => Piece::AnyText,
            '?' => Piece::AnyCharacter,
            '\\' => match chars.next()? {
                c @ ('*' | '?' | '\\' | '}' | '/') => Piece::Character(c),
                _ => return None,
            },
            c => Piece::Character(c),
        });
    }
    Some(pieces)
}

/// Whether the pattern matches all of the text: one pass, going back to the last `*` at a mismatch.
fn matches(pattern: &[Piece], text: &[char]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut last_star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(Piece::AnyText) => {
                last_star = Some((p, t));
                p += 1;
            }
            Some(Piece::AnyCharacter) => (p, t) = (p + 1, t + 1),
            Some(Piece::Character(c)) if *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match &mut last_star {
                Some((star, from)) => {
                    *from += 1;
                    (p, t) = (*star + 1, *from);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|p| matches!(p, Piece::AnyText))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_or_longest_match_is_cut_off() {
        let cut = |pattern, end, longest| trim("a.b.c", pattern, end, longest).unwrap();
        assert_eq!(cut("*.", End::Front, false), "b.c");
        assert_eq!(cut("*.", End::Front, true), "c");
        assert_eq!(cut(".*", End::Back, false), "a.b");
        assert_eq!(cut(".*", End::Back, true), "a");
        assert_eq!(cut("?.", End::Front, true), "b.c");
        assert_eq!(cut("*b?c", End::Front, false), "");
        assert_eq!(cut("x*", End::Front, true), "a.b.c");
        assert_eq!(cut("", End::Back, true), "a.b.c");
    }

    #[test]
    fn an_escape_takes_the_meaning_away() {
        assert_eq!(trim("*a", "\\*", End::Front, true).as_deref(), Some("a"));
        assert_eq!(trim("xa", "\\*", End::Front, true).as_deref(), Some("xa"));
        assert_eq!(trim("a", "\\a", End::Front, true), None);
        assert_eq!(trim("a", "\\", End::Front, true), None);
    }
}
