//! [`Recent`]: the identities of recent commands and what came of them, so that a command that is
//! proposed again answers what it answered first and is never applied twice.
//!
//! The scheme is RIFL's (Lee et al., "Implementing Linearizability at Large Scale and Low Latency",
//! SOSP 2015): a client numbers its commands and says with each below which number it has seen all
//! answers; results below that are dropped. What is kept is a pure function of the log: it does not
//! depend on how entries were put into transactions, on restarts or on snapshots. For that,
//! everything in memory can be rebuilt from the table `_quorumlite_recent`:
//!
//! * The command that raised a client's floor has a sequence at or above that floor, so its record
//!   is kept for as long as the floor stands.
//! * A client's last command is kept for as long as the client is, so the order of use is known.
//! * A client that was dropped and comes back starts a new incarnation, named by the place of its
//!   first command; records of older incarnations may linger in shared rows and are ignored.
//! * Rows of which nothing is kept any more linger for a while: what they hold is below a client's
//!   floor, beyond its number of results, or of a client that is dropped again for being the oldest.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use prost::Message;
use rusqlite::{Connection, OptionalExtension, params};

use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::apply::command::CommandResult;
use crate::sqlite::apply::meta::{Applied, Position, not_a_replica, to_integer};
use crate::sqlite::apply::record::{RecordMessage, RowHeads, RowMessage};
use crate::sqlite::{error, internal};

/// Rows without a kept result are deleted once there are so many, since they lie at one end of the
/// table and new rows at the other: a page less for most transactions.
const DEAD_ROWS: usize = 64;
/// A row larger than this, in bytes, is deleted as soon as it has no kept result.
const LARGE_ROW: usize = 16 << 10;

/// How much is remembered. Part of what makes replicas equal: the same on every node, always.
#[derive(Debug, Clone, Copy)]
pub(in crate::sqlite) struct Limits {
    /// Clients beyond this are dropped, the least recently used first.
    pub clients: usize,
    /// Results of one client beyond this are dropped, the lowest sequence first.
    pub results_per_client: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { clients: 10_000, results_per_client: 16_384 }
    }
}

/// Where in the log a command stands: the entry's index and the command's number in the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sqlite) struct Place {
    pub index: u64,
    pub slot: u32,
}

/// Who sent a command.
#[derive(Debug, Clone, Copy)]
pub(in crate::sqlite) struct Identity {
    pub client: u128,
    pub sequence: u64,
    pub acked_below: u64,
}

/// What is known about an identity.
#[derive(Debug, PartialEq)]
pub(in crate::sqlite) enum Known {
    /// Nothing: apply it.
    New,
    /// It was applied (or failed) there, and the result is kept.
    Kept(Place),
    /// The client said that it had seen the answer, or the result was dropped: do not apply it.
    Expired,
}

#[derive(Debug, Clone, PartialEq)]
struct Client {
    /// The place of its first command since it became known; names the incarnation.
    since: Place,
    /// The place of its last command.
    last: Place,
    /// The highest `acked_below` seen.
    floor: u64,
    results: BTreeMap<u64, Place>,
}

/// How to take back one change of the open transaction.
#[derive(Debug)]
enum Undo {
    Created(u128),
    Dropped(u128, Box<Client>),
    Touched { client: u128, last: Place, floor: u64 },
    Inserted { client: u128, sequence: u64 },
    Removed { client: u128, sequence: u64, place: Place },
    Row { index: u64, live: Option<u32> },
}

#[derive(Debug, Default)]
struct Pending {
    row: RowMessage,
    /// The bytes that the row takes.
    size: usize,
    /// Whose the last record is.
    last_client: Option<u128>,
}

/// See the module's documentation. Changes belong to the writer's open transaction until
/// [`Recent::committed`] or [`Recent::rolled_back`].
#[derive(Debug)]
pub(in crate::sqlite) struct Recent {
    limits: Limits,
    clients: HashMap<u128, Client>,
    /// Clients by last use.
    order: BTreeMap<Place, u128>,
    /// How many kept results each row of the table (or of `pending`) holds; never 0.
    rows: BTreeMap<u64, u32>,
    /// Rows of the open transaction that are not in the table yet.
    pending: BTreeMap<u64, Pending>,
    /// Rows of the table that have no kept result left.
    dead: BTreeSet<u64>,
    /// Rows of the table that are larger than [`LARGE_ROW`].
    large: BTreeSet<u64>,
    /// The open transaction deletes what is dead.
    sweeping: bool,
    undo: Vec<Undo>,
    /// The row that was read last: commands that are repeated come in groups.
    looked_up: Option<(u64, RowMessage)>,
}

impl Recent {
    /// Reads the table.
    pub(in crate::sqlite) fn load(conn: &Connection, limits: Limits) -> Result<Recent> {
        let mut records: HashMap<u128, Vec<(Identity, Place)>> = HashMap::new();
        let mut since: HashMap<u128, Place> = HashMap::new();
        let mut on_disk = BTreeSet::new();
        let mut large = BTreeSet::new();
        let sql = "SELECT log_index, results FROM _quorumlite_recent ORDER BY log_index";
        let mut statement = conn.prepare(sql).map_err(error::internal)?;
        let mut rows = statement.query([]).map_err(error::internal)?;
        while let Some(row) = rows.next().map_err(error::internal)? {
            let index: i64 = row.get(0).map_err(error::internal)?;
            let index =
                u64::try_from(index).map_err(|_| not_a_replica("a log index in it is negative"))?;
            let bytes = row.get_ref(1).map_err(error::internal)?;
            let bytes = bytes.as_blob().map_err(|_| damaged(index))?;
            let heads = RowHeads::decode(bytes).map_err(|_| damaged(index))?;
            on_disk.insert(index);
            if bytes.len() > LARGE_ROW {
                large.insert(index);
            }
            for (slot, (identity, born)) in (0..).zip(heads.identities()) {
                // A later incarnation makes the earlier records of the client void.
                let newest = since.entry(identity.client).or_insert(born);
                if born > *newest {
                    *newest = born;
                    records.remove(&identity.client);
                }
                if born == *newest {
                    let of_client = records.entry(identity.client).or_default();
                    of_client.push((identity, Place { index, slot }));
                }
            }
        }

        let mut recent = Recent {
            limits,
            clients: HashMap::new(),
            order: BTreeMap::new(),
            rows: BTreeMap::new(),
            pending: BTreeMap::new(),
            dead: BTreeSet::new(),
            large,
            sweeping: false,
            undo: Vec::new(),
            looked_up: None,
        };
        for (id, records) in records {
            let Some(&(_, first)) = records.first() else { continue };
            let born = since.get(&id).copied().unwrap_or(first);
            let mut client =
                Client { since: born, last: first, floor: 0, results: BTreeMap::new() };
            for (identity, place) in records {
                client.last = client.last.max(place);
                client.floor = client.floor.max(identity.acked_below);
                client.results.insert(identity.sequence, place);
            }
            client.results = client.results.split_off(&client.floor);
            while client.results.len() > limits.results_per_client {
                client.results.pop_first();
            }
            recent.order.insert(client.last, id);
            recent.clients.insert(id, client);
        }
        while recent.clients.len() > limits.clients {
            let Some((_, id)) = recent.order.pop_first() else { break };
            recent.clients.remove(&id);
        }
        for client in recent.clients.values() {
            for place in client.results.values() {
                *recent.rows.entry(place.index).or_default() += 1;
            }
        }
        recent.dead = on_disk.into_iter().filter(|i| !recent.rows.contains_key(i)).collect();
        Ok(recent)
    }

    pub(in crate::sqlite) fn limits(&self) -> Limits {
        self.limits
    }

    /// What is known about a command.
    pub(in crate::sqlite) fn known(&self, identity: &Identity) -> Known {
        let Some(client) = self.clients.get(&identity.client) else { return Known::New };
        if let Some(place) = client.results.get(&identity.sequence) {
            return Known::Kept(*place);
        }
        let full = client.results.len() >= self.limits.results_per_client;
        let lowest = client.results.first_key_value().map_or(0, |(s, _)| *s);
        if identity.sequence < client.floor || (full && identity.sequence < lowest) {
            Known::Expired
        } else {
            Known::New
        }
    }

    /// The result that was recorded at `place`.
    pub(in crate::sqlite) fn result(
        &mut self,
        conn: &Connection,
        place: Place,
    ) -> Result<CommandResult> {
        let row = match (self.pending.get(&place.index), &mut self.looked_up) {
            (Some(pending), _) => &pending.row,
            (None, Some((index, row))) if *index == place.index => row,
            (None, looked_up) => {
                let row = read_row(conn, place.index)?;
                &looked_up.insert((place.index, row)).1
            }
        };
        let record = usize::try_from(place.slot).ok().and_then(|slot| row.records.get(slot));
        Ok(record.ok_or_else(|| damaged(place.index))?.to_result(place.index))
    }

    /// Records a command that [`Recent::known`] called new, and drops what it acknowledges.
    /// `index` is the entry's log index; entries come in rising order.
    pub(in crate::sqlite) fn record(
        &mut self,
        index: u64,
        identity: &Identity,
        result: &CommandResult,
    ) {
        let pending = self.pending.entry(index).or_default();
        let slot = u32::try_from(pending.row.records.len()).unwrap_or(u32::MAX);
        let place = Place { index, slot };
        // An honest client never acknowledges a command that it is just sending.
        let acked_below = identity.acked_below.min(identity.sequence);
        let identity = Identity { acked_below, ..*identity };

        let mut since = place;
        match self.clients.entry(identity.client) {
            MapEntry::Vacant(e) => {
                self.undo.push(Undo::Created(identity.client));
                e.insert(Client {
                    since: place,
                    last: place,
                    floor: acked_below,
                    results: BTreeMap::from([(identity.sequence, place)]),
                });
            }
            MapEntry::Occupied(mut e) => {
                let client = e.get_mut();
                since = client.since;
                self.undo.push(Undo::Touched {
                    client: identity.client,
                    last: client.last,
                    floor: client.floor,
                });
                self.order.remove(&client.last);
                client.last = place;
                client.floor = client.floor.max(acked_below);
                client.results.insert(identity.sequence, place);
                self.undo
                    .push(Undo::Inserted { client: identity.client, sequence: identity.sequence });
            }
        }
        self.order.insert(place, identity.client);
        let same_client = pending.last_client.replace(identity.client) == Some(identity.client);
        let since = (!same_client).then_some(since);
        let record = RecordMessage::new(&identity, since, result, pending.size);
        pending.size += record.encoded_len();
        pending.row.records.push(record);
        self.count(index, true);
        self.drop_results(identity.client);
        if self.clients.len() > self.limits.clients {
            self.drop_oldest();
        }
    }

    fn drop_results(&mut self, id: u128) {
        while let Some(client) = self.clients.get_mut(&id)
            && let Some((&sequence, &place)) = client.results.first_key_value()
            && (sequence < client.floor || client.results.len() > self.limits.results_per_client)
        {
            client.results.pop_first();
            self.undo.push(Undo::Removed { client: id, sequence, place });
            self.count(place.index, false);
        }
    }

    fn drop_oldest(&mut self) {
        let Some((_, id)) = self.order.pop_first() else { return };
        let Some(client) = self.clients.remove(&id) else { return };
        for place in client.results.values() {
            self.count(place.index, false);
        }
        self.undo.push(Undo::Dropped(id, Box::new(client)));
    }

    /// Counts one kept result more or less in row `index`.
    fn count(&mut self, index: u64, more: bool) {
        let live = self.rows.get(&index).copied();
        self.undo.push(Undo::Row { index, live });
        let now = if more { live.unwrap_or(0) + 1 } else { live.unwrap_or(1) - 1 };
        if now == 0 {
            self.rows.remove(&index);
            if !self.pending.contains_key(&index) {
                self.dead.insert(index);
            }
        } else {
            self.rows.insert(index, now);
        }
    }

    /// Writes the changes into the table, in the caller's transaction, which ends with `applied`.
    /// Answers whether a row carries how far that is; else the caller must write it.
    pub(in crate::sqlite) fn store(
        &mut self,
        conn: &Connection,
        applied: &Applied,
    ) -> Result<bool> {
        if self.dead.len() >= DEAD_ROWS || self.large.iter().any(|i| self.dead.contains(i)) {
            self.sweep(conn)?;
        }
        let mut carried = false;
        for (index, pending) in &mut self.pending {
            if !self.rows.contains_key(index) {
                continue;
            }
            if let Some(position) = applied.position
                && position.index == *index
            {
                pending.row.term = position.term;
                pending.row.timestamp_us = applied.timestamp_us;
                carried = true;
            }
            let key = to_integer(*index)?;
            let bytes = pending.row.encode_to_vec();
            if bytes.len() > LARGE_ROW {
                self.large.insert(*index);
            }
            internal::with(conn, "INSERT INTO _quorumlite_recent VALUES (?1, ?2)", |s| {
                s.execute(params![key, bytes])
            })?;
        }
        Ok(carried)
    }

    /// Deletes the rows of which nothing is kept.
    fn sweep(&mut self, conn: &Connection) -> Result<()> {
        self.sweeping = true;
        let mut dead = self.dead.iter().copied().peekable();
        while let Some(first) = dead.next() {
            // One DELETE for as many rows as lie together in the table.
            let mut last = first;
            while let Some(&next) = dead.peek()
                && self.rows.range(first..=next).next().is_none()
            {
                last = next;
                dead.next();
            }
            let (first, last) = (to_integer(first)?, to_integer(last)?);
            internal::with(
                conn,
                "DELETE FROM _quorumlite_recent WHERE log_index BETWEEN ?1 AND ?2",
                |s| s.execute([first, last]),
            )?;
        }
        Ok(())
    }

    /// The transaction was committed: its changes stand.
    pub(in crate::sqlite) fn committed(&mut self) {
        self.pending.clear();
        if std::mem::take(&mut self.sweeping) {
            self.large.retain(|index| !self.dead.contains(index));
            self.dead.clear();
        }
        self.looked_up = None;
        self.undo.clear();
    }

    /// The transaction was rolled back: takes its changes back.
    pub(in crate::sqlite) fn rolled_back(&mut self) {
        for index in self.pending.keys() {
            self.large.remove(index);
        }
        self.pending.clear();
        self.sweeping = false;
        self.looked_up = None;
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::Created(id) => {
                    if let Some(client) = self.clients.remove(&id) {
                        self.order.remove(&client.last);
                    }
                }
                Undo::Dropped(id, client) => {
                    self.order.insert(client.last, id);
                    self.clients.insert(id, *client);
                }
                Undo::Touched { client: id, last, floor } => {
                    if let Some(client) = self.clients.get_mut(&id) {
                        self.order.remove(&client.last);
                        self.order.insert(last, id);
                        client.last = last;
                        client.floor = floor;
                    }
                }
                Undo::Inserted { client, sequence } => {
                    if let Some(client) = self.clients.get_mut(&client) {
                        client.results.remove(&sequence);
                    }
                }
                Undo::Removed { client, sequence, place } => {
                    if let Some(client) = self.clients.get_mut(&client) {
                        client.results.insert(sequence, place);
                    }
                }
                Undo::Row { index, live } => {
                    self.dead.remove(&index);
                    match live {
                        Some(live) => self.rows.insert(index, live),
                        None => self.rows.remove(&index),
                    };
                }
            }
        }
    }

    /// Every kept result, with whose it is and where; for tests that compare replicas.
    #[cfg(test)]
    pub(in crate::sqlite) fn kept(&mut self, conn: &Connection) -> Vec<String> {
        let mut clients: Vec<_> = self.clients.clone().into_iter().collect();
        clients.sort_by_key(|(id, _)| *id);
        let mut all = Vec::new();
        for (id, client) in clients {
            for (sequence, place) in client.results {
                let result = self.result(conn, place).unwrap();
                all.push(format!("{id} {sequence} {place:?} {result:?}"));
            }
        }
        all
    }

    /// Whether both remember the same; for tests that compare a rebuilt state with a grown one.
    #[cfg(test)]
    pub(in crate::sqlite) fn same_as(&self, other: &Recent) -> bool {
        // A floor below the lowest kept result of a full client has no effect, see `known`.
        let view = |r: &Recent| {
            let mut clients: Vec<_> = r
                .clients
                .iter()
                .map(|(id, c)| {
                    let mut c = c.clone();
                    if c.results.len() >= r.limits.results_per_client {
                        let lowest = c.results.first_key_value().map_or(0, |(s, _)| *s);
                        c.floor = c.floor.max(lowest);
                    }
                    (*id, c)
                })
                .collect();
            clients.sort_by_key(|(id, _)| *id);
            clients
        };
        view(self) == view(other) && self.order == other.order && self.rows == other.rows
    }
}

/// The answer to a command whose result is no longer known.
pub(in crate::sqlite) fn expired() -> Error {
    Error::new(
        ErrorKind::Timeout,
        "EXPIRED_IDENTITY",
        "the write came again after its result was dropped: it was applied earlier or never will \
         be; read the data to find out",
    )
}

/// How far the database has come by what the last row says, and the time then; none where the last
/// entries had no row.
pub(in crate::sqlite) fn carried(conn: &Connection) -> Result<Option<(Position, i64)>> {
    let sql = "SELECT log_index, results FROM _quorumlite_recent ORDER BY log_index DESC LIMIT 1";
    let row: Option<(i64, Vec<u8>)> =
        internal::with(conn, sql, |s| s.query_row([], |r| Ok((r.get(0)?, r.get(1)?))).optional())?;
    let Some((index, bytes)) = row else { return Ok(None) };
    let index = u64::try_from(index).map_err(|_| not_a_replica("a log index in it is negative"))?;
    let heads = RowHeads::decode(&bytes[..]).map_err(|_| damaged(index))?;
    let position = Position { term: heads.term, index };
    Ok((heads.term > 0).then_some((position, heads.timestamp_us)))
}

fn read_row(conn: &Connection, index: u64) -> Result<RowMessage> {
    let key = to_integer(index)?;
    let sql = "SELECT results FROM _quorumlite_recent WHERE log_index = ?1";
    let bytes: Option<Vec<u8>> =
        internal::with(conn, sql, |s| s.query_row([key], |r| r.get(0)).optional())?;
    RowMessage::decode(&bytes.ok_or_else(|| damaged(index))?[..]).map_err(|_| damaged(index))
}

fn damaged(index: u64) -> Error {
    not_a_replica(&format!("the record of recent commands of entry {index} is damaged"))
}
