//! From verified images to names that others follow: which channels a run may move, and moving them for the set.

pub(crate) mod channel;
pub(crate) mod ci;
pub(crate) mod names;
pub(crate) mod promote;
