/** What `-p POOL` names, opened. A single store is a pool of one. */
import { HoldfastError } from "../contract/errors.ts";
import type { Logger } from "../contract/log.ts";
import { openPool } from "../open-pool.ts";
import type { OpenPoolOptions } from "../open-pool.ts";
import { parsePool, poolOfOne } from "../config/pool-config.ts";
import type { PoolDescription } from "../config/pool-config.ts";
import type { Pool } from "../contract/pool.ts";
import { secretsOf } from "../support/redact.ts";

export interface Target {
  readonly pool: Pool;
  readonly description: PoolDescription;
  /** Labels of the stores, in order. */
  readonly labels: readonly string[];
}

/** For commands that keep a log or figures of their own. */
export interface TargetOptions {
  readonly logger?: Logger;
  readonly openStore?: OpenPoolOptions["openStore"];
}

export interface OpenTargetOptions extends TargetOptions {
  readonly cwd: string;
  readonly logger: Logger;
  readonly signal: AbortSignal;
  readonly onWarning: (message: string) => Promise<void> | void;
  readonly onSecrets: (secrets: readonly string[]) => void;
}

/** Secrets of every store of a pool, nested ones too. */
function secretsOfPool(description: PoolDescription): string[] {
  return description.stores.flatMap((store) => [
    ...secretsOf(store.parsed, store.env),
    ...(store.pool === undefined ? [] : secretsOfPool(store.pool)),
  ]);
}

/** Opens POOL. Throws `config` for what is wrong with it. A store that is down does not hinder opening. */
export async function openTarget(text: string | undefined, options: OpenTargetOptions): Promise<Target> {
  if (text === undefined || text.length === 0) {
    throw new HoldfastError("config", "no pool is given: use -p POOL, or set HOLDFAST_POOL");
  }
  const parsed = await parsePool(text, { cwd: options.cwd });
  for (const warning of parsed.warnings) await options.onWarning(warning);
  const description = parsed.kind === "pool" ? parsed : poolOfOne(parsed);
  options.onSecrets(secretsOfPool(description));
  const { logger, signal, openStore } = options;
  const pool = await openPool(description, { logger, signal, openStore });
  return { pool, description, labels: description.stores.map((store) => store.label) };
}
