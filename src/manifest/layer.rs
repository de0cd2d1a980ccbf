//! What one table says of containers: `[defaults]`, or a `[containers.NAME]` over them.
//!
//! The container's own word wins, key by key. `args`, `labels` and `contexts` merge: a container's entries replace the
//! defaults' of the same name. Lists (`platforms`, `tags`, `needs`, `extra_inputs`) replace the defaults' as a whole.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::document::{Given, Said, View};
use super::options::Options;

/// The good values of one table.
#[derive(Clone)]
pub(super) struct Layer {
    pub context: Given<Said<String>>,
    pub dockerfile: Given<Said<String>>,
    pub target: Option<Said<String>>,
    pub args: BTreeMap<String, String>,
    pub contexts: BTreeMap<String, Said<String>>,
    pub labels: BTreeMap<String, String>,
    pub network: Option<Said<String>>,
    pub options: Options,
    pub platforms: Option<Said<Vec<Said<String>>>>,
    pub profile: Option<Said<String>>,
    pub tags: Option<Said<Vec<Said<String>>>>,
    pub needs: Option<Said<Vec<Said<String>>>>,
    pub timeout: Option<Said<String>>,
    pub tag_unchanged: Option<bool>,
    pub extra_inputs: Option<Said<Vec<Said<String>>>>,
    pub max_age: Option<Said<String>>,
}

impl Layer {
    pub(super) fn read(view: View<'_>) -> Self {
        Self {
            context: view.given_text("context"),
            dockerfile: view.given_text("dockerfile"),
            target: view.text("target"),
            args: scalars(view.table("args")),
            contexts: texts(view.table("contexts")),
            labels: scalars(view.table("labels")),
            network: view.text("network"),
            options: Options::read(view),
            platforms: view.texts("platforms"),
            profile: view.text("profile"),
            tags: view.texts("tags"),
            needs: view.texts("needs"),
            timeout: view.text("timeout"),
            tag_unchanged: view.flag("tag_unchanged"),
            extra_inputs: view.texts("extra_inputs"),
            max_age: view.text("max_age"),
        }
    }

    /// This container's word over the defaults'. A container among the defaults' `needs` does not need itself.
    pub(super) fn over(self, defaults: &Self, name: &str) -> Self {
        let needs = defaults.needs.clone().map(|mut needs| {
            needs.get_mut().retain(|need| need.get_ref() != name);
            needs
        });
        Self {
            context: self.context.or(&defaults.context),
            dockerfile: self.dockerfile.or(&defaults.dockerfile),
            target: self.target.or_else(|| defaults.target.clone()),
            args: merged(&defaults.args, self.args),
            contexts: merged(&defaults.contexts, self.contexts),
            labels: merged(&defaults.labels, self.labels),
            network: self.network.or_else(|| defaults.network.clone()),
            options: self.options.over(&defaults.options),
            platforms: self.platforms.or_else(|| defaults.platforms.clone()),
            profile: self.profile.or_else(|| defaults.profile.clone()),
            tags: self.tags.or_else(|| defaults.tags.clone()),
            needs: self.needs.or(needs),
            timeout: self.timeout.or_else(|| defaults.timeout.clone()),
            tag_unchanged: self.tag_unchanged.or(defaults.tag_unchanged),
            extra_inputs: self.extra_inputs.or_else(|| defaults.extra_inputs.clone()),
            max_age: self.max_age.or_else(|| defaults.max_age.clone()),
        }
    }
}

fn merged<V: Clone>(
    defaults: &BTreeMap<String, V>,
    own: BTreeMap<String, V>,
) -> BTreeMap<String, V> {
    let mut all = defaults.clone();
    all.extend(own);
    all
}

/// Strings, integers and booleans as text: the schema lets only those pass that read as they are written.
fn scalars(view: View<'_>) -> BTreeMap<String, String> {
    let entries = view.entries().into_iter();
    entries
        .filter_map(|(key, value)| {
            let text = match value.get_ref() {
                DeValue::String(text) => text.to_string(),
                DeValue::Integer(number) => number.as_str().to_owned(),
                DeValue::Boolean(flag) => flag.to_string(),
                _ => return None,
            };
            Some((key.get_ref().to_string(), text))
        })
        .collect()
}

fn texts(view: View<'_>) -> BTreeMap<String, Said<String>> {
    let entries = view.entries().into_iter();
    entries
        .filter_map(|(key, _)| Some((key.get_ref().to_string(), view.text(key.get_ref())?)))
        .collect()
}
