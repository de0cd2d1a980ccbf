//! Which of the images that a Dockerfile uses are containers of the project.

use super::{Edge, EdgeKind};
use crate::diagnostic::{Diagnostic, Span};
use crate::dockerfile::ImageUse;

/// What [`parents`] found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parents {
    pub edges: Vec<Edge>,
    /// Warnings: images that have a container's name and yet are not that container.
    pub hidden: Vec<Diagnostic>,
}

/// The containers among the images that a container's Dockerfile uses.
///
/// A container never matches itself: `FROM nginx` in container `nginx` is the public image. Nor does it where a stage
/// has its name, since BuildKit would put the named context in that stage's place.
pub(crate) fn parents(
    container: &str,
    uses: &[ImageUse],
    is_container: impl Fn(&str) -> bool,
) -> Parents {
    let mut parents = Parents::default();
    for found in uses {
        let Some(name) = found.context_name().filter(|n| *n != container) else {
            continue;
        };
        if !is_container(name) {
            continue;
        }
        match &found.hidden_by {
            Some(stage) => parents.hidden.push(hidden(container, name, found, stage)),
            None => parents.edges.push(Edge {
                parent: name.to_owned(),
                span: Some(found.span.clone()),
                kind: EdgeKind::Inferred(found.kind),
            }),
        }
    }
    parents
}

fn hidden(container: &str, name: &str, found: &ImageUse, stage: &Span) -> Diagnostic {
    Diagnostic::warning(format!(
        "`{container}` does not get container `{name}`: a stage has its name"
    ))
    .at(
        found.span.clone(),
        format!("this is the public image docker.io/library/{name}"),
    )
    .see(stage.clone(), "the stage")
    .help("give the stage another name to build from the container")
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::diagnostic::{SourceText, human};
    use crate::dockerfile::parse;
    use crate::manifest::model::Platform;

    /// The images that the last stage of a Dockerfile uses.
    pub(in crate::graph) fn uses(name: &str, text: &str) -> Vec<ImageUse> {
        let dockerfile = parse(&SourceText::new(name, text)).unwrap();
        let platform = Platform {
            os: "linux".into(),
            architecture: "amd64".into(),
            variant: None,
        };
        let found = dockerfile.images(&BTreeMap::new(), None, &platform);
        found.unwrap().uses
    }

    #[test]
    fn a_stage_hides_the_container_of_its_name_and_it_is_said() {
        let uses = uses("app/Dockerfile", "FROM base AS base\nRUN x\n");
        let found = parents("app", &uses, |_| true);
        assert_eq!(found.edges, []);
        insta::assert_snapshot!(human::render(&found.hidden, human::Screen::default()), @r"
        warning: `app` does not get container `base`: a stage has its name
         --> app/Dockerfile:1:6
          |
        1 | FROM base AS base
          |      ^^^^    ---- the stage
          |      |
          |      this is the public image docker.io/library/base
          |
          = help: give the stage another name to build from the container
        ");
    }
}
