//! `trim()`, `instr()`, `replace()`, LIKE and GLOB, with the answers of SQLite's own but a cost that
//! is bounded.
//!
//! In SQLite each of them may take the product of its arguments' lengths within one instruction of
//! the virtual machine, where nothing can stop it, and LIKE and GLOB go one call deeper for each
//! wildcard. Here the first three take the sum of the lengths. LIKE and GLOB are replaced on the
//! writer only: SQLite uses an index for its own LIKE, and that is worth having in queries, where a
//! bound on the pattern keeps the stack small.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{CStr, c_char, c_int, c_void};

use memchr::memmem;
use rusqlite::{Connection, ffi};

use super::functions::{Arguments, define};
use crate::sqlite::apply::budget;

const FLAGS: c_int = ffi::SQLITE_UTF8 | ffi::SQLITE_INNOCUOUS | ffi::SQLITE_DETERMINISTIC;

/// As many bytes as are looked at before the budget is asked again.
const BATCH: usize = 64 << 10;

/// What `trim()` and its like take away; a bit for each side.
const LEFT: usize = 1;
const RIGHT: usize = 2;

/// How LIKE and GLOB differ (compareInfo in SQLite's `func.c`).
#[derive(Clone, Copy)]
struct Rules {
    any: u32,
    one: u32,
    sets: bool,
    ignore_case: bool,
}

const LIKE: Rules = Rules { any: '%' as u32, one: '_' as u32, sets: false, ignore_case: true };
const GLOB: Rules = Rules { any: '*' as u32, one: '?' as u32, sets: true, ignore_case: false };

/// Replaces `trim()`, `ltrim()`, `rtrim()`, `instr()` and `replace()`.
pub(in crate::sqlite) fn install(conn: &Connection) -> crate::Result<()> {
    for (name, sides) in [(c"trim", LEFT | RIGHT), (c"ltrim", LEFT), (c"rtrim", RIGHT)] {
        for arguments in [1, 2] {
            let sides = std::ptr::without_provenance_mut(sides);
            define(conn, name, arguments, FLAGS, sides, trim)?;
        }
    }
    define(conn, c"instr", 2, FLAGS, std::ptr::null_mut(), instr)?;
    define(conn, c"replace", 3, FLAGS, std::ptr::null_mut(), replace)
}

/// Replaces LIKE and GLOB.
pub(in crate::sqlite) fn install_patterns(conn: &Connection) -> crate::Result<()> {
    for (name, arguments, rules) in [(c"like", 2, &LIKE), (c"like", 3, &LIKE), (c"glob", 2, &GLOB)]
    {
        let rules = std::ptr::from_ref(rules).cast_mut().cast::<c_void>();
        define(conn, name, arguments, FLAGS, rules, matches)?;
    }
    Ok(())
}

/// The bytes of a value as text, or none where it is NULL.
///
/// # Safety
/// `value` is an argument of a call that has not returned; the bytes live until it is asked for
/// another type.
unsafe fn text<'a>(value: *mut ffi::sqlite3_value) -> Option<&'a [u8]> {
    // SAFETY: promised by the caller; the length is asked for after the text, as SQLite wants it.
    unsafe {
        let bytes = ffi::sqlite3_value_text(value);
        if bytes.is_null() {
            return None;
        }
        let length = usize::try_from(ffi::sqlite3_value_bytes(value)).unwrap_or(0);
        Some(std::slice::from_raw_parts(bytes, length))
    }
}

/// As [`text`], for a BLOB.
///
/// # Safety
/// As [`text`].
unsafe fn blob<'a>(value: *mut ffi::sqlite3_value) -> &'a [u8] {
    // SAFETY: promised by the caller.
    unsafe {
        let bytes = ffi::sqlite3_value_blob(value).cast::<u8>();
        let length = usize::try_from(ffi::sqlite3_value_bytes(value)).unwrap_or(0);
        if bytes.is_null() { &[] } else { std::slice::from_raw_parts(bytes, length) }
    }
}

/// Pays for looking at `bytes`; where the budget is spent the call ends as an interrupted one.
///
/// # Safety
/// `ctx` is the live context of a call.
unsafe fn pay(ctx: *mut ffi::sqlite3_context, bytes: usize) -> bool {
    let enough = budget::charge_bytes(i32::try_from(bytes).unwrap_or(i32::MAX));
    if !enough {
        // SAFETY: promised by the caller.
        unsafe { ffi::sqlite3_result_error_code(ctx, ffi::SQLITE_INTERRUPT) };
    }
    enough
}

/// Answers with a copy of `bytes` as text.
///
/// # Safety
/// `ctx` is the live context of a call.
unsafe fn result_text(ctx: *mut ffi::sqlite3_context, bytes: &[u8]) {
    // SAFETY: promised by the caller; SQLite copies the text.
    unsafe {
        ffi::sqlite3_result_text64(
            ctx,
            bytes.as_ptr().cast::<c_char>(),
            bytes.len() as u64,
            ffi::SQLITE_TRANSIENT(),
            ffi::SQLITE_UTF8 as u8,
        );
    }
}

/// The characters of a text up to its first NUL, each as its bytes: one, and those of the form
/// 10xxxxxx that follow where the first is 0xc0 or more (SQLITE_SKIP_UTF8).
fn characters(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let first = *rest.first().filter(|byte| **byte != 0)?;
        let more = rest[1..].iter().take_while(|byte| first >= 0xc0 && **byte & 0xc0 == 0x80);
        let (character, after) = rest.split_at(1 + more.count());
        rest = after;
        Some(character)
    })
}

/// `trim(X)`, `trim(X, Y)` and their one-sided forms.
unsafe extern "C" fn trim(
    ctx: *mut ffi::sqlite3_context,
    count: c_int,
    values: *mut *mut ffi::sqlite3_value,
) {
    // SAFETY: the arguments are SQLite's own, for a function of one or two arguments.
    unsafe {
        let arguments = Arguments::new(count, values);
        let Some(mut from) = arguments.get(0).and_then(|value| text(value)) else { return };
        let set: &[u8] = match arguments.get(1) {
            None => b" ",
            Some(value) => match text(value) {
                None => return,
                Some(set) => set,
            },
        };
        if !pay(ctx, from.len() + set.len()) {
            return;
        }
        let sides = ffi::sqlite3_user_data(ctx).addr();
        let mut places = HashMap::new();
        let mut lengths = BTreeSet::new();
        for (place, character) in characters(set).enumerate() {
            places.entry(character).or_insert(place);
            lengths.insert(character.len());
        }
        // Of those that fit, the one that comes first in the set: it matters where bytes are no UTF-8.
        let fitting = |piece: &dyn Fn(usize) -> Option<&'static [u8]>| {
            let place = |length: &usize| Some((*places.get(piece(*length)?)?, *length));
            lengths.iter().filter_map(place).min().map(|(_, length)| length)
        };
        if sides & LEFT != 0 {
            while let Some(length) = fitting(&|length| from.get(..length)) {
                from = &from[length..];
            }
        }
        if sides & RIGHT != 0 {
            while let Some(length) = fitting(&|length| from.get(from.len().checked_sub(length)?..))
            {
                from = &from[..from.len() - length];
            }
        }
        result_text(ctx, from);
    }
}

/// `instr(X, Y)`: where Y begins in X, counted from 1 in characters, or in bytes where both are
/// BLOBs; 0 where it does not occur.
unsafe extern "C" fn instr(
    ctx: *mut ffi::sqlite3_context,
    count: c_int,
    values: *mut *mut ffi::sqlite3_value,
) {
    // SAFETY: the arguments are SQLite's own, for a function of two arguments. A BLOB read as text
    // would be one from then on in the caller's hands, so it is read as it is: the bytes are equal.
    unsafe {
        let arguments = Arguments::new(count, values);
        let (Some(hay), Some(needle)) = (arguments.get(0), arguments.get(1)) else { return };
        let types = (ffi::sqlite3_value_type(hay), ffi::sqlite3_value_type(needle));
        if types.0 == ffi::SQLITE_NULL || types.1 == ffi::SQLITE_NULL {
            return;
        }
        let bytes = |value, kind| match kind {
            ffi::SQLITE_BLOB => blob(value),
            _ => text(value).unwrap_or_default(),
        };
        let (hay, needle) = (bytes(hay, types.0), bytes(needle, types.1));
        if !pay(ctx, hay.len() + needle.len()) {
            return;
        }
        let as_text = types != (ffi::SQLITE_BLOB, ffi::SQLITE_BLOB);
        ffi::sqlite3_result_int64(ctx, position(hay, needle, as_text));
    }
}

fn position(hay: &[u8], needle: &[u8], as_text: bool) -> i64 {
    let begins_character = |at: usize| at == 0 || !as_text || hay[at] & 0xc0 != 0x80;
    let finder = memmem::Finder::new(needle);
    let mut from = 0;
    while let Some(found) = hay.get(from..).and_then(|rest| finder.find(rest)) {
        let at = from + found;
        if needle.is_empty() || begins_character(at) {
            let before = (1..=at).filter(|i| begins_character(*i)).count();
            return i64::try_from(before).unwrap_or(i64::MAX) + 1;
        }
        // Within a character: the next place to look at is where the next one begins.
        from = at + 1 + hay[at + 1..].iter().take_while(|byte| **byte & 0xc0 == 0x80).count();
    }
    0
}

/// `replace(X, Y, Z)`.
unsafe extern "C" fn replace(
    ctx: *mut ffi::sqlite3_context,
    count: c_int,
    values: *mut *mut ffi::sqlite3_value,
) {
    // SAFETY: the arguments are SQLite's own, for a function of three arguments; the memory is
    // SQLite's, filled in full and given away with SQLite's own way to free it.
    unsafe {
        let arguments = Arguments::new(count, values);
        let argument = |i| arguments.get(i).and_then(|value| text(value));
        let Some(from) = argument(0) else { return };
        let Some(pattern) = argument(1) else { return };
        if pattern.first().is_none_or(|byte| *byte == 0) {
            return result_text(ctx, from);
        }
        let Some(replacement) = argument(2) else { return };
        if !pay(ctx, 2 * from.len()) {
            return;
        }
        let found: Vec<usize> = memmem::find_iter(from, pattern).collect();
        let length = from.len() + found.len() * replacement.len() - found.len() * pattern.len();
        let db = ffi::sqlite3_context_db_handle(ctx);
        let limit = ffi::sqlite3_limit(db, ffi::SQLITE_LIMIT_LENGTH, -1);
        if i64::try_from(length).is_ok_and(|length| length > i64::from(limit)) {
            return ffi::sqlite3_result_error_toobig(ctx);
        }
        let memory = ffi::sqlite3_malloc64(length as u64 + 1).cast::<u8>();
        if memory.is_null() {
            return ffi::sqlite3_result_error_nomem(ctx);
        }
        std::ptr::write_bytes(memory, 0, length + 1);
        let mut into = std::slice::from_raw_parts_mut(memory, length);
        let mut put = |bytes: &[u8]| {
            let (here, rest) = std::mem::take(&mut into).split_at_mut(bytes.len());
            here.copy_from_slice(bytes);
            into = rest;
        };
        let mut done = 0;
        for at in found {
            put(&from[done..at]);
            put(replacement);
            done = at + pattern.len();
        }
        put(&from[done..]);
        ffi::sqlite3_result_text64(
            ctx,
            memory.cast::<c_char>(),
            length as u64,
            Some(ffi::sqlite3_free),
            ffi::SQLITE_UTF8 as u8,
        );
    }
}

/// `like(pattern, text)`, `like(pattern, text, escape)` and `glob(pattern, text)`.
unsafe extern "C" fn matches(
    ctx: *mut ffi::sqlite3_context,
    count: c_int,
    values: *mut *mut ffi::sqlite3_value,
) {
    let fail = |message: &CStr| {
        // SAFETY: the context is live; SQLite copies the message.
        unsafe { ffi::sqlite3_result_error(ctx, message.as_ptr(), -1) };
    };
    // SAFETY: the arguments are SQLite's own, and the state is one of the two above.
    unsafe {
        let arguments = Arguments::new(count, values);
        let (Some(pattern), Some(string)) = (arguments.get(0), arguments.get(1)) else { return };
        let mut rules = *ffi::sqlite3_user_data(ctx).cast::<Rules>();
        let db = ffi::sqlite3_context_db_handle(ctx);
        let limit = ffi::sqlite3_limit(db, ffi::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, -1);
        if ffi::sqlite3_value_bytes(pattern) > limit {
            return fail(c"LIKE or GLOB pattern too complex");
        }
        let mut escape = None;
        if let Some(value) = arguments.get(2) {
            let Some(given) = text(value) else { return };
            let mut all = characters(given);
            let (Some(first), None) = (all.next(), all.next()) else {
                return fail(c"ESCAPE expression must be a single character");
            };
            let character = Reader(first).next();
            escape = Some(character);
            // 0 is what no character equals.
            if character == rules.any {
                rules.any = 0;
            }
            if character == rules.one {
                rules.one = 0;
            }
        }
        let (Some(pattern), Some(string)) = (text(pattern), text(string)) else { return };
        if let Some(matched) = is_match(rules, escape, pattern, string, |bytes| pay(ctx, bytes)) {
            ffi::sqlite3_result_int(ctx, c_int::from(matched));
        }
    }
}

/// Reads characters as SQLite does (sqlite3Utf8Read): any bytes are some text.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    /// The next character; 0 at the end, or at a NUL, where SQLite stops reading.
    fn next(&mut self) -> u32 {
        let Some((&first, mut rest)) = self.0.split_first() else { return 0 };
        let mut character = u32::from(first);
        if first >= 0xc0 {
            character = u32::from(match first {
                0xc0..0xe0 => first & 0x1f,
                0xe0..0xf0 => first & 0x0f,
                0xf0..0xf8 => first & 0x07,
                0xf8..0xfc => first & 0x03,
                0xfc..0xfe => first & 0x01,
                _ => 0,
            });
            while let Some((&next, after)) = rest.split_first()
                && next & 0xc0 == 0x80
            {
                character = (character << 6).wrapping_add(u32::from(next & 0x3f));
                rest = after;
            }
            if character < 0x80
                || character & 0xffff_f800 == 0xd800
                || character & 0xffff_fffe == 0xfffe
            {
                character = 0xfffd;
            }
        }
        if character != 0 {
            self.0 = rest;
        }
        character
    }
}

/// Whether `string` matches; none where paying for it failed.
///
/// What stands between two wildcards for any number of characters matches as far left as it can, so
/// only the last such wildcard has to be gone back to: no recursion.
fn is_match(
    rules: Rules,
    escape: Option<u32>,
    pattern: &[u8],
    string: &[u8],
    mut pay: impl FnMut(usize) -> bool,
) -> Option<bool> {
    let (mut pattern, mut string) = (Reader(pattern), Reader(string));
    let mut again: Option<(Reader<'_>, Reader<'_>)> = None;
    let mut looked_at = 0;
    loop {
        looked_at += 1;
        if looked_at == BATCH {
            looked_at = 0;
            // A step through a pattern costs about what four instructions do.
            if !pay(BATCH * 64) {
                return None;
            }
        }
        match pattern.next() {
            0 if string.next() == 0 => return Some(true),
            0 => {}
            c if c == rules.any => {
                again = Some((pattern, string));
                continue;
            }
            c => {
                let mut rest = pattern;
                if one(rules, escape, c, &mut rest, &mut string) {
                    pattern = rest;
                    continue;
                }
            }
        }
        // Begin one character later after the last wildcard.
        let Some((after_wildcard, mut from)) = again else { return Some(false) };
        if from.next() == 0 {
            return Some(false);
        }
        again = Some((after_wildcard, from));
        (pattern, string) = (after_wildcard, from);
    }
}

/// Whether the next character of `string` is what `c`, read from the pattern before `rest`, stands
/// for; both are read on.
fn one(
    rules: Rules,
    escape: Option<u32>,
    c: u32,
    rest: &mut Reader<'_>,
    string: &mut Reader<'_>,
) -> bool {
    let mut wanted = c;
    let mut escaped = false;
    if rules.sets && c == '[' as u32 {
        let character = string.next();
        return character != 0 && in_set(character, rest);
    }
    if Some(c) == escape {
        wanted = rest.next();
        escaped = true;
        if wanted == 0 {
            return false;
        }
    }
    let character = string.next();
    if character == wanted {
        return true;
    }
    let lower = |c: u32| if c < 0x80 { u32::from((c as u8).to_ascii_lowercase()) } else { c };
    if rules.ignore_case && wanted < 0x80 && character < 0x80 && lower(wanted) == lower(character) {
        return true;
    }
    wanted == rules.one && !escaped && character != 0
}

/// Whether `character` is in the set of GLOB that `rest` begins with, past the `[`.
fn in_set(character: u32, rest: &mut Reader<'_>) -> bool {
    let mut seen = false;
    let mut inverted = false;
    let mut prior = 0;
    let mut c = rest.next();
    if c == '^' as u32 {
        inverted = true;
        c = rest.next();
    }
    if c == ']' as u32 {
        seen = character == c;
        c = rest.next();
    }
    while c != 0 && c != ']' as u32 {
        let next = rest.0.first().copied().unwrap_or(0);
        if c == '-' as u32 && next != b']' && next != 0 && prior > 0 {
            c = rest.next();
            seen |= character >= prior && character <= c;
            prior = 0;
        } else {
            seen |= character == c;
            prior = c;
        }
        c = rest.next();
    }
    c != 0 && seen != inverted
}
