/** What every command is given. */
import type { Readable } from "node:stream";
import type { Logger } from "../contract/log.ts";
import type { Outcome } from "./terminal/exit.ts";
import type { Output } from "./terminal/output.ts";
import type { Printer } from "./terminal/printer.ts";
import type { Progress } from "./terminal/progress.ts";
import type { Target, TargetOptions } from "./target.ts";

/** The world around a run. The real one is the process's; tests bring their own. */
export interface Surroundings {
  readonly stdin: Readable;
  readonly stdout: Output;
  readonly stderr: Output;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
}

export interface CommandContext extends Surroundings {
  readonly printer: Printer;
  /** Fires on SIGINT, SIGTERM, SIGHUP and when stdout is closed. */
  readonly signal: AbortSignal;
  readonly logger: Logger;
  readonly outcome: Outcome;
  /** POOL as given by -p or HOLDFAST_POOL. */
  readonly pool: string | undefined;
  readonly json: boolean;
  readonly quiet: boolean;
  /** Opens POOL, once; closed after the command. Throws `config`. */
  openTarget(options?: TargetOptions): Promise<Target>;
  /** Values that no output may hold; grows as stores are opened. */
  readonly secrets: readonly string[];
  /** Closes something after the command, whatever becomes of it. */
  closeLater(close: () => Promise<void>): void;
  /** Values that no output may hold. */
  addSecrets(secrets: readonly string[]): void;
  /** Begins a progress bar, where one is wanted. */
  startProgress(verb: string, stores: readonly string[]): Promise<Progress>;
}
