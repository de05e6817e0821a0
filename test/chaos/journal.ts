/**
 * What a process did, as it noted it: a line before each operation and one after it, in a file that survives the process.
 * A line is in the kernel's hands before the operation begins, so what another process saw of it was noted before.
 */
import { closeSync, openSync, readSync, writeSync } from "node:fs";
import { toHoldfastError } from "../../src/contract/errors.ts";
import { nowMs } from "./clocks.ts";

export type Verb =
  | "put"
  | "delete"
  | "get"
  | "stat"
  | "list"
  | "verify"
  | "repair"
  | "rebalance"
  | "status"
  | "drain"
  | "undrain";

/** What was asked for. */
export interface Question {
  readonly verb: Verb;
  /** The object; of a listing its prefix; of a drain the store. Empty: all. */
  readonly name: string;
  /** Of what is put. */
  readonly sha256?: string;
  readonly size?: number;
  /** From which its bytes can be made again. */
  readonly token?: string;
}

export interface FoundFault {
  readonly kind: string;
  readonly object: string;
  readonly store?: string;
}

export interface SeenStore {
  readonly label: string;
  readonly well: boolean;
}

/** What came of it; which fields there are depends on the verb. */
export interface Answer {
  readonly sha256?: string;
  readonly size?: number;
  /** Labels of stores that owe a copy or a delete. */
  readonly owed?: readonly string[];
  /** Labels of stores that were not heard. */
  readonly unheard?: readonly string[];
  /** Of a listing. */
  readonly names?: readonly string[];
  /** Of bytes: how they begin, for those that were never put. */
  readonly head?: string;
  readonly findings?: readonly FoundFault[];
  readonly whole?: boolean;
  /** Steps that a repair took. */
  readonly done?: number;
  /** The first of these, in words. */
  readonly steps?: readonly string[];
  readonly stores?: readonly SeenStore[];
  readonly degraded?: number;
  /** Of a command. */
  readonly exitCode?: number;
}

export interface Refusal {
  readonly code: string;
  readonly text: string;
}

interface BeginLine extends Question {
  readonly id: number;
  readonly ms: number;
}

interface EndLine {
  readonly id: number;
  readonly ms: number;
  readonly error?: Refusal;
  readonly answer?: Answer;
}

export type Line = BeginLine | EndLine;

/** One operation of one process. */
export interface Operation extends Question {
  /** The process. */
  readonly by: string;
  readonly startMs: number;
  /** Infinity while it is under way. */
  endMs: number;
  error?: Refusal;
  answer?: Answer;
}

/** Notes operations. What is thrown and is no word of Holdfast's has the code `stray`. */
export class Journal {
  readonly #fd: number;
  #last = 0;

  constructor(path: string) {
    this.#fd = openSync(path, "a");
  }

  /** Notes the question, asks it, and notes what came of it. Never rejects. */
  async note(question: Question, ask: () => Promise<Answer>): Promise<void> {
    const id = ++this.#last;
    this.#write({ id, ms: nowMs(), ...question });
    let rest: { readonly error: Refusal } | { readonly answer: Answer };
    try {
      rest = { answer: await ask() };
    } catch (error) {
      rest = { error: refusalOf(error) };
    }
    this.#write({ id, ms: nowMs(), ...rest });
  }

  #write(line: Line): void {
    writeSync(this.#fd, `${JSON.stringify(line)}\n`);
  }
}

export function refusalOf(error: unknown): Refusal {
  if (error instanceof Error && error.name === "HoldfastError") {
    const { code, store } = toHoldfastError(error);
    return { code, text: `${store === undefined ? "" : `${store}: `}${error.message}`.slice(0, 300) };
  }
  return { code: "stray", text: String(error instanceof Error ? error.stack : error).slice(0, 2000) };
}

const CHUNK_BYTES = 1024 * 1024;

/** Reads a journal while it is written, each line once. */
export class JournalReader {
  readonly #fd: number;
  readonly #by: string;
  readonly #buffer = Buffer.alloc(CHUNK_BYTES);
  readonly #open = new Map<number, Operation>();
  #rest = "";
  #offset = 0;

  constructor(path: string, by: string) {
    this.#fd = openSync(path, "a+");
    this.#by = by;
  }

  /** Operations that began or ended since the last call; one that did both is in both lists. */
  read(): { readonly begun: Operation[]; readonly ended: Operation[] } {
    const begun: Operation[] = [];
    const ended: Operation[] = [];
    for (const text of this.#lines()) {
      const line = JSON.parse(text) as Line;
      if ("verb" in line) {
        const { id, ms, ...question } = line;
        const operation: Operation = { ...question, by: this.#by, startMs: ms, endMs: Number.POSITIVE_INFINITY };
        this.#open.set(id, operation);
        begun.push(operation);
        continue;
      }
      const operation = this.#open.get(line.id);
      if (operation === undefined) throw new Error(`${this.#by}: the journal ends what never began`);
      this.#open.delete(line.id);
      operation.endMs = line.ms;
      if (line.error !== undefined) operation.error = line.error;
      if (line.answer !== undefined) operation.answer = line.answer;
      ended.push(operation);
    }
    return { begun, ended };
  }

  /** Operations under way. */
  get open(): readonly Operation[] {
    return [...this.#open.values()];
  }

  close(): void {
    closeSync(this.#fd);
  }

  /** Whole lines; what a process was killed in the middle of stays behind. */
  #lines(): string[] {
    for (;;) {
      const count = readSync(this.#fd, this.#buffer, 0, CHUNK_BYTES, this.#offset);
      if (count === 0) break;
      this.#offset += count;
      this.#rest += this.#buffer.toString("latin1", 0, count);
    }
    const lines = this.#rest.split("\n");
    this.#rest = lines.pop() ?? "";
    return lines.map((line) => Buffer.from(line, "latin1").toString("utf8"));
  }
}
