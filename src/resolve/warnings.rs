//! What users should know of containers that are built though nothing may have changed, once for all that share a reason.

use indexmap::IndexMap;

use crate::diagnostic::Diagnostic;
use crate::key::BuildReason;

/// Names of containers by what is said of them: that they are built, and why.
#[derive(Default)]
pub(super) struct Warnings(IndexMap<String, Vec<String>>);

impl Warnings {
    /// Notes a container, if its reason is one that users should know.
    pub(super) fn note(&mut self, name: &str, reason: &BuildReason) {
        let said = match reason {
            BuildReason::NoKey { .. } => reason.to_string(),
            BuildReason::LookupFailed { .. } | BuildReason::Distrusted { .. } => {
                format!("built: {reason}")
            }
            _ => return,
        };
        self.0.entry(said).or_default().push(name.to_owned());
    }

    pub(super) fn say(&self) -> Vec<Diagnostic> {
        let reasons = self.0.iter();
        reasons.map(|(said, names)| warning(said, names)).collect()
    }
}

fn warning(said: &str, names: &[String]) -> Diagnostic {
    const NAMED: usize = 3;
    let mut shown: Vec<String> = names
        .iter()
        .take(NAMED)
        .map(|name| format!("`{name}`"))
        .collect();
    let more = names.len().saturating_sub(NAMED);
    if more > 0 {
        shown.push(format!("{more} more"));
    }
    let verb = if names.len() == 1 { "is" } else { "are" };
    Diagnostic::warning(format!("{} {verb} {said}", conjunction(&shown)))
}

fn conjunction(items: &[String]) -> String {
    match items {
        [rest @ .., last] if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => items.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_given_once_for_all() {
        let names: Vec<String> = (0..1000).map(|n| format!("c{n}")).collect();
        let said = |names: &[String]| warning("built: it rains", names).title;
        assert_eq!(said(&names[..1]), "`c0` is built: it rains");
        assert_eq!(said(&names[..2]), "`c0` and `c1` are built: it rains");
        assert_eq!(
            said(&names),
            "`c0`, `c1`, `c2` and 997 more are built: it rains"
        );
    }
}
