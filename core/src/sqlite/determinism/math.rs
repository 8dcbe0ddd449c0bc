//! SQL's mathematical functions (<https://www.sqlite.org/lang_mathfunc.html>), computed by the same
//! code on every platform.
//!
//! SQLite's own call the C library, whose last digits differ from one system to the next, and are
//! not part of every build of SQLite. These come from the crate `libm`, a port of musl's, which
//! uses nothing but IEEE 754 arithmetic. They keep SQLite's rules: NULL for what is no number and
//! where the result is none.

use std::f64::consts::PI;
use std::ffi::{CStr, c_int, c_void};

use rusqlite::{Connection, ffi};

use crate::sqlite::determinism::functions::{Arguments, define};

const FLAGS: c_int = ffi::SQLITE_UTF8 | ffi::SQLITE_INNOCUOUS | ffi::SQLITE_DETERMINISTIC;

struct OneArgument(&'static CStr, fn(f64) -> f64);

static ONE_ARGUMENT: &[OneArgument] = &[
    OneArgument(c"acos", libm::acos),
    OneArgument(c"acosh", libm::acosh),
    OneArgument(c"asin", libm::asin),
    OneArgument(c"asinh", libm::asinh),
    OneArgument(c"atan", libm::atan),
    OneArgument(c"atanh", libm::atanh),
    OneArgument(c"cos", libm::cos),
    OneArgument(c"cosh", libm::cosh),
    OneArgument(c"degrees", |x| x * (180.0 / PI)),
    OneArgument(c"exp", libm::exp),
    OneArgument(c"radians", |x| x * (PI / 180.0)),
    OneArgument(c"sin", libm::sin),
    OneArgument(c"sinh", libm::sinh),
    OneArgument(c"sqrt", libm::sqrt),
    OneArgument(c"tan", libm::tan),
    OneArgument(c"tanh", libm::tanh),
];

/// Defined for numbers above 0 only: NULL for the others, infinity included in the numbers.
static LOGARITHMS: &[OneArgument] = &[
    OneArgument(c"ln", libm::log),
    OneArgument(c"log", libm::log10),
    OneArgument(c"log10", libm::log10),
    OneArgument(c"log2", libm::log2),
];

/// An integer is its own result.
static ROUNDING: &[OneArgument] = &[
    OneArgument(c"ceil", libm::ceil),
    OneArgument(c"ceiling", libm::ceil),
    OneArgument(c"floor", libm::floor),
    OneArgument(c"trunc", libm::trunc),
];

struct TwoArguments(&'static CStr, fn(f64, f64) -> f64);

static TWO_ARGUMENTS: &[TwoArguments] = &[
    TwoArguments(c"atan2", libm::atan2),
    TwoArguments(c"log", log_to_base),
    TwoArguments(c"mod", libm::fmod),
    TwoArguments(c"pow", libm::pow),
    TwoArguments(c"power", libm::pow),
];

/// NaN, which SQL sees as NULL, where the base is not above 1 or the number not above 0.
fn log_to_base(base: f64, x: f64) -> f64 {
    let divisor = libm::log(base);
    if base > 0.0 && divisor > 0.0 && x > 0.0 { libm::log(x) / divisor } else { f64::NAN }
}

/// Defines them on `conn`.
pub(in crate::sqlite) fn install(conn: &Connection) -> crate::Result<()> {
    let one = |function: &'static OneArgument, body| {
        let state = std::ptr::from_ref(function).cast_mut().cast::<c_void>();
        define(conn, function.0, 1, FLAGS, state, body)
    };
    ONE_ARGUMENT.iter().try_for_each(|function| one(function, one_argument))?;
    LOGARITHMS.iter().try_for_each(|function| one(function, logarithm))?;
    ROUNDING.iter().try_for_each(|function| one(function, rounding))?;
    for function in TWO_ARGUMENTS {
        let state = std::ptr::from_ref(function).cast_mut().cast::<c_void>();
        define(conn, function.0, 2, FLAGS, state, two_arguments)?;
    }
    define(conn, c"pi", 0, FLAGS, std::ptr::null_mut(), pi)
}

/// The value of argument `i`, if it is a number or a text that is one.
fn number(arguments: &Arguments, i: usize) -> Option<f64> {
    let value = arguments.get(i)?;
    // SAFETY: `value` is a live argument of the function that is being called.
    unsafe {
        match ffi::sqlite3_value_numeric_type(value) {
            ffi::SQLITE_INTEGER | ffi::SQLITE_FLOAT => Some(ffi::sqlite3_value_double(value)),
            _ => None,
        }
    }
}

/// # Safety
/// `ctx` belongs to a call of a function whose state is a [`OneArgument`].
unsafe fn of_one_argument(ctx: *mut ffi::sqlite3_context) -> fn(f64) -> f64 {
    // SAFETY: the state points into a static table.
    unsafe { (*ffi::sqlite3_user_data(ctx).cast::<OneArgument>()).1 }
}

unsafe extern "C" fn one_argument(
    ctx: *mut ffi::sqlite3_context,
    count: c_int,
    values: *mut *mut ffi::sqlite3_value,
) {
    // SAFETY: SQLite passes `count` values, and the state given to `define`; a NaN becomes NULL.
    unsafe {
        if let Some(x) = number(&Arguments::new(count, values), 0) {
            ffi::sqlite3_result_double(ctx, of_one_argument(ctx)(x));
        }
    }
}

unsafe extern "C" fn logarithm(
    ctx: *mut ffi::sqlite3_context,
    count: c_int,
    values: *mut *mut ffi::sqlite3_value,
) {
    // SAFETY: as in `one_argument`.
    unsafe {
        if let Some(x) = number(&Arguments::new(count, values), 0).filter(|x| *x > 0.0) {
            ffi::sqlite3_result_double(ctx, of_one_argument(ctx)(x));
        }
    }
}

unsafe extern "C" fn rounding(
    ctx: *mut ffi::sqlite3_context,
    count: c_int,
    values: *mut *mut ffi::sqlite3_value,
) {
    // SAFETY: as in `one_argument`.
    unsafe {
        let arguments = Arguments::new(count, values);
        let (Some(value), Some(x)) = (arguments.get(0), number(&arguments, 0)) else { return };
        if ffi::sqlite3_value_numeric_type(value) == ffi::SQLITE_INTEGER {
            ffi::sqlite3_result_int64(ctx, ffi::sqlite3_value_int64(value));
        } else {
            ffi::sqlite3_result_double(ctx, of_one_argument(ctx)(x));
        }
    }
}

unsafe extern "C" fn two_arguments(
    ctx: *mut ffi::sqlite3_context,
    count: c_int,
    values: *mut *mut ffi::sqlite3_value,
) {
    // SAFETY: SQLite passes `count` values, and as state what `install` gave: a [`TwoArguments`] in
    // a static table.
    unsafe {
        let arguments = Arguments::new(count, values);
        let (Some(x), Some(y)) = (number(&arguments, 0), number(&arguments, 1)) else { return };
        let function = (*ffi::sqlite3_user_data(ctx).cast::<TwoArguments>()).1;
        ffi::sqlite3_result_double(ctx, function(x, y));
    }
}

unsafe extern "C" fn pi(ctx: *mut ffi::sqlite3_context, _: c_int, _: *mut *mut ffi::sqlite3_value) {
    // SAFETY: `ctx` is the live context of this call.
    unsafe { ffi::sqlite3_result_double(ctx, PI) }
}
