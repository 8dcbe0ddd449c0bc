//! Which statements may run: asked by SQLite's authorizer while it compiles a user's statement.
//!
//! The authorizer sees what a statement does through views, triggers and table-valued functions,
//! where a look at its text would not. It can only say no, so the reason is kept aside, per thread,
//! for [`UserStatement::denial`].

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;

use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

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
    /// The statement is one of those for which SQLite itself looks up root pages.
    static MOVES_PAGES: Cell<bool> = const { Cell::new(false) };
    /// The statement is only explained.
    static EXPLAINS: Cell<bool> = const { Cell::new(false) };
    static STAGE: Cell<Stage> = const { Cell::new(Stage::Internal) };
    static DENIAL: RefCell<Option<Error>> = const { RefCell::new(None) };
}

/// While it lives, what this thread compiles is a user's and is checked.
pub(in crate::sqlite) struct UserStatement(PhantomData<*const ()>);

impl UserStatement {
    /// `keyword` is the word with which the statement begins.
    pub(in crate::sqlite) fn begin(keyword: &str) -> Self {
        DENIAL.take();
        IS_DML.set(is_one_of(keyword, &["INSERT", "REPLACE", "UPDATE", "DELETE", "WITH"]));
        MOVES_PAGES.set(is_one_of(keyword, &["ALTER", "DROP"]));
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
pub(in crate::sqlite) fn install(conn: &mut Connection, role: Role) -> crate::Result<()> {
    conn.authorizer(Some(move |context: AuthContext<'_>| {
        let stage = STAGE.get();
        if stage == Stage::Internal {
            return Authorization::Allow;
        }
        // Our tables are left out of a plain ANALYZE: how many rows they hold while a command is
        // applied depends on how commands were put into transactions.
        if let AuthAction::Analyze { table_name } = context.action
            && starts_with(table_name, INTERNAL_PREFIX)
        {
            return Authorization::Ignore;
        }
        match check(role, stage, &context) {
            Ok(()) => Authorization::Allow,
            Err(denial) => {
                // The first reason is the one nearest to what the user wrote.
                DENIAL.with_borrow_mut(|kept| {
                    kept.get_or_insert_with(|| denial.into_error());
                });
                Authorization::Deny
            }
        }
    }))
    .map_err(error::internal)
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

fn check(role: Role, stage: Stage, context: &AuthContext<'_>) -> Result<(), Denial> {
    use AuthAction as A;
    match context.action {
        A::Select | A::Recursive => Ok(()),
        A::Transaction { .. } | A::Savepoint { .. } => Err(transaction_control_denial()),
        A::Attach { .. } | A::Detach { .. } => Err(attach_denial()),
        A::Pragma { pragma_name, pragma_value } => {
            if pragma_allowed(role, stage, pragma_name, pragma_value.is_some()) {
                Ok(())
            } else {
                Err(pragma(role, pragma_name))
            }
        }
        A::Function { function_name } => function(role, function_name),
        A::Read { table_name, column_name } => read(role, table_name, column_name),
        A::CreateTempIndex { .. }
        | A::CreateTempTable { .. }
        | A::CreateTempTrigger { .. }
        | A::CreateTempView { .. }
        | A::DropTempIndex { .. }
        | A::DropTempTable { .. }
        | A::DropTempTrigger { .. }
        | A::DropTempView { .. } => Err(temp()),
        // Virtual tables compile their own writes even when they are only read (R*Tree does), so
        // for a reader these are judged by what the whole statement is.
        A::Insert { table_name } | A::Update { table_name, .. } | A::Delete { table_name } => {
            if role == Role::Reader {
                return Ok(());
            }
            user_table(table_name)?;
            // ANALYZE and DROP write there themselves, and SQLite then plans anew. A write of a
            // user's takes effect when the schema is loaded: on each node at another time.
            if IS_DML.get() && starts_with(table_name, "sqlite_stat") {
                return Err(Denial(
                    "FORBIDDEN_INTERNAL_TABLE",
                    format!("{table_name} holds the query planner's statistics: use ANALYZE"),
                ));
            }
            Ok(())
        }
        _ if context.database_name == Some("temp") => Err(temp()),
        A::CreateTable { .. }
        | A::CreateIndex { .. }
        | A::CreateTrigger { .. }
        | A::CreateView { .. }
        | A::CreateVtable { .. }
        | A::DropTable { .. }
        | A::DropIndex { .. }
        | A::DropTrigger { .. }
        | A::DropView { .. }
        | A::DropVtable { .. }
        | A::AlterTable { .. }
        | A::Reindex { .. }
        | A::Analyze { .. }
            // What is only explained is judged as the write that it would be.
            if role == Role::Reader && !EXPLAINS.get() =>
        {
            Err(write_denial())
        }
        A::CreateVtable { table_name, module_name } => {
            user_table(table_name)?;
            module(module_name)
        }
        A::CreateTable { table_name }
        | A::CreateIndex { table_name, .. }
        | A::CreateTrigger { table_name, .. }
        | A::CreateView { view_name: table_name }
        | A::DropTable { table_name }
        | A::DropIndex { table_name, .. }
        | A::DropTrigger { table_name, .. }
        | A::DropView { view_name: table_name }
        | A::DropVtable { table_name, .. }
        | A::AlterTable { table_name, .. } => user_table(table_name),
        A::Reindex { .. } | A::Analyze { .. } => Ok(()),
        _ => Err(Denial(
            "FORBIDDEN_STATEMENT",
            "the statement does something that this version does not know how to replicate".into(),
        )),
    }
}

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

fn read(role: Role, table: &str, column: &str) -> Result<(), Denial> {
    if role == Role::Reader {
        return Ok(());
    }
    user_table(table)?;
    let is_root_page = column.eq_ignore_ascii_case("rootpage") && is_one_of(table, SCHEMA_TABLES);
    if is_root_page && !MOVES_PAGES.get() {
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
    "fts3_tokenizer",
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
const MODULES: &[&str] =
    &["fts3", "fts4", "fts5", "fts4aux", "fts5vocab", "fts3tokenize", "rtree", "rtree_i32"];

fn module(name: &str) -> Result<(), Denial> {
    if is_one_of(name, MODULES) {
        return Ok(());
    }
    Err(Denial(
        "FORBIDDEN_MODULE",
        format!(
            "virtual tables of module {name} are not replicated: use fts5, fts4, fts3 or rtree"
        ),
    ))
}

/// About the schema: the same on each replica, with or without an argument.
const SCHEMA_PRAGMAS: &[&str] =
    &["table_info", "table_xinfo", "index_list", "index_info", "index_xinfo", "foreign_key_list"];

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
