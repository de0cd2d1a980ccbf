//! A plan for people: what a run would do, and why.

use super::output::table;
use crate::changes::base::Base;
use crate::plan::Plan;

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
    let header = ["CONTAINER", "IMAGE", "AFTER", "WHY"]
        .map(str::to_owned)
        .to_vec();
    let rows = plan.containers.iter().map(|(name, planned)| {
        let after = if planned.parents.is_empty() {
            "-".into()
        } else {
            planned.parents.join(", ")
        };
        vec![
            name.clone(),
            planned.container.repository.tag(&planned.tag).to_string(),
            after,
            planned.reason.clone(),
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
