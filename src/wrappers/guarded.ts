/** The wrappers that stand between a pool and each of its stores, in their order. */
import type { Logger } from "../contract/log.ts";
import { silentLogger } from "../contract/log.ts";
import type { Runtime } from "../contract/runtime.ts";
import { systemRuntime } from "../contract/runtime.ts";
import type { Store } from "../contract/store.ts";
import { breaker } from "./breaker.ts";
import { deadline } from "./deadline.ts";
import { limit } from "./limit.ts";
import { retry } from "./retry.ts";

/** Puts, and other calls, that one store gets at once. */
const CALLS_AT_ONCE = 32;
/** Calls that must fail one after the other, each after all its attempts, before a store is left alone for a while. */
const FAILURES_IN_A_ROW = 3;

export interface GuardedOptions {
  /** How long one call, and a stream that does not get on, may take, in milliseconds. Default that of `deadline`. */
  readonly deadlineMs?: number | undefined;
  /** How often an operation is tried in all. Default 4. */
  readonly attempts?: number | undefined;
  readonly runtime?: Runtime | undefined;
  readonly logger?: Logger | undefined;
}

/**
 * Every call ends by a deadline, is tried a bounded number of times, and is not tried at all for a while once the store has
 * failed again and again. A call that waits for its turn costs no attempt; each attempt has a deadline of its own.
 */
export function guarded(store: Store, options: GuardedOptions = {}): Store {
  const { deadlineMs, attempts, runtime = systemRuntime, logger = silentLogger } = options;
  const bounds = deadlineMs === undefined ? {} : { callMs: deadlineMs, idleMs: deadlineMs };
  const tried = retry(deadline(store, { runtime, ...bounds }), { runtime, logger, attempts });
  return breaker(limit(tried, { max: CALLS_AT_ONCE }), { runtime, logger, failures: FAILURES_IN_A_ROW });
}
