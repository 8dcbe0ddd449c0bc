//! From JavaScript to the core: values, parameters, statements. `ts/arguments.ts` has checked them
//! and says what is wrong with a wrong one; what it would not let through is a plain error here.

use napi::bindgen_prelude::{
    Array, BigInt, Float64ArraySlice, FromNapiValue, TypeName, Uint8ArraySlice, ValidateNapiValue,
};
use napi::{Error, Result, Status, ValueType, sys, type_of};
use quorumlite::{Params, Statement, Value};

/// The largest integer that a number holds exactly together with its neighbours, 2^53 - 1.
const MAX_SAFE_INTEGER: f64 = 9_007_199_254_740_991.0;

/// One parameter.
struct Parameter(Value);

fn unexpected(what: &str) -> Error {
    Error::new(Status::InvalidArg, format!("unexpected {what}"))
}

/// What a JavaScript number binds as: an integer that is safe is an INTEGER, all else a REAL. -0
/// is a REAL, because an INTEGER has no sign of zero.
fn number(n: f64) -> Value {
    let integral = n.fract() == 0.0 && n.abs() <= MAX_SAFE_INTEGER;
    if integral && !(n == 0.0 && n.is_sign_negative()) {
        Value::Integer(n as i64)
    } else {
        Value::Real(n)
    }
}

impl FromNapiValue for Parameter {
    unsafe fn from_napi_value(env: sys::napi_env, v: sys::napi_value) -> Result<Self> {
        // SAFETY, here and below: `env` and `v` are those that this function was called with, and
        // each conversion checks the type of `v` itself.
        Ok(Parameter(match type_of!(env, v)? {
            ValueType::Null => Value::Null,
            ValueType::Boolean => {
                // SAFETY: see above.
                Value::Integer(i64::from(unsafe { bool::from_napi_value(env, v)? }))
            }
            // SAFETY: see above.
            ValueType::Number => number(unsafe { f64::from_napi_value(env, v)? }),
            ValueType::BigInt => {
                // SAFETY: see above.
                let (n, lossless) = unsafe { BigInt::from_napi_value(env, v)? }.get_i64();
                if !lossless {
                    return Err(unexpected("BigInt beyond 64 bits"));
                }
                Value::Integer(n)
            }
            // SAFETY: see above.
            ValueType::String => Value::Text(unsafe { String::from_napi_value(env, v)? }),
            ValueType::Object => {
                // SAFETY: see above. The bytes are copied before JavaScript can run again.
                if let Ok(bytes) = unsafe { Uint8ArraySlice::from_napi_value(env, v) } {
                    Value::Blob(bytes.as_ref().to_vec())
                } else {
                    // One double in an array of its own is what `real()` becomes.
                    // SAFETY: see above.
                    let real = unsafe { Float64ArraySlice::from_napi_value(env, v)? };
                    let [real] = real.as_ref() else { return Err(unexpected("array")) };
                    Value::Real(*real)
                }
            }
            other => return Err(unexpected(&other.to_string())),
        }))
    }
}

/// The parameters of a statement as `ts/arguments.ts` gives them: `[names or null, values]`.
pub struct Parameters(Params);

impl FromNapiValue for Parameters {
    unsafe fn from_napi_value(env: sys::napi_env, v: sys::napi_value) -> Result<Self> {
        // SAFETY: both are those that this function was called with; the conversion checks.
        let pair = unsafe { Array::from_napi_value(env, v)? };
        let missing = || unexpected("shape of parameters");
        let names: Option<Vec<String>> = pair.get(0)?.ok_or_else(missing)?;
        let values: Array = pair.get(1)?.ok_or_else(missing)?;
        let mut converted = Vec::with_capacity(values.len() as usize);
        for i in 0..values.len() {
            converted.push(values.get::<Parameter>(i)?.ok_or_else(missing)?.0);
        }
        Ok(Parameters(match names {
            None => Params::Positional(converted),
            Some(names) if names.len() == converted.len() => {
                Params::Named(names.into_iter().zip(converted).collect())
            }
            Some(_) => return Err(missing()),
        }))
    }
}

impl TypeName for Parameters {
    fn type_name() -> &'static str {
        "Array"
    }

    fn value_type() -> ValueType {
        ValueType::Object
    }
}

impl ValidateNapiValue for Parameters {}

/// A statement.
pub(crate) fn statement(sql: String, params: Parameters) -> Statement {
    Statement { sql, params: params.0 }
}
