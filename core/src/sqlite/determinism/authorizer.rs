//! Which statements may run: asked by SQLite's authorizer while it compiles a user's statement.
//!
//! The authorizer sees what a statement does through views, triggers and table-valued functions,
//! where a look at its text would not. It can only say no, so the reason is kept aside, per thread,
//! for [`UserStatement::denial`].

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr;

use rusqlite::{Connection, ffi};

use crate::error::{Error, ErrorKind};
use crate::sqlite::error;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sqlite) enum Role {
    /// Applies commands: only what gives the same result on each replica.
    Writer,
    /// Answers queries: whatever reads. It is opened read-only; a statement that would write is
    /// told so by [`write_in_query`].
    Reader,
}

/// The prefix of names that belong to the state machine itself.
pub(in crate::sqlite) const INTERNAL_PREFIX: &str = "_quorumlite_";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Statements of our own: everything is allowed.
    Internal,
    /// A user's statement is being compiled.
    Prepare,
    /// A user's statement runs; what is compiled now comes from virtual tables, from table-valued
    /// pragmas, or is that statement again after the schema changed.
    Step,
}

thread_local! {
    static IS_DML: Cell<bool> = const { Cell::new(false) };
    /// The statement is one for which SQLite itself looks up root pages, and that has no expression
    /// of a user's.
    static MOVES_PAGES: Cell<bool> = const { Cell::new(false) };
    /// The statement is only explained.
    static EXPLAINS: Cell<bool> = const { Cell::new(false) };
    static STAGE: Cell<Stage> = const { Cell::new(Stage::Internal) };
    static DENIAL: RefCell<Option<Error>> = const { RefCell::new(None) };
    static SEEN: RefCell<Seen> = const { RefCell::new(Seen::new()) };
}

/// While it lives, the authorizer of this thread counts what it is asked, and refuses everything once
/// that is too much. SQLite asks once more for each use of a view, so this is how large a statement is
/// with all that it names.
pub(in crate::sqlite) struct Questions {
    most: usize,
    not_send: PhantomData<*const ()>,
}

thread_local! {
    static QUESTIONS_LEFT: Cell<Option<usize>> = const { Cell::new(None) };
}

impl Questions {
    pub(in crate::sqlite) fn begin(most: usize) -> Self {
        QUESTIONS_LEFT.set(Some(most));
        Questions { most, not_send: PhantomData }
    }

    pub(in crate::sqlite) fn were_too_many(&self) -> bool {
        QUESTIONS_LEFT.get() == Some(0)
    }

    /// Whether they may be too many for another node, which knows less of its views.
    pub(in crate::sqlite) fn were_many(&self) -> bool {
        QUESTIONS_LEFT.get().is_some_and(|left| left < self.most / 4 * 3)
    }
}

impl Drop for Questions {
    fn drop(&mut self) {
        QUESTIONS_LEFT.set(None);
    }
}

/// What a write did that has to be looked at once it has run.
struct Seen {
    /// The table that it creates, and whether from a SELECT.
    created: Option<String>,
    selects: bool,
    /// The tables or views whose columns it asked for.
    asked: Vec<String>,
}

impl Seen {
    const fn new() -> Self {
        Seen { created: None, selects: false, asked: Vec::new() }
    }

    fn note(&mut self, request: &Request<'_>) {
        match request.code {
            ffi::SQLITE_CREATE_TABLE => {
                self.created.get_or_insert_with(|| request.first.to_string());
            }
            ffi::SQLITE_SELECT => self.selects = true,
            ffi::SQLITE_PRAGMA if is_one_of(&request.first, COLUMN_PRAGMAS) => {
                self.asked.extend(request.second.as_deref().map(str::to_string));
            }
            _ => {}
        }
    }
}

/// While it lives, what this thread compiles is a user's and is checked.
pub(in crate::sqlite) struct UserStatement(PhantomData<*const ()>);

impl UserStatement {
    /// `keyword` is the word with which the statement begins.
    pub(in crate::sqlite) fn begin(keyword: &str) -> Self {
        DENIAL.take();
        SEEN.replace(Seen::new());
        IS_DML.set(is_one_of(keyword, &["INSERT", "REPLACE", "UPDATE", "DELETE", "WITH"]));
        MOVES_PAGES.set(is_one_of(keyword, &["DROP"]));
        EXPLAINS.set(is_one_of(keyword, &["EXPLAIN"]));
        STAGE.set(Stage::Prepare);
        UserStatement(PhantomData)
    }

    /// Says that compiling has ended and running begins.
    pub(in crate::sqlite) fn step(&self) {
        STAGE.set(Stage::Step);
    }

    /// Lets statements of our own be compiled until [`UserStatement::resume`].
    pub(in crate::sqlite) fn pause(&self) {
        STAGE.set(Stage::Internal);
    }

    /// Goes on with compiling the user's statement.
    pub(in crate::sqlite) fn resume(&self) {
        STAGE.set(Stage::Prepare);
    }

    /// The table that the statement created from a SELECT.
    pub(in crate::sqlite) fn created_from_select(&self) -> Option<String> {
        SEEN.with_borrow_mut(|seen| if seen.selects { seen.created.take() } else { None })
    }

    /// The tables and views for whose columns the statement asked.
    pub(in crate::sqlite) fn asked_columns(&self) -> Vec<String> {
        SEEN.with_borrow_mut(|seen| std::mem::take(&mut seen.asked))
    }

    /// Why the statement was refused, if it was.
    pub(in crate::sqlite) fn denial(&self) -> Option<Error> {
        DENIAL.take()
    }
}

impl Drop for UserStatement {
    fn drop(&mut self) {
        STAGE.set(Stage::Internal);
    }
}

/// Puts the authorizer of `role` on `conn`.
///
/// Not rusqlite's own: that one panics inside the callback where a name is not UTF-8, and the
/// argument of a table-valued pragma may be any bytes.
pub(in crate::sqlite) fn install(conn: &Connection, role: Role) -> crate::Result<()> {
    let callback = match role {
        Role::Writer => authorize_writer,
        Role::Reader => authorize_reader,
    };
    // SAFETY: the handle is open, and the callback has no state that could end before it.
    let code =
        unsafe { ffi::sqlite3_set_authorizer(conn.handle(), Some(callback), ptr::null_mut()) };
    if code == ffi::SQLITE_OK {
        return Ok(());
    }
    Err(error::internal(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)))
}

/// What SQLite asks about: <https://www.sqlite.org/c3ref/c_alter_table.html> says what the two
/// arguments are for each code. Names that are not UTF-8 are repaired: none of ours looks so.
struct Request<'a> {
    code: c_int,
    first: Cow<'a, str>,
    second: Option<Cow<'a, str>>,
    database: Option<Cow<'a, str>>,
    /// The trigger or view on whose behalf; none for what the statement's text itself does, and for
    /// what SQLite does by itself because of it.
    on_behalf: bool,
}

type Callback = unsafe extern "C" fn(
    *mut c_void,
    c_int,
    *const c_char,
    *const c_char,
    *const c_char,
    *const c_char,
) -> c_int;

const _: Callback = authorize_writer;

unsafe extern "C" fn authorize_writer(
    _: *mut c_void,
    code: c_int,
    first: *const c_char,
    second: *const c_char,
    database: *const c_char,
    on_behalf_of: *const c_char,
) -> c_int {
    // SAFETY: SQLite passes terminated strings or null, which live as long as this call.
    unsafe { authorize(Role::Writer, code, [first, second, database, on_behalf_of]) }
}

unsafe extern "C" fn authorize_reader(
    _: *mut c_void,
    code: c_int,
    first: *const c_char,
    second: *const c_char,
    database: *const c_char,
    on_behalf_of: *const c_char,
) -> c_int {
    // SAFETY: as above.
    unsafe { authorize(Role::Reader, code, [first, second, database, on_behalf_of]) }
}

/// # Safety
/// Each name is null or a terminated string that lives as long as this call.
unsafe fn authorize(role: Role, code: c_int, names: [*const c_char; 4]) -> c_int {
    let stage = STAGE.get();
    if stage == Stage::Internal {
        return ffi::SQLITE_OK;
    }
    if let Some(left) = QUESTIONS_LEFT.get() {
        QUESTIONS_LEFT.set(Some(left.saturating_sub(1)));
        if left <= 1 {
            return ffi::SQLITE_DENY;
        }
    }
    // SAFETY: promised by the caller.
    let [first, second, database, on_behalf_of] = names
        .map(|name| (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_string_lossy()));
    let request = Request {
        code,
        first: first.unwrap_or_default(),
        second,
        database,
        on_behalf: on_behalf_of.is_some(),
    };
    // Our tables are left out of a plain ANALYZE: how many rows they hold while a command is
    // applied depends on how commands were put into transactions.
    if code == ffi::SQLITE_ANALYZE && starts_with(&request.first, INTERNAL_PREFIX) {
        return ffi::SQLITE_IGNORE;
    }
    if role == Role::Writer {
        SEEN.with_borrow_mut(|seen| seen.note(&request));
    }
    match check(role, stage, &request) {
        Ok(()) => ffi::SQLITE_OK,
        Err(denial) => {
            // The first reason is the one nearest to what the user wrote.
            DENIAL.with_borrow_mut(|kept| {
                kept.get_or_insert_with(|| denial.into_error());
            });
            ffi::SQLITE_DENY
        }
    }
}

/// A refusal before it becomes an error: code and advice.
struct Denial(&'static str, String);

impl Denial {
    fn into_error(self) -> Error {
        Error::new(ErrorKind::Forbidden, self.0, self.1)
    }
}

/// The refusal of a write that was sent as a query.
pub(in crate::sqlite) fn write_in_query() -> Error {
    write_denial().into_error()
}

fn write_denial() -> Denial {
    Denial(
        "FORBIDDEN_WRITE_IN_QUERY",
        "query() only reads, and this statement writes: send it with execute()".into(),
    )
}

/// The refusal of VACUUM, of which the authorizer is not told.
pub(in crate::sqlite) fn vacuum() -> Error {
    Denial(
        "FORBIDDEN_VACUUM",
        "VACUUM cannot be replicated: it may renumber rowids, differently on each node; free pages \
         are used again without it"
            .into(),
    )
    .into_error()
}

/// The refusal of EXPLAIN in a write.
pub(in crate::sqlite) fn explain_in_write() -> Error {
    Denial(
        "FORBIDDEN_STATEMENT",
        "EXPLAIN only looks, and what it shows belongs to one node: send it with query()".into(),
    )
    .into_error()
}

/// The refusal of BEGIN and its like.
pub(in crate::sqlite) fn transaction_control() -> Error {
    transaction_control_denial().into_error()
}

fn transaction_control_denial() -> Denial {
    Denial(
        "FORBIDDEN_TRANSACTION_CONTROL",
        "BEGIN, COMMIT, ROLLBACK, SAVEPOINT and RELEASE are not for statements of their own: use \
         execute_batch() for a list that applies as a whole, or transaction()"
            .into(),
    )
}

/// The refusal of ATTACH and DETACH.
pub(in crate::sqlite) fn attach() -> Error {
    attach_denial().into_error()
}

fn attach_denial() -> Denial {
    Denial(
        "FORBIDDEN_ATTACH",
        "ATTACH and DETACH would bring in files that are not replicated: open a second node for a \
         second database"
            .into(),
    )
}

/// The refusal of temporary tables, views and triggers.
pub(in crate::sqlite) fn temporary() -> Error {
    temp().into_error()
}

/// The refusal of a pragma in a write, if it is refused.
pub(in crate::sqlite) fn refused_pragma(name: &str, has_value: bool) -> Option<Error> {
    let allowed = pragma_allowed(Role::Writer, Stage::Prepare, name, has_value);
    (!allowed).then(|| pragma(Role::Writer, name).into_error())
}

/// The refusal of names that belong to the state machine.
pub(in crate::sqlite) fn internal_table() -> Error {
    internal_table_denial().into_error()
}

fn internal_table_denial() -> Denial {
    Denial(
        "FORBIDDEN_INTERNAL_TABLE",
        format!(
            "names that begin with {INTERNAL_PREFIX} belong to the replicated state machine: choose another name"
        ),
    )
}

fn check(role: Role, stage: Stage, request: &Request<'_>) -> Result<(), Denial> {
    let first = &*request.first;
    let second = request.second.as_deref();
    match request.code {
        ffi::SQLITE_SELECT | ffi::SQLITE_RECURSIVE => Ok(()),
        ffi::SQLITE_TRANSACTION | ffi::SQLITE_SAVEPOINT => Err(transaction_control_denial()),
        ffi::SQLITE_ATTACH | ffi::SQLITE_DETACH => Err(attach_denial()),
        ffi::SQLITE_PRAGMA => {
            if pragma_allowed(role, stage, first, second.is_some()) {
                Ok(())
            } else {
                Err(pragma(role, first))
            }
        }
        ffi::SQLITE_FUNCTION => function(role, second.unwrap_or_default()),
        ffi::SQLITE_READ => read(role, request, first, second.unwrap_or_default()),
        ffi::SQLITE_CREATE_TEMP_INDEX
        | ffi::SQLITE_CREATE_TEMP_TABLE
        | ffi::SQLITE_CREATE_TEMP_TRIGGER
        | ffi::SQLITE_CREATE_TEMP_VIEW
        | ffi::SQLITE_DROP_TEMP_INDEX
        | ffi::SQLITE_DROP_TEMP_TABLE
        | ffi::SQLITE_DROP_TEMP_TRIGGER
        | ffi::SQLITE_DROP_TEMP_VIEW => Err(temp()),
        // Virtual tables compile their own writes even when they are only read (R*Tree does), so
        // for a reader these are judged by what the whole statement is.
        ffi::SQLITE_INSERT | ffi::SQLITE_UPDATE | ffi::SQLITE_DELETE => {
            if role == Role::Reader {
                return Ok(());
            }
            user_table(first)?;
            // ANALYZE and DROP write there themselves, and SQLite then plans anew. A write of a
            // user's, also one in a trigger that DROP fires, takes effect when the schema is loaded:
            // on each node at another time.
            if (IS_DML.get() || request.on_behalf) && starts_with(first, "sqlite_stat") {
                return Err(Denial(
                    "FORBIDDEN_INTERNAL_TABLE",
                    format!("{first} holds the query planner's statistics: use ANALYZE"),
                ));
            }
            Ok(())
        }
        _ if request.database.as_deref() == Some("temp") => Err(temp()),
        // What is only explained is judged as the write that it would be.
        code if role == Role::Reader && SCHEMA_CHANGES.contains(&code) && !EXPLAINS.get() => {
            Err(write_denial())
        }
        ffi::SQLITE_CREATE_VTABLE => {
            user_table(first)?;
            module(second.unwrap_or_default())
        }
        ffi::SQLITE_CREATE_INDEX
        | ffi::SQLITE_CREATE_TRIGGER
        | ffi::SQLITE_DROP_INDEX
        | ffi::SQLITE_DROP_TRIGGER
        | ffi::SQLITE_ALTER_TABLE => user_table(second.unwrap_or_default()),
        ffi::SQLITE_CREATE_TABLE
        | ffi::SQLITE_CREATE_VIEW
        | ffi::SQLITE_DROP_TABLE
        | ffi::SQLITE_DROP_VIEW
        | ffi::SQLITE_DROP_VTABLE => user_table(first),
        ffi::SQLITE_REINDEX | ffi::SQLITE_ANALYZE => Ok(()),
        _ => Err(Denial(
            "FORBIDDEN_STATEMENT",
            "the statement does something that this version does not know how to replicate".into(),
        )),
    }
}

/// What changes the schema or the statistics.
const SCHEMA_CHANGES: &[c_int] = &[
    ffi::SQLITE_CREATE_TABLE,
    ffi::SQLITE_CREATE_INDEX,
    ffi::SQLITE_CREATE_TRIGGER,
    ffi::SQLITE_CREATE_VIEW,
    ffi::SQLITE_CREATE_VTABLE,
    ffi::SQLITE_DROP_TABLE,
    ffi::SQLITE_DROP_INDEX,
    ffi::SQLITE_DROP_TRIGGER,
    ffi::SQLITE_DROP_VIEW,
    ffi::SQLITE_DROP_VTABLE,
    ffi::SQLITE_ALTER_TABLE,
    ffi::SQLITE_REINDEX,
    ffi::SQLITE_ANALYZE,
];

fn starts_with(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn is_one_of(name: &str, names: &[&str]) -> bool {
    names.iter().any(|n| n.eq_ignore_ascii_case(name))
}

fn user_table(name: &str) -> Result<(), Denial> {
    if starts_with(name, INTERNAL_PREFIX) { Err(internal_table_denial()) } else { Ok(()) }
}

fn temp() -> Denial {
    Denial(
        "FORBIDDEN_TEMP",
        "temporary tables, views and triggers are not replicated: create an ordinary one, or use \
         WITH"
            .into(),
    )
}

/// Tables that show this node's files and memory, not the content.
const LOCAL_TABLES: &[&str] =
    &["dbstat", "sqlite_dbpage", "sqlite_stmt", "bytecode", "tables_used"];

const SCHEMA_TABLES: &[&str] = &["sqlite_schema", "sqlite_master"];

fn read(role: Role, request: &Request<'_>, table: &str, column: &str) -> Result<(), Denial> {
    if role == Role::Reader {
        return Ok(());
    }
    user_table(table)?;
    let is_root_page = column.eq_ignore_ascii_case("rootpage") && is_one_of(table, SCHEMA_TABLES);
    if is_root_page && (request.on_behalf || !MOVES_PAGES.get()) {
        return Err(Denial(
            "FORBIDDEN_INTERNAL_TABLE",
            format!(
                "{table}.rootpage is a place in one node's file, which may differ: name the other \
                 columns instead"
            ),
        ));
    }
    if is_one_of(table, LOCAL_TABLES) {
        return Err(Denial(
            "FORBIDDEN_INTERNAL_TABLE",
            format!("{table} describes one node's storage, which may differ: read it with query()"),
        ));
    }
    if starts_with(table, "pragma_") {
        let name = &table["pragma_".len()..];
        if !pragma_allowed(role, Stage::Prepare, name, false) {
            return Err(pragma(role, name));
        }
    }
    Ok(())
}

/// Answers that depend on the build or on the connection's past.
const LOCAL_FUNCTIONS: &[&str] = &[
    "sqlite_version",
    "sqlite_source_id",
    "sqlite_compileoption_get",
    "sqlite_compileoption_used",
    "sqlite_log",
    "sqlite_offset",
    "total_changes",
    "fts5_locale",
    "fts5_source_id",
];

fn function(role: Role, name: &str) -> Result<(), Denial> {
    if name.eq_ignore_ascii_case("load_extension") {
        return Err(Denial(
            "FORBIDDEN_FUNCTION",
            "load_extension() is not available: an extension would have to be the same on every \
             node"
                .into(),
        ));
    }
    if role == Role::Writer && is_one_of(name, LOCAL_FUNCTIONS) {
        return Err(Denial(
            "FORBIDDEN_FUNCTION",
            format!(
                "{name}() may answer differently on each node: ask with query(), and write the \
                 answer as a parameter"
            ),
        ));
    }
    Ok(())
}

/// Virtual tables that keep their content in ordinary tables, or show that of one that does.
const MODULES: &[&str] = &["fts5", "fts5vocab", "rtree", "rtree_i32"];

/// FTS3 and FTS4 merge when a transaction ends, which is each node's own affair, and take pointers
/// as BLOBs.
const OLD_FULL_TEXT: &[&str] = &["fts3", "fts4", "fts4aux", "fts3tokenize"];

fn module(name: &str) -> Result<(), Denial> {
    if is_one_of(name, MODULES) {
        return Ok(());
    }
    if is_one_of(name, OLD_FULL_TEXT) {
        return Err(Denial(
            "FORBIDDEN_MODULE",
            format!(
                "{name} cannot be replicated: what it merges depends on each node's own \
                 transactions. Use fts5, which has the same MATCH, snippet() and more"
            ),
        ));
    }
    Err(Denial(
        "FORBIDDEN_MODULE",
        format!("virtual tables of module {name} are not replicated: use fts5 or rtree"),
    ))
}

/// About the schema: the same on each replica, with or without an argument.
const SCHEMA_PRAGMAS: &[&str] =
    &["table_info", "table_xinfo", "index_list", "index_info", "index_xinfo", "foreign_key_list"];

/// Those of them that name columns.
const COLUMN_PRAGMAS: &[&str] = &["table_info", "table_xinfo"];

/// Settings that are part of the content: read or set by commands.
const CONTENT_PRAGMAS: &[&str] = &["user_version", "application_id"];

/// Long, or about this node: for reads, with or without an argument.
const CHECK_PRAGMAS: &[&str] = &["integrity_check", "quick_check"];

/// In an order that depends on how a connection came to know its tables, unless one is named.
const UNORDERED_PRAGMAS: &[&str] = &["foreign_key_check", "table_list"];

/// About this node or connection: for reads, and only to look.
pub(in crate::sqlite) const LOCAL_PRAGMAS: &[&str] = &[
    "application_id",
    "auto_vacuum",
    "collation_list",
    "compile_options",
    "data_version",
    "database_list",
    "encoding",
    "foreign_keys",
    "freelist_count",
    "function_list",
    "journal_mode",
    "module_list",
    "page_count",
    "page_size",
    "pragma_list",
    "recursive_triggers",
    "schema_version",
    "user_version",
];

fn pragma_allowed(role: Role, stage: Stage, name: &str, has_value: bool) -> bool {
    if is_one_of(name, SCHEMA_PRAGMAS) {
        return true;
    }
    match role {
        Role::Reader => {
            is_one_of(name, CHECK_PRAGMAS)
                || is_one_of(name, UNORDERED_PRAGMAS)
                || (!has_value && is_one_of(name, LOCAL_PRAGMAS))
        }
        Role::Writer => {
            is_one_of(name, CONTENT_PRAGMAS)
                || name.eq_ignore_ascii_case("defer_foreign_keys")
                // FTS and R*Tree ask for the page size, the same everywhere; FTS5 asks for the data
                // version while it runs, to know whether its cache is current.
                || (!has_value && is_one_of(name, &["page_size", "encoding"]))
                || (has_value && is_one_of(name, UNORDERED_PRAGMAS))
                || (!has_value && stage == Stage::Step && name.eq_ignore_ascii_case("data_version"))
        }
    }
}

fn pragma(role: Role, name: &str) -> Denial {
    let known = is_one_of(name, CONTENT_PRAGMAS);
    let advice = match role {
        Role::Reader if known => "query() only reads: set it with execute()".to_string(),
        Role::Writer if is_one_of(name, UNORDERED_PRAGMAS) => {
            "its rows come in an order that may differ on each node: ask with query(), or read \
             sqlite_schema"
                .to_string()
        }
        Role::Writer if is_one_of(name, LOCAL_PRAGMAS) || is_one_of(name, CHECK_PRAGMAS) => {
            "it is about one node: ask with query(); settings of the connection are the node's"
                .to_string()
        }
        _ => "the settings of the database and its connections are the node's own, equal on each \
              replica"
            .to_string(),
    };
    Denial("FORBIDDEN_PRAGMA", format!("PRAGMA {name} is not available here: {advice}"))
}
