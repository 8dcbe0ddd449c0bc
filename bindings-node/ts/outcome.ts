/** Takes the outcomes of native calls apart: values, errors, and calls that were aborted. */

import { AbortError, QuorumliteError } from "./errors.js";
import { type Cancellation, type Outcome, type Pending, native } from "./native.js";

/** The value, or the error thrown. */
export function unwrap<T>(outcome: Outcome<T>): T {
  if (outcome.failure) {
    throw new QuorumliteError(outcome.failure);
  }
  return outcome.value as T;
}

/** Starts a call and waits for it, or until `signal` is aborted. */
export async function call<T>(
  signal: AbortSignal | undefined,
  start: (cancel: Cancellation | undefined) => Pending<T>,
): Promise<T> {
  if (signal === undefined) {
    return unwrap(await start(undefined));
  }
  if (signal.aborted) {
    throw new AbortError(signal.reason);
  }
  const cancellation = new native.Cancellation();
  let abort: () => void = () => {};
  const aborted = new Promise<never>((_, reject) => {
    abort = () => {
      cancellation.cancel();
      reject(new AbortError(signal.reason));
    };
  });
  signal.addEventListener("abort", abort, { once: true });
  try {
    return unwrap(await Promise.race([start(cancellation), aborted]));
  } finally {
    signal.removeEventListener("abort", abort);
  }
}
