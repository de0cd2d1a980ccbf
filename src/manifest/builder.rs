//! `[builder]`: who builds. Whether that builder is there is found out by the run.

use std::sync::Arc;

use toml::Spanned;

use super::document::View;
use super::model::{BuilderSettings, DriverSetting};
use crate::diagnostic::{Diagnostic, SourceText, Span};

/// The image of the driver `docker-container`, pinned: an update of skiff updates it.
const IMAGE: &str = "moby/buildkit:v0.32.2";

/// Reads the table. Keys that the driver has no use for are errors: they would be silently ignored.
pub(super) fn read(view: View<'_>, source: &Arc<SourceText>) -> (BuilderSettings, Vec<Diagnostic>) {
    let table = view.table("builder");
    let written = table.text("driver").map(Spanned::into_inner);
    let driver = match written.as_deref() {
        Some("docker") => DriverSetting::Docker,
        Some("docker-container") => DriverSetting::Container,
        Some("remote") => DriverSetting::Remote,
        _ => DriverSetting::Auto,
    };
    let image = table.text("image");
    let endpoints = table.texts("endpoints");
    let mut diagnostics = Vec::new();
    let mut useless = |key: &str, place, of: &str| {
        let error = Diagnostic::error(format!("`builder.{key}` is of no use here")).at(
            Span::new(source, place),
            format!("belongs to the driver \"{of}\""),
        );
        let help = format!("leave it out, or write `driver = \"{of}\"`");
        diagnostics.push(error.help(help));
    };
    let local = matches!(driver, DriverSetting::Docker | DriverSetting::Container);
    match (&image, &endpoints) {
        (Some(image), _) if matches!(driver, DriverSetting::Docker | DriverSetting::Remote) => {
            useless("image", image.span(), "docker-container");
        }
        (_, Some(endpoints)) if local => useless("endpoints", endpoints.span(), "remote"),
        (Some(image), Some(_)) => useless("image", image.span(), "docker-container"),
        _ => {}
    }
    let settings = BuilderSettings {
        driver,
        image: image.map_or_else(|| IMAGE.to_owned(), Spanned::into_inner),
        endpoints: endpoints
            .map(Spanned::into_inner)
            .into_iter()
            .flatten()
            .map(Spanned::into_inner)
            .collect(),
    };
    (settings, diagnostics)
}
