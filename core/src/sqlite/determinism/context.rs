//! [`CommandContext`]: the clock and the seed of the command that this thread is applying.
//!
//! It is thread-local because SQLite calls the clock and the functions on the thread that steps
//! the statement, without a handle that leads back to us.

use std::cell::Cell;
use std::marker::PhantomData;

/// What a command brings from the leader so that each replica computes the same from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CommandContext {
    /// Microseconds since 1970-01-01 UTC; what `'now'` means while the command is applied.
    pub timestamp_us: i64,
    /// Where `random()` and `randomblob()` start.
    pub seed: u64,
}

#[derive(Clone, Copy)]
struct Active {
    timestamp_us: i64,
    generator: Generator,
    /// How often [`next_ordinal`] was asked.
    ordinals: u64,
}

thread_local! {
    static ACTIVE: Cell<Option<Active>> = const { Cell::new(None) };
}

/// Ends the context when dropped, and brings back the one that was active before, if any.
#[must_use = "the context ends when the guard is dropped"]
pub(crate) struct ContextGuard {
    previous: Option<Active>,
    /// The context belongs to this thread, so the guard must not leave it.
    not_send: PhantomData<*const ()>,
}

/// Makes `context` the clock and the source of randomness of this thread.
///
/// Enter once per command, not once per statement: the generator goes on from one statement to the
/// next, and starting it again would make them draw the same numbers.
pub(crate) fn enter(context: CommandContext) -> ContextGuard {
    let active = Active {
        timestamp_us: context.timestamp_us,
        generator: Generator::from_seed(context.seed),
        ordinals: 0,
    };
    ContextGuard { previous: ACTIVE.replace(Some(active)), not_send: PhantomData }
}

impl Drop for ContextGuard {
    fn drop(&mut self) {
        ACTIVE.set(self.previous);
    }
}

/// Whether a command is being applied on this thread.
pub(in crate::sqlite) fn is_active() -> bool {
    ACTIVE.get().is_some()
}

/// The time of the command being applied, in microseconds since 1970, if there is one.
pub(in crate::sqlite) fn timestamp_us() -> Option<i64> {
    ACTIVE.get().map(|active| active.timestamp_us)
}

/// The time of the command being applied and a number that counts up from 0 within it, if there is
/// one.
pub(in crate::sqlite) fn next_ordinal() -> Option<(i64, u64)> {
    let mut active = ACTIVE.get()?;
    let ordinal = active.ordinals;
    active.ordinals += 1;
    ACTIVE.set(Some(active));
    Some((active.timestamp_us, ordinal))
}

/// Fills `bytes` from the generator of the command being applied; false where there is none.
pub(in crate::sqlite) fn fill_random(bytes: &mut [u8]) -> bool {
    let Some(mut active) = ACTIVE.get() else { return false };
    for chunk in bytes.chunks_mut(8) {
        let word = active.generator.next().to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
    ACTIVE.set(Some(active));
    true
}

/// xoshiro256** by David Blackman and Sebastiano Vigna, its state filled by SplitMix64 as they
/// advise (<https://prng.di.unimi.it/>). Part of the replicated format: every version must draw the
/// same numbers from the same seed.
#[derive(Clone, Copy)]
struct Generator([u64; 4]);

impl Generator {
    fn from_seed(seed: u64) -> Self {
        let mut x = seed;
        let mut split_mix = || {
            x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = x;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        Generator([split_mix(), split_mix(), split_mix(), split_mix()])
    }

    fn next(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference values of SplitMix64 for the seed 1234567, as published with the algorithm.
    #[test]
    fn seeding_follows_splitmix64() {
        let Generator(state) = Generator::from_seed(1_234_567);
        assert_eq!(
            state,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423,
                4_593_380_528_125_082_431
            ]
        );
    }

    /// The reference values of xoshiro256** for the state 1, 2, 3, 4.
    #[test]
    fn generator_follows_xoshiro256_star_star() {
        let mut generator = Generator([1, 2, 3, 4]);
        let drawn: Vec<u64> = (0..5).map(|_| generator.next()).collect();
        assert_eq!(
            drawn,
            [11_520, 0, 1_509_978_240, 1_215_971_899_390_074_240, 1_216_172_134_540_287_360]
        );
    }

    #[test]
    fn guards_nest_and_end() {
        assert_eq!(timestamp_us(), None);
        let outer = enter(CommandContext { timestamp_us: 1, seed: 1 });
        {
            let _inner = enter(CommandContext { timestamp_us: 2, seed: 2 });
            assert_eq!(timestamp_us(), Some(2));
        }
        assert_eq!(timestamp_us(), Some(1));
        drop(outer);
        assert!(!is_active());
        assert!(!fill_random(&mut [0; 8]));
    }
}
