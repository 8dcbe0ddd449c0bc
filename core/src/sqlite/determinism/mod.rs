//! Why replicas agree: the clock, randomness, functions and statistics that are the same on every
//! node, what is refused because it cannot be, and the hash by which replicas are compared.

pub(super) mod analyze;
pub(super) mod authorizer;
pub(super) mod clock_vfs;
pub(super) mod content_hash;
pub(super) mod context;
pub(super) mod functions;
pub(super) mod local_time;
pub(super) mod math;
pub(super) mod modules;
pub(super) mod names;
pub(super) mod planner;
pub(super) mod precheck;
pub(super) mod shadow;
pub(super) mod strings;
