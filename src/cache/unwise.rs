//! Cache mounts of which a word is due before the build: those that cannot be carried though they are meant to be, and those
//! with which no step runs, as the builder's own words for that do not say so.

use std::sync::Arc;

use super::mounts::{Read, read};
use crate::context::lexical;
use crate::diagnostic::{Diagnostic, SourceText, Span};
use crate::dockerfile::{Dockerfile, mount};

/// `carried`: cache mounts are to be carried.
pub(crate) fn warnings(dockerfile: &Dockerfile, carried: bool) -> Vec<Diagnostic> {
    let source: &Arc<SourceText> = &dockerfile.source;
    let stages = dockerfile.stages.iter();
    let runs = stages
        .flat_map(|stage| &stage.instructions)
        .filter(|instruction| instruction.keyword == "RUN");
    let mut warnings = Vec::new();
    for (flag, value) in runs.flat_map(|run| run.flags_named("mount")) {
        let place = Span::new(source, flag.range.clone());
        let (title, why, help) = match (hidden(value), read(value)) {
            (Some(why), _) => (
                "no step runs with this cache mount",
                why,
                "name a folder of its own, such as `target=/root/.cache`",
            ),
            (None, Read::Unread { why, help }) if carried => (
                "this cache mount is not carried to the next runner",
                why,
                help,
            ),
            _ => continue,
        };
        warnings.push(Diagnostic::warning(title).at(place, why).help(help));
    }
    warnings
}

/// What a mount would hide of what a step needs to run.
fn hidden(value: &str) -> Option<&'static str> {
    let kind = mount::field(value, &["type"])?;
    let target = mount::field(value, &["target", "dst", "destination"])?;
    if !kind.eq_ignore_ascii_case("cache")
        || !target.starts_with('/')
        || target.contains(['$', '"'])
    {
        return None;
    }
    let target = lexical::clean(target);
    match target.as_str() {
        "/" => Some("it would be in the place of the whole file system"),
        "/dev" => Some("it would hide the devices that every step has"),
        path if path == "/proc" || path.starts_with("/proc/") => {
            Some("it would hide what the system says of processes")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(flags: &[&str], carried: bool) -> String {
        let text = flags.iter().fold("FROM x\n".to_owned(), |text, flag| {
            text + "RUN --mount=" + flag + " make\n"
        });
        let source = SourceText::new("Dockerfile", text);
        let dockerfile = crate::dockerfile::parse(&source).unwrap();
        let told = warnings(&dockerfile, carried);
        crate::diagnostic::human::render(&told, crate::diagnostic::human::Screen::default())
    }

    #[test]
    fn a_mount_that_is_not_carried_is_named_where_mounts_are() {
        let flags = [
            "type=cache,target=$HOME/.cache",
            "'type=cache,\"target=/a b\"'",
            "type=cache,target=../../x",
            "type=cache,target=/x,from=base",
            "type=bind,target=$HOME",
        ];
        assert_eq!(told(&flags, false), "");
        insta::assert_snapshot!(told(&flags, true), @r#"
        warning: this cache mount is not carried to the next runner
         --> Dockerfile:2:5
          |
        2 | RUN --mount=type=cache,target=$HOME/.cache make
          |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ it has a variable, which only the builder knows
          |
          = help: write out what it stands for

        warning: this cache mount is not carried to the next runner
         --> Dockerfile:3:5
          |
        3 | RUN --mount='type=cache,"target=/a b"' make
          |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ it has quotes or characters that are not written back
          |
          = help: write it with letters, digits and ._-/:@+~ alone
        "#);
    }

    #[test]
    fn a_mount_with_which_no_step_runs_is_named_always() {
        let flags = [
            "type=cache,target=/",
            "type=cache,dst=/../..",
            "type=cache,id=x,target=/proc/",
            "type=cache,target=/proc/self",
            "type=cache,target=/dev",
        ];
        let all = told(&flags, false);
        assert_eq!(all.matches("no step runs with this").count(), 5, "{all}");
        let good = [
            "type=cache,target=/dev/shm",
            "type=cache,target=/etc",
            "type=cache,target=$HOME",
            "type=tmpfs,target=/proc",
        ];
        assert_eq!(told(&good, false), "");
        insta::assert_snapshot!(told(&flags[1..2], true), @r"
        warning: no step runs with this cache mount
         --> Dockerfile:2:5
          |
        2 | RUN --mount=type=cache,dst=/../.. make
          |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ it would be in the place of the whole file system
          |
          = help: name a folder of its own, such as `target=/root/.cache`
        ");
    }
}
