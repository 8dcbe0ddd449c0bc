//! A closed loop of callers, and the latencies that it saw.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Result;

/// Which part of a run is not counted: caches fill, batches find their size.
const WARM_UP: f64 = 0.25;
/// Operations that never wait let the other callers run after so many.
const YIELD_EVERY: u64 = 64;
/// Longer than anything that is waited for.
const NEVER: Duration = Duration::from_secs(86_400);

/// Latencies of the operations that ended within a window.
pub struct Latencies {
    nanoseconds: Vec<u64>,
    window: Duration,
}

impl Latencies {
    /// The latency below which `share` of the operations stayed.
    fn percentile(&self, share: f64) -> f64 {
        let last = self.nanoseconds.len().saturating_sub(1);
        let at = (last as f64 * share).round() as usize;
        self.nanoseconds.get(at).map_or(f64::NAN, |n| *n as f64 / 1000.0)
    }

    /// Throughput and latency; `rows` of each operation count.
    pub fn report(&self, rows: usize) -> Value {
        json!({
            "operations": self.nanoseconds.len(),
            "per_second": (self.nanoseconds.len() * rows) as f64 / self.window.as_secs_f64(),
            "p50_us": self.percentile(0.5),
            "p99_us": self.percentile(0.99),
        })
    }
}

/// Runs every caller's operation again and again for `duration` after a warm-up, each waiting for its
/// answer.
///
/// # Errors
/// The first error of any caller.
pub async fn closed_loop<C, F, Fut>(
    callers: Vec<C>,
    duration: Duration,
    act: F,
) -> Result<Latencies>
where
    C: Send + 'static,
    F: Fn(C, u64) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<C>> + Send,
{
    let begin = Instant::now() + duration.mul_f64(WARM_UP);
    run(callers, begin..begin + duration, Arc::default(), act).await
}

/// The same for as long as `meanwhile` takes, without a warm-up.
///
/// # Errors
/// The first error of any caller, or that of `meanwhile`.
pub async fn closed_loop_during<C, F, Fut>(
    callers: Vec<C>,
    meanwhile: impl Future<Output = Result<()>>,
    act: F,
) -> Result<Latencies>
where
    C: Send + 'static,
    F: Fn(C, u64) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<C>> + Send,
{
    let over = Arc::new(AtomicBool::new(false));
    let begin = Instant::now();
    let calls = run(callers, begin..begin + NEVER, over.clone(), act);
    let meanwhile = async {
        let result = meanwhile.await;
        over.store(true, Ordering::Release);
        result
    };
    let (latencies, result) = tokio::join!(calls, meanwhile);
    result?;
    let mut latencies = latencies?;
    latencies.window = begin.elapsed();
    Ok(latencies)
}

async fn run<C, F, Fut>(
    callers: Vec<C>,
    window: std::ops::Range<Instant>,
    over: Arc<AtomicBool>,
    act: F,
) -> Result<Latencies>
where
    C: Send + 'static,
    F: Fn(C, u64) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<C>> + Send,
{
    let (begin, end) = (window.start, window.end);
    let mut tasks = tokio::task::JoinSet::new();
    let count = callers.len() as u64;
    for (number, mut caller) in callers.into_iter().enumerate() {
        let (act, over) = (act.clone(), over.clone());
        tasks.spawn(async move {
            let mut seen = Vec::new();
            let mut turn = number as u64;
            loop {
                let started = Instant::now();
                if started >= end || over.load(Ordering::Acquire) {
                    return crate::Result::Ok(seen);
                }
                caller = act(caller, turn).await?;
                let ended = Instant::now();
                if (begin..=end).contains(&ended) {
                    seen.push((ended - started).as_nanos() as u64);
                }
                turn += count;
                if (turn / count).is_multiple_of(YIELD_EVERY) {
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    let mut nanoseconds = Vec::new();
    while let Some(seen) = tasks.join_next().await {
        nanoseconds.extend(seen??);
    }
    nanoseconds.sort_unstable();
    Ok(Latencies { nanoseconds, window: end - begin })
}
