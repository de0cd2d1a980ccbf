//! `required_version`: which versions of skiff a manifest takes. The grammar and meaning are Cargo's, without wildcards
//! and pre-releases.

type Version = (u64, u64, u64);

/// One `OPERATOR VERSION`, as the half-open interval of versions that it takes.
struct Interval {
    from: Version,
    /// Exclusive; `None` is no bound.
    to: Option<Version>,
}

/// Whether `current` satisfies every comparator of `requirement`; the error says which part is not understood.
pub(super) fn satisfied(requirement: &str, current: &str) -> Result<bool, String> {
    let stable = current.split(['-', '+']).next().unwrap_or_default();
    let (version, _) = numbers(stable)?;
    let mut all = true;
    for comparator in requirement.split(',') {
        let Interval { from, to } = interval(comparator.trim())?;
        all &= version >= from && to.is_none_or(|to| version < to);
    }
    Ok(all)
}

fn interval(comparator: &str) -> Result<Interval, String> {
    let start = comparator
        .find(|c: char| !matches!(c, '<' | '>' | '=' | '^' | '~'))
        .unwrap_or(comparator.len());
    let (operator, version) = comparator.split_at(start);
    let (given, count) = numbers(version.trim())?;
    let zero = (0, 0, 0);
    let (from, to) = match operator {
        ">=" => (given, None),
        ">" => (bump(given, count), None),
        "<" => (zero, Some(given)),
        "<=" => (zero, Some(bump(given, count))),
        "=" => (given, Some(bump(given, count))),
        "~" => (given, Some(bump(given, count.min(2)))),
        "^" | "" => (given, Some(bump(given, significant(given, count)))),
        _ => return Err(format!("`{operator}` is not an operator")),
    };
    Ok(Interval { from, to })
}

/// The first version above all that share the first `place` numbers (1 to 3) with this one.
fn bump((major, minor, patch): Version, place: usize) -> Version {
    match place {
        1 => (major.saturating_add(1), 0, 0),
        2 => (major, minor.saturating_add(1), 0),
        _ => (major, minor, patch.saturating_add(1)),
    }
}

/// Up to which number versions are compatible: the first that is not zero.
fn significant(given: Version, count: usize) -> usize {
    match given {
        (1.., _, _) => 1,
        (0, 1.., _) => 2,
        _ => count,
    }
}

/// One to three numbers, missing ones being zero, and how many were written.
fn numbers(text: &str) -> Result<(Version, usize), String> {
    let wrong = || format!("`{text}` is not a version of one to three numbers");
    let parts = text
        .split('.')
        .map(|part| {
            let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            digits
                .then(|| part.parse().ok())
                .flatten()
                .ok_or_else(wrong)
        })
        .collect::<Result<Vec<u64>, _>>()?;
    match parts[..] {
        [major] => Ok(((major, 0, 0), 1)),
        [major, minor] => Ok(((major, minor, 0), 2)),
        [major, minor, patch] => Ok(((major, minor, patch), 3)),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::satisfied;

    #[test]
    fn comparators_mean_what_cargo_means() {
        for (requirement, yes, no) in [
            (">=0.3", &["0.3.0", "0.10.2", "1.0.0"][..], &["0.2.9"][..]),
            (">0.3", &["0.4.0"], &["0.3.0", "0.3.9"]),
            ("<0.3", &["0.2.9"], &["0.3.0"]),
            ("<=0.3", &["0.3.9", "0.3.0"], &["0.4.0"]),
            ("=0.3", &["0.3.0", "0.3.7"], &["0.4.0", "0.2.9"]),
            ("=0.3.1", &["0.3.1"], &["0.3.0", "0.3.2"]),
            ("^0.3", &["0.3.0", "0.3.9"], &["0.4.0", "0.2.9"]),
            ("^0.0.3", &["0.0.3"], &["0.0.4", "0.1.0"]),
            ("^0", &["0.0.1", "0.9.0"], &["1.0.0"]),
            ("1.2", &["1.2.0", "1.9.9"], &["1.1.9", "2.0.0"]),
            ("~1.2.3", &["1.2.3", "1.2.9"], &["1.3.0", "1.2.2"]),
            ("~1", &["1.0.0", "1.9.0"], &["2.0.0"]),
            (">= 0.2, <0.4", &["0.2.0", "0.3.9"], &["0.4.0", "0.1.0"]),
        ] {
            for version in yes {
                assert_eq!(
                    satisfied(requirement, version),
                    Ok(true),
                    "{requirement} {version}"
                );
            }
            for version in no {
                assert_eq!(
                    satisfied(requirement, version),
                    Ok(false),
                    "{requirement} {version}"
                );
            }
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for requirement in [
            "",
            ">=",
            "=>1",
            "1.x",
            "*",
            "1.2.3.4",
            ">=1,",
            "1.2.3-rc1",
            "+1",
        ] {
            assert!(
                satisfied(requirement, "0.1.0").is_err(),
                "{requirement:?} was taken"
            );
        }
    }
}
