//! Values that must not be shown: no `Debug`, no `Display`, no `Serialize`.

/// A password or token. It leaves this type only through [`Secret::expose`], at the place that sends it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself. Every caller is a place where it goes to its destination; none formats or stores it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}
