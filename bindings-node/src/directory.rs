//! What is done to a data directory that no node has open: `check` and `recoverLostQuorum`.

use std::path::PathBuf;

use napi::bindgen_prelude::Object;
use napi::{Env, Result};
use napi_derive::napi;
use quorumlite::Error;

use crate::operation::{OnCancel, start};
use crate::outcome::Success;

/// Starts to check a data directory.
#[napi]
pub fn check<'e>(env: &'e Env, dir: String) -> Result<Object<'e>> {
    blocking(env, move || quorumlite::check(PathBuf::from(dir)).map(Success::Checked))
}

/// Starts to recover a lost quorum.
#[napi]
pub fn recover_lost_quorum<'e>(env: &'e Env, dir: String) -> Result<Object<'e>> {
    blocking(env, move || {
        quorumlite::recover_lost_quorum(PathBuf::from(dir)).map(Success::Recovered)
    })
}

fn blocking(
    env: &Env,
    work: impl FnOnce() -> quorumlite::Result<Success> + Send + 'static,
) -> Result<Object<'_>> {
    start(env, false, None, OnCancel::Detach, async move {
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|e| Err(Error::closed().with_source(e)))
    })
}
