//! The inputs of a key by name, each as a short text: a value that is no secret, or a hash. They are stored in the image,
//! so that a later run can say what differs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Key, NOT_INPUTS, VERSION, hex, sha256};
use crate::reference::Digest;

/// Before the name of an image.
const IMAGE: &str = "image:";

/// By name, in the order of the names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Inputs(BTreeMap<String, String>);

/// An input that is not the same in two images. `None`: there is no such input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Change {
    pub input: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
}

impl Inputs {
    pub(crate) fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    /// The attributes of the frontend. Values of arguments and labels may be private: only their hashes are kept.
    pub(crate) fn attributes<'a>(
        &mut self,
        attributes: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) {
        for (name, value) in attributes {
            if NOT_INPUTS.contains(&name.as_str()) {
                continue;
            }
            match name.split_once(':') {
                Some(("build-arg", arg)) => {
                    self.set(format!("arg:{arg}"), sha256(value.as_bytes()));
                }
                Some(("label", label)) => {
                    self.set(format!("label:{label}"), sha256(value.as_bytes()));
                }
                _ => self.set(format!("attribute:{name}"), value.clone()),
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let inputs = self.0.iter();
        inputs.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The digests of images from outside the project, by their names in Dockerfiles.
    pub(crate) fn images(&self) -> BTreeMap<String, Digest> {
        let image = |(name, value): (&String, &String)| {
            Some((
                name.strip_prefix(IMAGE)?.to_owned(),
                Digest::new(value).ok()?,
            ))
        };
        self.0.iter().filter_map(image).collect()
    }

    pub(crate) fn set_image(&mut self, name: &str, digest: &Digest) {
        self.set(format!("{IMAGE}{name}"), digest.to_string());
    }

    /// Lengths stand before texts: no two sets of inputs are the same bytes.
    pub(crate) fn key(&self) -> Key {
        let mut hash = Sha256::new();
        hash.update(format!("skiff key {VERSION}\n"));
        for text in self.0.iter().flat_map(|(name, value)| [name, value]) {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        }
        Key(hex(&hash.finalize()))
    }

    /// The text of the label.
    pub(crate) fn label(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(crate) fn from_label(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// What is not the same in these, by name.
    pub(crate) fn changes_from(&self, old: &Self) -> Vec<Change> {
        let names: std::collections::BTreeSet<_> = self.0.keys().chain(old.0.keys()).collect();
        names
            .into_iter()
            .filter(|name| self.0.get(*name) != old.0.get(*name))
            .map(|name| Change {
                input: name.clone(),
                old: old.0.get(name).cloned(),
                new: self.0.get(name).cloned(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn inputs() -> impl Strategy<Value = BTreeMap<String, String>> {
        proptest::collection::btree_map("[a-c:]{0,3}", "[a-c]{0,3}", 0..5)
    }

    proptest! {
        #[test]
        fn a_key_is_the_same_exactly_where_the_inputs_are(a in inputs(), b in inputs()) {
            let (a, b) = (Inputs(a), Inputs(b));
            prop_assert_eq!(a == b, a.key() == b.key());
            prop_assert_eq!(a == b, a.changes_from(&b).is_empty());
            prop_assert_eq!(Inputs::from_label(&a.label()), Some(a));
        }
    }

    #[test]
    fn every_attribute_counts_but_those_of_the_run() {
        let of = |name: &str, value: &str| {
            let mut inputs = Inputs::default();
            inputs.attributes([(&name.to_owned(), &value.to_owned())]);
            inputs
        };
        for name in [
            "target",
            "platform",
            "build-arg:A",
            "label:team",
            "anything",
        ] {
            assert_ne!(of(name, "1").key(), of(name, "2").key(), "{name}");
        }
        for name in NOT_INPUTS {
            assert_eq!(of(name, "1"), Inputs::default(), "{name}");
        }
        assert!(!of("build-arg:TOKEN", "hunter2").label().contains("hunter2"));
    }
}
