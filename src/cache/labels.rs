//! What is noted with caches. Labels of the images that carry cache mounts: what makes one of them known, and what was
//! measured of it; an annotation of build caches.

/// Annotation of a build cache's manifest: the hashes of the steps that it has ([`super::steps`]), with commas between.
pub(crate) const STEPS: &str = "skiff.steps";

/// The mount's id. An image with it carries a mount; it is built from scratch, so that nothing is inherited.
pub(crate) const ID: &str = "skiff.mount.id";

/// The hash of what its step read when the mount was kept.
pub(crate) const INPUTS: &str = "skiff.mount.inputs";

/// How often in a row the mount was filled with it and its step took no less time.
pub(crate) const LOSSES: &str = "skiff.mount.losses";

/// Seconds of its step with nothing in the mount.
pub(crate) const COLD: &str = "skiff.mount.cold";
