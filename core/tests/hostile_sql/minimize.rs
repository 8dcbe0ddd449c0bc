//! Of many calls, those that it takes to fail in the same way.

use std::time::{Duration, Instant};

use crate::call::Call;
use crate::replay;

/// Replays cost up to the time in which a hung node is given up.
const TIME: Duration = Duration::from_secs(60);

/// What two complaints of one fault have in common.
pub fn sort(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').take(2).collect();
    match words[..] {
        ["Slow", ..] => "Slow".to_string(),
        ["Panic", ..] => text.chars().filter(|c| !c.is_ascii_digit()).take(80).collect(),
        _ => words.join(" "),
    }
}

/// The calls that are left, and the complaint about them.
pub fn minimize(history: &[Call], text: &str) -> (Vec<Call>, String) {
    let end = Instant::now() + TIME;
    let wanted = sort(text);
    let fails = |calls: &[Call]| match replay(calls) {
        (Some(text), made) if sort(&text) == wanted => Some((text, made)),
        _ => None,
    };
    // Often the last one alone, after the tables, will do.
    let mut kept = history.to_vec();
    let mut last = text.to_string();
    let tail = kept.len().saturating_sub(1);
    for from in [tail, tail.saturating_sub(8)] {
        if let Some((text, made)) = fails(&history[from..]) {
            (kept, last) = (history[from..from + made].to_vec(), text);
            break;
        }
    }
    let mut size = kept.len() / 2;
    while size > 0 && Instant::now() < end {
        let mut at = 0;
        while at < kept.len() && kept.len() > 1 && Instant::now() < end {
            let mut fewer = kept.clone();
            fewer.drain(at..(at + size).min(kept.len()));
            match fails(&fewer) {
                Some((text, made)) => {
                    fewer.truncate(made.max(1));
                    (kept, last) = (fewer, text);
                }
                None => at += size,
            }
        }
        size /= 2;
    }
    (kept, last)
}
