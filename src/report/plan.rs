//! A plan: what a run would do, and why. For people, as data, and as the job lists of two CI systems.

use serde_json::{Value, json};

use super::output::table;
use crate::changes::base::Base;
use crate::plan::{Plan, PlannedContainer, Work};
use crate::plan_file::PlanFile;

/// Why there is nothing to do.
pub(crate) fn nothing(plan: &Plan) -> String {
    match plan.base.as_ref().and_then(Base::named) {
        Some(base) => format!("nothing changed since {base}"),
        None => "nothing to do: the manifest has no containers".to_owned(),
    }
}

pub(crate) fn render(plan: &Plan) -> String {
    if plan.containers.is_empty() {
        return nothing(plan);
    }
    let header = ["CONTAINER", "DO", "IMAGE", "AFTER", "WHY"]
        .map(str::to_owned)
        .to_vec();
    let rows = plan.containers.iter().map(|(name, planned)| {
        let repository = &planned.container.repository;
        let (action, image) = match &planned.work {
            Work::Build(_) => ("build", repository.tag(&planned.tag).to_string()),
            Work::Keep(manifest) => ("skip", format!("{repository}@{}", manifest.digest.short())),
        };
        vec![
            name.clone(),
            action.to_owned(),
            image,
            match planned.parents.as_slice() {
                [] => "-".into(),
                parents => parents.join(", "),
            },
            planned.why(),
        ]
    });
    let rows: Vec<_> = std::iter::once(header).chain(rows).collect();
    let mut text = format!(
        "{}\n\nrelease {}; {}",
        table(&rows),
        plan.release,
        plan.channels.reason
    );
    if let Some(base) = &plan.base {
        text.push('\n');
        text.push_str(&base.sentence());
    }
    if !plan.outdated.is_empty() {
        text.push_str(
            "\noutdated, as a container they are built from is in this run and they are not: ",
        );
        text.push_str(&plan.outdated.join(", "));
    }
    text
}

/// One object: what `--out` writes as well.
pub(crate) fn json(plan: &Plan) -> String {
    format!("{:#}\n", json!(PlanFile::from(plan)))
}

/// `strategy.matrix` of a GitHub Actions job, for `fromJSON`: the released containers that will be built. A parent that
/// must be built first is built by whichever job comes to it.
pub(crate) fn github_matrix(plan: &Plan) -> String {
    let include: Vec<Value> = plan
        .released()
        .filter(|(_, planned)| builds(planned))
        .map(|(name, _)| json!({ "container": name }))
        .collect();
    json!({ "include": include }).to_string()
}

/// A buildspec with a `build-graph` (AWS CodeBuild, "batch build buildspec reference"); JSON is YAML.
pub(crate) fn codebuild_batch(plan: &Plan) -> String {
    let built: Vec<_> = plan.containers.iter().filter(|(_, p)| builds(p)).collect();
    let identifier = |name: &str| {
        let place = built.iter().position(|(other, _)| *other == name)?;
        // Letters, digits and underscores; the number keeps `a-b` and `a_b` apart.
        let word = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        Some(format!(
            "{}_{place}",
            name.chars().map(word).collect::<String>()
        ))
    };
    let jobs = built.iter().map(|(name, planned)| {
        let after: Vec<_> = planned
            .parents
            .iter()
            .filter_map(|parent| identifier(parent))
            .collect();
        let mut job = json!({
            "identifier": identifier(name),
            "env": { "variables": { "SKIFF_CONTAINER": name } },
        });
        if !after.is_empty() {
            job["depend-on"] = json!(after);
        }
        job
    });
    let graph: Vec<Value> = jobs.collect();
    let value = json!({ "version": 0.2, "batch": { "fast-fail": false, "build-graph": graph } });
    format!("{value:#}\n")
}

fn builds(planned: &PlannedContainer) -> bool {
    matches!(planned.work, Work::Build(_))
}
