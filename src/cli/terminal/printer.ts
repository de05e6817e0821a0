/**
 * What commands say, in one of two forms: lines of text for people, or JSON for programs (docs/json.md).
 *
 * A command calls the same methods in both cases, with the record and its line.
 */
import type { HoldfastError } from "../../contract/errors.ts";
import type { Debt } from "../../contract/store.ts";
import { printable } from "./format.ts";
import type { Output } from "./output.ts";
import type { Progress } from "./progress.ts";

/** One JSON object of the output. `type` says which; fields are only ever added to a type. */
export interface OutputRecord {
  readonly type: string;
  readonly [field: string]: unknown;
}

export interface Printer {
  /** What the user asked for (a listing, a status). Shown with --quiet too. */
  data(record: OutputRecord, line: string): Promise<void> | void;
  /** One thing of many that was done: a line of its own where no progress bar stands for it. Not with --quiet. */
  step(record: OutputRecord, line: string): Promise<void> | void;
  /** What the command came to. Not with --quiet. */
  done(record: OutputRecord, line: string): Promise<void> | void;
  /** Something the user should know; the run goes on. */
  warning(message: string, fields?: Readonly<Record<string, unknown>>): Promise<void> | void;
  /** Something that did not work. */
  error(error: HoldfastError): Promise<void> | void;
  /** From here on stdout carries an object's bytes, and everything else goes to stderr. */
  giveStdoutAway(): void;
  /** Begins to show progress; the printer stops it at the end. */
  progress(progress: Progress): void;
  /** Resolves when everything on stdout is written. Stderr is still there for what goes wrong with that. */
  end(): Promise<void>;
}

export interface PrinterOptions {
  readonly stdout: Output;
  readonly stderr: Output;
  readonly quiet: boolean;
  /** Whether stderr may be coloured. */
  readonly colour: boolean;
  /** Completes a message: gives hints in it what they need to be run as they stand. */
  readonly complete: (message: string) => string;
}

/** An error as one JSON object, with the errors beneath it. */
export function errorRecord(error: HoldfastError): OutputRecord {
  return {
    type: "error",
    code: error.code,
    message: error.message,
    ...(error.store === undefined ? {} : { store: error.store }),
    ...(error.operation === undefined ? {} : { operation: error.operation }),
    ...(error.object === undefined ? {} : { object: error.object }),
    retryable: error.retryable,
    ...(error.errors.length === 0 ? {} : { errors: error.errors.map(errorRecord) }),
  };
}

/** A debt in JSON output. */
export function debtRecord(debt: Debt): Record<string, unknown> {
  return {
    object: debt.object,
    store: debt.store,
    owes: debt.owes,
    since: new Date(debt.sinceMs).toISOString(),
    ...(debt.reason === undefined ? {} : { reason: debt.reason }),
  };
}

/** An error in one line, and below it each store's own, as far as that line does not hold them. */
export function errorLines(error: HoldfastError, indent = ""): string[] {
  // A label in a hint says what to type, not where it happened.
  const said = error.message.replaceAll(/\bholdfast [^)]*/gu, "");
  // What is read first on every store: to the user it stands for the store.
  const object = error.store !== undefined && error.object === ".holdfast/store.json" ? undefined : error.object;
  const where = [error.store, object].filter((part) => part !== undefined && !isNamed(said, part));
  const lines = [`${indent}${printable([...where, error.message].join(": "))}`];
  for (const inner of error.errors) {
    if (!error.message.includes(inner.message)) lines.push(...errorLines(inner, `${indent}  `));
  }
  return lines;
}

/** Whether a message names a store or an object. Labels are words too: "no space is left on the disk" names no store. */
function isNamed(message: string, part: string): boolean {
  if (part === "") return true;
  for (let at = message.indexOf(part); at !== -1; at = message.indexOf(part, at + 1)) {
    // At the beginning, in a list, in quotation marks, or at the end of a path.
    const isOpened = /(?:^|[(;,:] ?|["/])$/u.test(message.slice(0, at));
    if (isOpened && /^(?:[:;,)"]|$)/u.test(message.slice(at + part.length))) return true;
  }
  return false;
}

/** So many reasons are remembered by which object had them first. */
const MAX_TOLD = 100;

/** An error's lines; of a reason that was told before, of another object, only the object. */
function briefly(error: HoldfastError, told: Map<string, string>): string {
  const lines = errorLines(error).join("\n");
  const { object } = error;
  if (object === undefined) return lines;
  const reason = lines.replaceAll(printable(object), "");
  const first = told.get(reason);
  if (first !== undefined) return printable(`${object}: for the same reason as ${first}`);
  if (told.size < MAX_TOLD) told.set(reason, object);
  return lines;
}

export function textPrinter({ stdout, stderr, quiet, colour, complete }: PrinterOptions): Printer {
  let out = stdout;
  let bar: Progress | undefined;
  const told = new Map<string, string>();
  const paint = (code: number, text: string): string => (colour ? `\u001b[${code}m${text}\u001b[0m` : text);
  const say = (text: string): Promise<void> | void => {
    // On a terminal, too, it comes after the lines that stdout was given before.
    if (bar?.say(text)) return;
    return Promise.resolve(out.isTerminal ? out.flush() : undefined).then(() => stderr.write(`${text}\n`));
  };
  return {
    data: (_record, line) => out.write(`${complete(line)}\n`),
    step: (_record, line) => {
      if (!quiet && bar?.visible !== true) return out.write(`${line}\n`);
    },
    done: (_record, line) => {
      bar?.stop();
      // The bytes on stdout say it.
      if (!quiet && out === stdout) return out.write(`${complete(line)}\n`);
    },
    warning: (message) => say(`${paint(33, "warning:")} ${printable(complete(message))}`),
    error: (error) => say(`${paint(31, "error:")} ${complete(briefly(error, told))}`),
    giveStdoutAway: () => {
      out = stderr;
    },
    progress: (progress) => {
      bar = progress;
    },
    end: async () => {
      bar?.stop();
      await stdout.end();
      await stderr.flush();
    },
  };
}

export function jsonPrinter({ stdout, stderr, quiet, complete }: PrinterOptions): Printer {
  let out = stdout;
  const print = (record: OutputRecord): Promise<void> | void => out.write(`${JSON.stringify(record)}\n`);
  return {
    data: print,
    step: (record) => {
      if (!quiet) return print(record);
    },
    done: (record) => {
      if (!quiet) return print(record);
    },
    warning: (message, fields) => print({ type: "warning", message: complete(message), ...fields }),
    error: (error) => {
      const record = errorRecord(error);
      return print({ ...record, message: complete(error.message) });
    },
    giveStdoutAway: () => {
      out = stderr;
    },
    progress: () => undefined,
    end: async () => {
      await stdout.end();
      await stderr.flush();
    },
  };
}
