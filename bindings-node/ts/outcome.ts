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

// What to do when a signal is aborted. One listener for each signal, however many calls share it:
// Node.js warns of more than ten.
interface Waiting {
  actions: Set<() => void>;
  listener: () => void;
}
const waiting = new WeakMap<AbortSignal, Waiting>();

/** Has `action` run when `signal` is aborted, until the returned function is called. */
function onAbort(signal: AbortSignal, action: () => void): () => void {
  let entry = waiting.get(signal);
  if (entry === undefined) {
    const actions = new Set<() => void>();
    const listener = () => {
      waiting.delete(signal);
      for (const each of actions) each();
    };
    entry = { actions, listener };
    signal.addEventListener("abort", listener, { once: true });
    waiting.set(signal, entry);
  }
  const { actions, listener } = entry;
  actions.add(action);
  return () => {
    actions.delete(action);
    if (actions.size === 0) {
      signal.removeEventListener("abort", listener);
      if (waiting.get(signal)?.listener === listener) waiting.delete(signal);
    }
  };
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
  let reject: (reason: AbortError) => void = () => {};
  const aborted = new Promise<never>((_, r) => (reject = r));
  const forget = onAbort(signal, () => {
    cancellation.cancel();
    reject(new AbortError(signal.reason));
  });
  try {
    return unwrap(await Promise.race([start(cancellation), aborted]));
  } finally {
    forget();
  }
}
