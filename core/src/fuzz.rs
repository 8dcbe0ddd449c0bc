//! What the fuzzers share: random cases from a printed seed, for as long as
//! `QUORUMLITE_FUZZ_SECONDS` says (a moment otherwise). `QUORUMLITE_FUZZ_SEED` repeats one case.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

/// How long one fuzzer runs in an ordinary test run.
const MOMENT: Duration = Duration::from_secs(2);

/// Random numbers from a seed (SplitMix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 where that is 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    /// Changes `bytes` somewhere: bits, bytes, pieces moved, lost, doubled or cut off.
    pub(crate) fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let len = bytes.len();
            if len == 0 {
                *bytes = self.bytes(8);
            }
            let at = self.below(bytes.len());
            let piece = self.below(64).min(bytes.len() - at);
            match self.below(9) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = self.next() as u8,
                2 => bytes[at] = [0, 0x7f, 0x80, 0xff][self.below(4)],
                3 => bytes[at..at + piece].fill(0),
                4 => bytes.truncate(at),
                5 => drop(bytes.drain(at..at + piece)),
                6 => {
                    let copied = bytes[at..at + piece].to_vec();
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, copied);
                }
                7 => {
                    let copied = bytes[at..at + piece].to_vec();
                    let to = self.below(bytes.len() - piece + 1);
                    bytes[to..to + piece].copy_from_slice(&copied);
                }
                _ => {
                    let len = self.below(16);
                    let random = self.bytes(len);
                    bytes.splice(at..at, random);
                }
            }
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable}={value:?} is no number")))
}

/// How many cases a property test has: `PROPTEST_CASES`, where a test that is slow (under valgrind, say)
/// asks for fewer, or `usual`.
pub(crate) fn cases(usual: u32) -> u32 {
    number("PROPTEST_CASES").and_then(|n| u32::try_from(n).ok()).unwrap_or(usual)
}

/// Runs random cases until the time is up. A case that panics is named by its seed.
pub(crate) fn run(name: &str, mut case: impl FnMut(&mut Random)) {
    let time = number("QUORUMLITE_FUZZ_SECONDS").map_or(MOMENT, Duration::from_secs);
    let only = number("QUORUMLITE_FUZZ_SEED");
    let mut seed = only.unwrap_or_else(|| getrandom::u64().unwrap());
    let (started, mut cases) = (Instant::now(), 0_u64);
    while started.elapsed() < time {
        let result = catch_unwind(AssertUnwindSafe(|| case(&mut Random(seed))));
        if let Err(panic) = result {
            println!("{name}: repeat it with QUORUMLITE_FUZZ_SEED={seed}");
            resume_unwind(panic);
        }
        cases += 1;
        if only.is_some() {
            break;
        }
        seed = Random(seed).next();
    }
    println!("{name}: {cases} cases in {:?}", started.elapsed());
}
