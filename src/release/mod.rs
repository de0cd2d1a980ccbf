//! From verified images to names that others follow: what is released, recorded, and which channels stand on it.
//!
//! [`channel`] decides which channels a run may move; [`names`] sees that immutable names are free. [`record`] is what is
//! written down, [`store`] where; [`standing`] says where a channel is to stand by what was written, [`lineage`] which
//! commit is newer; [`converge`] moves the tags there, [`publish`] does it for a run's set; [`choose`] finds what is
//! promoted or rolled back to.

pub(crate) mod channel;
pub(crate) mod choose;
pub(crate) mod ci;
pub(crate) mod converge;
pub(crate) mod lineage;
pub(crate) mod names;
pub(crate) mod promote;
pub(crate) mod publish;
pub(crate) mod record;
pub(crate) mod standing;
pub(crate) mod store;
