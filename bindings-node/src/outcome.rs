//! [`Outcome`]: how a call ended, on its way to JavaScript. A promise of the native half never
//! rejects: it resolves to `{ value }`, `{ failure }` or `{}` (cancelled), because a rejection of
//! napi could not carry a code of our own. `ts/outcome.ts` takes it apart again.

use napi::bindgen_prelude::{Array, BigInt, BufferSlice, JsObjectValue, Null, Object, ToNapiValue};
use napi::{Env, Result, sys};
use quorumlite::{
    CheckReport, ContentHash, Error, ExecuteResult, Member, Node, Recovery, Rows, Status, Value,
};

use crate::node::NativeNode;

/// The integers that a number holds exactly together with their neighbours.
const SAFE: std::ops::RangeInclusive<i64> = -9_007_199_254_740_991..=9_007_199_254_740_991;

/// What a call gave, before it becomes JavaScript objects.
pub(crate) enum Success {
    Done,
    Opened(Node),
    Executed(ExecuteResult),
    Batch(Vec<ExecuteResult>),
    Rows(Rows),
    Members(Vec<Member>),
    Text(String),
    Hash(ContentHash),
    Checked(CheckReport),
    Recovered(Recovery),
}

/// Why a call gave nothing.
pub(crate) enum Failure {
    /// The core said no.
    Core(Error),
    /// The core panicked: a bug, which must not take the process down.
    Panic,
    /// The runtime's threads cannot be started.
    Threads(std::io::Error),
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Failure::Core(e)
    }
}

/// How a call ended.
pub(crate) enum Ending {
    Success(Success),
    Failure(Failure),
    /// Nobody waits any longer; it goes on by itself.
    Cancelled,
}

/// An ending, with what decides how integers are shown.
pub(crate) struct Outcome {
    pub(crate) ending: Ending,
    /// Every INTEGER becomes a BigInt, also one that a number could hold.
    pub(crate) bigint: bool,
}

/// A value that becomes JavaScript's.
struct Shown<'a>(&'a Value, bool);

impl ToNapiValue for Shown<'_> {
    unsafe fn to_napi_value(env: sys::napi_env, v: Self) -> Result<sys::napi_value> {
        // SAFETY: `env` is the one that this function was called with, in all of these.
        unsafe {
            match v.0 {
                Value::Null => Null::to_napi_value(env, Null),
                Value::Integer(i) => integer(env, *i, v.1),
                Value::Real(f) => f64::to_napi_value(env, *f),
                Value::Text(s) => <&str>::to_napi_value(env, s),
                Value::Blob(b) => {
                    let env = Env::from_raw(env);
                    let bytes = BufferSlice::copy_from(&env, b)?;
                    <&BufferSlice>::to_napi_value(env.raw(), &bytes)
                }
            }
        }
    }
}

/// # Safety
/// `env` must be the current environment.
unsafe fn integer(env: sys::napi_env, i: i64, bigint: bool) -> Result<sys::napi_value> {
    // SAFETY: the caller's promise.
    unsafe {
        if bigint || !SAFE.contains(&i) {
            BigInt::to_napi_value(env, BigInt::from(i))
        } else {
            f64::to_napi_value(env, i as f64)
        }
    }
}

struct Integer(i64, bool);

impl ToNapiValue for Integer {
    unsafe fn to_napi_value(env: sys::napi_env, v: Self) -> Result<sys::napi_value> {
        // SAFETY: `env` is the one that this function was called with.
        unsafe { integer(env, v.0, v.1) }
    }
}

/// `{ columns, rows }`, a row being an array of values.
fn rows<'e>(env: &'e Env, rows: &Rows, bigint: bool) -> Result<Object<'e>> {
    let mut array = env.create_array(u32::try_from(rows.len()).unwrap_or(u32::MAX))?;
    for (i, values) in (0..u32::MAX).zip(rows.values()) {
        // The handles of a row go with it, so that a large answer does not keep millions.
        env.run_in_scope(|| {
            let mut row = env.create_array(u32::try_from(values.len()).unwrap_or(u32::MAX))?;
            for (j, v) in (0..u32::MAX).zip(values) {
                row.set(j, Shown(v, bigint))?;
            }
            array.set(i, row)
        })?;
    }
    let mut o = Object::new(env)?;
    o.set("columns", rows.columns().to_vec())?;
    o.set("rows", array)?;
    Ok(o)
}

fn executed<'e>(env: &'e Env, r: &ExecuteResult, bigint: bool) -> Result<Object<'e>> {
    let mut o = Object::new(env)?;
    o.set("rowsAffected", r.rows_affected as f64)?;
    o.set("lastInsertRowid", Integer(r.last_insert_rowid, bigint))?;
    o.set("index", r.index as f64)?;
    o.set("rows", rows(env, &r.rows, bigint)?)?;
    Ok(o)
}

fn members<'e>(env: &'e Env, members: &[Member]) -> Result<Array<'e>> {
    let mut array = env.create_array(0)?;
    for m in members {
        let mut o = Object::new(env)?;
        o.set("nodeId", m.node_id.as_str())?;
        o.set("address", m.address.as_str())?;
        o.set("role", m.role.as_str())?;
        set_or_null(&mut o, "reachable", m.reachable)?;
        set_or_null(&mut o, "appliedIndex", m.applied_index.map(|i| i as f64))?;
        array.insert(o)?;
    }
    Ok(array)
}

fn set_or_null(o: &mut Object<'_>, name: &str, v: Option<impl ToNapiValue>) -> Result<()> {
    match v {
        Some(v) => o.set_named_property(name, v),
        None => o.set_named_property(name, Null),
    }
}

/// The fields of `Status` in `ts/types.ts`.
pub(crate) fn status<'e>(env: &'e Env, s: &Status) -> Result<Object<'e>> {
    let mut o = Object::new(env)?;
    o.set("nodeId", s.node_id.as_str())?;
    o.set("clusterId", s.cluster_id.as_str())?;
    o.set("role", s.role.as_str())?;
    o.set("state", s.state)?;
    set_or_null(&mut o, "leaderId", s.leader_id.as_deref())?;
    o.set("term", s.term as f64)?;
    o.set("lastLogIndex", s.last_log_index as f64)?;
    o.set("commitIndex", s.commit_index as f64)?;
    o.set("appliedIndex", s.applied_index as f64)?;
    o.set("durableIndex", s.durable_index as f64)?;
    o.set("purgedIndex", s.purged_index as f64)?;
    o.set("logBytes", s.log_bytes as f64)?;
    set_or_null(&mut o, "address", s.address.as_deref())?;
    set_or_null(&mut o, "lastRefusal", s.last_refusal.as_deref())?;
    o.set("checkedIndex", s.checked_index as f64)?;
    set_or_null(&mut o, "divergence", s.divergence.as_deref())?;
    set_or_null(&mut o, "clockWarning", s.clock_warning.as_deref())?;
    o.set("applyLevel", s.apply_level)?;
    o.set("fingerprint", s.fingerprint.as_str())?;
    match &s.halted {
        None => o.set("halted", Null)?,
        Some(halted) => {
            let mut h = Object::new(env)?;
            h.set("index", halted.index as f64)?;
            h.set("attempts", halted.attempts)?;
            h.set("reason", halted.reason.as_str())?;
            o.set("halted", h)?;
        }
    }
    match &s.snapshot {
        None => o.set("snapshot", Null)?,
        Some(progress) => {
            let mut p = Object::new(env)?;
            p.set("totalBytes", progress.total_bytes as f64)?;
            p.set("presentBytes", progress.present_bytes as f64)?;
            p.set("receivedBytes", progress.received_bytes as f64)?;
            o.set("snapshot", p)?;
        }
    }
    o.set("members", members(env, &s.members)?)?;
    Ok(o)
}

/// The fields of `CheckReport` in `ts/types.ts`.
fn checked<'e>(env: &'e Env, report: &CheckReport) -> Result<Object<'e>> {
    let mut findings = env.create_array(0)?;
    for finding in &report.findings {
        let mut f = Object::new(env)?;
        f.set("severity", finding.severity.as_str())?;
        f.set("code", finding.code.as_str())?;
        f.set("message", finding.message.as_str())?;
        findings.insert(f)?;
    }
    let mut o = Object::new(env)?;
    o.set("ok", report.ok)?;
    o.set("nodeId", report.node_id.as_str())?;
    o.set("clusterId", report.cluster_id.as_str())?;
    o.set("term", report.term as f64)?;
    o.set("lastLogTerm", report.last_log_term as f64)?;
    o.set("lastLogIndex", report.last_log_index as f64)?;
    o.set("purgedIndex", report.purged_index as f64)?;
    o.set("appliedIndex", report.applied_index as f64)?;
    o.set("members", members(env, &report.members)?)?;
    o.set("findings", findings)?;
    Ok(o)
}

fn failure<'e>(env: &'e Env, f: &Failure) -> Result<Object<'e>> {
    let (kind, code, message) = match f {
        Failure::Core(e) => (e.kind().as_str(), e.code(), e.message().to_owned()),
        Failure::Panic => (
            "Internal",
            "INTERNAL_PANIC",
            "an internal error (a panic) ended this call; whether a write was applied is unknown. \
             Please report it with the lines on standard error"
                .to_owned(),
        ),
        Failure::Threads(e) => (
            "Internal",
            "INTERNAL_THREADS",
            format!("the runtime's threads cannot be started: {e}; raise the process limit"),
        ),
    };
    let core = match f {
        Failure::Core(e) => Some(e),
        _ => None,
    };
    let mut o = Object::new(env)?;
    o.set("kind", kind)?;
    o.set("code", code)?;
    o.set("message", message)?;
    o.set("retryable", core.is_some_and(Error::retryable))?;
    set_or_null(&mut o, "leader", core.and_then(Error::leader))?;
    set_or_null(&mut o, "sqliteCode", core.and_then(Error::sqlite_code))?;
    Ok(o)
}

fn success<'e>(env: &'e Env, s: Success, bigint: bool) -> Result<Object<'e>> {
    let mut o = Object::new(env)?;
    let value = "value";
    match s {
        Success::Done => o.set(value, Null)?,
        Success::Opened(node) => o.set(value, NativeNode::new(*env, node, bigint)?)?,
        Success::Executed(r) => o.set(value, executed(env, &r, bigint)?)?,
        Success::Batch(results) => {
            let mut array = env.create_array(0)?;
            for r in &results {
                array.insert(executed(env, r, bigint)?)?;
            }
            o.set(value, array)?
        }
        Success::Rows(r) => o.set(value, rows(env, &r, bigint)?)?,
        Success::Members(m) => o.set(value, members(env, &m)?)?,
        Success::Text(text) => o.set(value, text)?,
        Success::Hash(h) => {
            let mut hash = Object::new(env)?;
            hash.set("hash", h.hash)?;
            hash.set("index", h.index as f64)?;
            o.set(value, hash)?
        }
        Success::Checked(report) => o.set(value, checked(env, &report)?)?,
        Success::Recovered(recovery) => {
            let mut r = Object::new(env)?;
            r.set("nodeId", recovery.node_id)?;
            r.set("clusterId", recovery.cluster_id)?;
            r.set("lastLogIndex", recovery.last_log_index as f64)?;
            r.set("removed", recovery.removed)?;
            o.set(value, r)?
        }
    };
    Ok(o)
}

impl Outcome {
    /// The object that `ts/outcome.ts` expects.
    pub(crate) fn into_object(self, env: &Env) -> Result<Object<'_>> {
        match self.ending {
            Ending::Success(s) => success(env, s, self.bigint),
            Ending::Failure(f) => {
                let mut o = Object::new(env)?;
                o.set("failure", failure(env, &f)?)?;
                Ok(o)
            }
            Ending::Cancelled => Object::new(env),
        }
    }
}

impl ToNapiValue for Outcome {
    unsafe fn to_napi_value(env: sys::napi_env, outcome: Self) -> Result<sys::napi_value> {
        let env = Env::from_raw(env);
        let object = outcome.into_object(&env)?;
        // SAFETY: the object was made in this environment.
        unsafe { Object::to_napi_value(env.raw(), object) }
    }
}
