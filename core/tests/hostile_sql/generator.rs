//! [`Generator`]: calls from a seed, endlessly.

use std::collections::VecDeque;

use quorumlite::Statement;

use crate::call::{Call, Kind};
use crate::random::Random;
use crate::seeds::{SCHEMA, Seeds};
use crate::{mutate, nest, split};

pub struct Generator {
    random: Random,
    seeds: Seeds,
    /// Where the statements of now come from: a list of the seeds and a place in it.
    place: (usize, usize),
    waiting: VecDeque<Call>,
}

impl Generator {
    pub fn new(seed: u64) -> Generator {
        let (random, seeds) = (Random::new(seed), Seeds::load());
        Generator { random, seeds, place: (0, 0), waiting: VecDeque::new() }
    }

    /// What fresh nodes get first. Also moves to another list of the seeds.
    pub fn opening(&mut self) -> Vec<Call> {
        let lists = self.seeds.lists();
        let list = if self.random.one_in(3) { 0 } else { self.random.below(lists.len()) };
        // A list begins with the tables that it needs.
        self.place = (list, 0);
        self.waiting.clear();
        SCHEMA.iter().map(|sql| Call::new(Kind::Execute, *sql)).collect()
    }

    pub fn next(&mut self) -> Call {
        if let Some(call) = self.waiting.pop_front() {
            return call;
        }
        match self.random.below(10) {
            0..2 => self.waiting.extend(nest::calls(&mut self.random)),
            2 => {
                let statements =
                    (0..2 + self.random.below(5)).map(|_| Statement::from(self.sql())).collect();
                self.waiting.push_back(Call { kind: Kind::Batch, statements });
            }
            _ => {
                let sql = self.sql();
                let reads = ["SELECT", "WITH", "VALUES", "EXPLAIN"];
                let read = reads.contains(&&*split::keyword(&sql));
                let kind = if read ^ self.random.one_in(4) { Kind::Query } else { Kind::Execute };
                self.waiting.push_back(Call::new(kind, sql));
            }
        }
        self.waiting.pop_front().expect("a call")
    }

    /// A statement of the seeds as it is, so that there are tables to speak of, or a mutated one.
    fn sql(&mut self) -> String {
        let (list, at) = self.place;
        let statements = &self.seeds.lists()[list];
        let sql = &statements[at % statements.len()];
        self.place.1 += 1;
        if self.random.one_in(3) {
            return sql.clone();
        }
        let others = if self.random.one_in(2) { &self.seeds.lists()[0] } else { statements };
        let other = others[self.random.below(others.len())].clone();
        mutate::mutate(&mut self.random, sql, &other)
    }
}
