//! A plan for people: what a run would do, and why.

use super::output::table;
use crate::plan::Plan;

pub(crate) fn render(plan: &Plan) -> String {
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
    if !plan.outdated.is_empty() {
        text.push_str(
            "\noutdated, as a container they are built from is in this run and they are not: ",
        );
        text.push_str(&plan.outdated.join(", "));
    }
    text
}
