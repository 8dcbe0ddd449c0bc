//! Tests of the engine and of the state machine on top of it.

mod state_apply;
mod state_image;
mod state_splits;
mod state_support;
