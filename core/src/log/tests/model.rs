//! Random operations and crashes, compared with a model: what was acknowledged is there, nothing is
//! invented, and what a restart has shown is never lost again.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use proptest::prelude::*;

use super::disk::Random;
use super::*;

#[derive(Debug, Clone)]
enum Step {
    Append { count: u64, size: usize },
    Vote,
    Committed,
    Truncate { back: u64 },
    Purge { ahead: u64 },
    WaitForAll,
}

#[derive(Debug, Clone)]
struct Round {
    steps: Vec<Step>,
    /// Operations of the disk until it dies.
    dies_after: usize,
    /// The power fails; otherwise only the process is killed.
    power_cut: bool,
}

/// For each call the number of states after it, and whether it succeeded once that is known.
type Calls = Arc<Mutex<Vec<(usize, Option<bool>)>>>;

/// What the log should hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Model {
    records: BTreeMap<u64, Record>,
    purged: Option<LogPosition>,
    vote: Option<Bytes>,
}

impl Model {
    fn of(log: &Log) -> Model {
        let records = all(log).into_iter().map(|record| (record.index, record)).collect();
        let model = Model { records, purged: log.state().purged, vote: log.vote() };
        assert_eq!(log.state().last, model.last());
        let size = model.records.values();
        let size: u64 =
            size.map(|record| crate::log::format::record_frame_len(record.payload.len())).sum();
        assert_eq!(log.size_bytes(), size);
        model
    }

    fn last(&self) -> Option<LogPosition> {
        let last = self.records.values().next_back();
        last.map(|record| at(record.term, record.index)).or(self.purged)
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..6_u64, prop_oneof![0..40_usize, 300..700_usize, 900..3000_usize])
            .prop_map(|(count, size)| Step::Append { count, size }),
        2 => Just(Step::Vote),
        2 => Just(Step::Committed),
        1 => (0..8_u64).prop_map(|back| Step::Truncate { back }),
        1 => (0..12_u64).prop_map(|ahead| Step::Purge { ahead }),
        2 => Just(Step::WaitForAll),
    ]
}

fn round() -> impl Strategy<Value = Round> {
    (prop::collection::vec(step(), 0..25), 0..60_usize, any::<bool>())
        .prop_map(|(steps, dies_after, power_cut)| Round { steps, dies_after, power_cut })
}

/// One life of the log, until the disk dies: the states it went through, one for each frame, and
/// each committed position.
struct Life {
    log: Log,
    states: Vec<Model>,
    calls: Calls,
    committed: Vec<Option<Bytes>>,
    term: u64,
}

impl Life {
    fn done(&self, states: usize) -> Done {
        let calls = self.calls.clone();
        let call = calls.lock().len();
        calls.lock().push((states, None));
        Box::new(move |result| {
            let mut calls = calls.lock();
            assert_eq!(calls[call].1, None, "a callback is called once");
            if result.is_ok() {
                let before = &calls[..call];
                assert!(before.iter().all(|(_, result)| *result == Some(true)), "and in order");
            }
            calls[call].1 = Some(result.is_ok());
        })
    }

    /// False once the log takes no more.
    fn take(&mut self, step: &Step, random: &mut Random) -> bool {
        let mut model = self.states.last().cloned().unwrap_or_default();
        let mut states = Vec::new();
        let result = match step {
            Step::Append { count, size } => {
                let next = model.last().map_or(1 + random.below(5), |last| last.index + 1);
                let mut added = Vec::new();
                for index in next..next + count {
                    let payload: Vec<u8> = (0..*size).map(|_| random.next() as u8).collect();
                    let record = Record { term: self.term, index, payload: payload.into() };
                    model.records.insert(index, record.clone());
                    states.push(model.clone());
                    added.push(record);
                }
                let done = self.done(self.states.len() + states.len());
                self.log.append(added, done)
            }
            Step::Vote => {
                let vote = Bytes::from(format!("vote {}", random.next()));
                model.vote = Some(vote.clone());
                states.push(model);
                let done = self.done(self.states.len() + 1);
                self.log.save_vote(vote, done)
            }
            Step::Committed => {
                let committed = Bytes::from(format!("committed {}", random.next()));
                self.committed.push(Some(committed.clone()));
                self.log.save_committed(committed)
            }
            Step::Truncate { back } => {
                let purged = model.purged.map(|purged| purged.index);
                let last = model.last().map(|last| last.index);
                let keep = last.and_then(|last| last.checked_sub(*back)).max(purged);
                model.records.retain(|index, _| Some(*index) <= keep);
                states.push(model);
                self.term += 1;
                let done = self.done(self.states.len() + 1);
                self.log.truncate_after(keep, done)
            }
            Step::Purge { ahead } => {
                let first = model.records.keys().next().copied().unwrap_or(1);
                let index = first + ahead;
                let term = model.records.get(&index).map_or(self.term, |record| record.term);
                if model.purged.is_none_or(|purged| purged.index < index) {
                    model.purged = Some(at(term, index));
                    model.records.retain(|other, _| *other > index);
                }
                states.push(model);
                let done = self.done(self.states.len() + 1);
                self.log.purge(at(term, index), done)
            }
            Step::WaitForAll => {
                let (done, outcome) = outcome();
                self.log.append(Vec::new(), done).and_then(|()| outcome.wait())
            }
        };
        self.states.append(&mut states);
        if result.is_ok() {
            assert_eq!(self.states.last(), Some(&Model::of(&self.log)));
        }
        result.is_ok()
    }
}

fn run(rounds: &[Round], seed: u64) {
    let mut random = Random(seed);
    let disk = Disk::default();
    let mut found = (Model::default(), None);
    for (number, round) in rounds.iter().enumerate() {
        let mut life = Life {
            log: open(&disk),
            states: vec![found.0.clone()],
            calls: Arc::default(),
            committed: vec![found.1.clone()],
            term: 10 * (number as u64 + 1),
        };
        assert_eq!((Model::of(&life.log), life.log.committed()), found);
        disk.die_after(round.dies_after);
        for step in &round.steps {
            if !life.take(step, &mut random) {
                break;
            }
        }
        disk.die_after(0);
        let Life { log, states, calls, committed, .. } = life;
        drop(log);
        let calls = calls.lock();
        assert!(calls.iter().all(|(_, result)| result.is_some()), "every callback was called");
        let acknowledged = calls
            .iter()
            .filter(|(_, result)| *result == Some(true))
            .map(|(states, _)| *states)
            .max()
            .unwrap_or(1);

        if round.power_cut {
            disk.power_cut(&mut random);
        } else {
            disk.restart();
        }
        let log = open(&disk);
        found = (Model::of(&log), log.committed());
        assert!(
            states[acknowledged - 1..].contains(&found.0),
            "acknowledged {:?}\nof {:?}\nfound {:?}",
            states[acknowledged - 1],
            states.last(),
            found.0
        );
        assert!(committed.contains(&found.1), "{:?} not in {committed:?}", found.1);
        // What the restart has shown must not depend on what was in the page cache.
        disk.die_after(0);
        drop(log);
        disk.power_cut(&mut random);
    }
    let log = open(&disk);
    assert_eq!((Model::of(&log), log.committed()), found);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: crate::fuzz::cases(1000),
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn crashes_lose_nothing_acknowledged(
        rounds in prop::collection::vec(round(), 1..5),
        seed in any::<u64>(),
    ) {
        run(&rounds, seed);
    }
}
