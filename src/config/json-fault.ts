/**
 * Finds the first place where text is not JSON, or where an object names a key twice.
 *
 * `JSON.parse` gives a position for some faults only, quotes the text (which may hold a credential) for the others, and
 * takes the last of two equal keys without a word. The text's meaning stays `JSON.parse`'s; this only locates.
 */

export interface JsonFault {
  /** From 1. */
  readonly line: number;
  /** In UTF-16 units, from 1. */
  readonly column: number;
  readonly what: string;
}

/** Nesting beyond this is a fault: no pool file needs it, and recursion has to end somewhere. */
const MAX_DEPTH = 100;

const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
// oxlint-disable-next-line eslint/no-control-regex -- JSON forbids bare control characters in strings
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const SPACE = /[ \t\n\r]*/y;

class Fault extends Error {
  readonly offset: number;
  constructor(offset: number, what: string) {
    super(what);
    this.offset = offset;
  }
}

/** The first fault of `text` as JSON, or undefined when it is well formed and no object repeats a key. */
export function findJsonFault(text: string): JsonFault | undefined {
  try {
    new Reader(text).whole();
    return undefined;
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    const before = text.slice(0, error.offset);
    const line = before.split("\n").length;
    return { line, column: error.offset - before.lastIndexOf("\n"), what: error.message };
  }
}

/** Goes over text by JSON's grammar, and throws a {@link Fault} at the first place that is not of it. */
class Reader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  whole(): void {
    this.#value(0);
    this.#space();
    if (this.#at < this.#text.length) throw new Fault(this.#at, "something follows the end of the value");
  }

  #value(depth: number): void {
    if (depth > MAX_DEPTH) throw new Fault(this.#at, `nested deeper than ${MAX_DEPTH} levels`);
    this.#space();
    const first = this.#text[this.#at];
    if (first === "{") this.#object(depth);
    else if (first === "[") this.#items("]", () => this.#value(depth + 1));
    else if (first === '"')
      this.#take(STRING, "a string that is not closed, or holds a bad escape or a control character");
    else if (first !== undefined && /[-\d]/u.test(first))
      this.#take(NUMBER, "a number in a form that JSON does not have");
    else this.#word();
  }

  #object(depth: number): void {
    const seen = new Set<string>();
    this.#items("}", () => {
      this.#space();
      if (this.#text[this.#at] !== '"') throw this.#expected("a key in double quotes");
      const start = this.#at;
      const key = JSON.parse(this.#take(STRING, "a key that is not closed, or holds a bad escape")) as string;
      if (seen.has(key)) throw new Fault(start, `the key ${JSON.stringify(key)} is there twice`);
      seen.add(key);
      this.#space();
      if (this.#text[this.#at] !== ":") throw this.#expected("a colon");
      this.#at++;
      this.#value(depth + 1);
    });
  }

  /** From an opening bracket to the closing one that belongs to it, with commas between what `item` reads. */
  #items(end: "]" | "}", item: () => void): void {
    this.#at++;
    this.#space();
    if (this.#text[this.#at] === end) {
      this.#at++;
      return;
    }
    for (;;) {
      item();
      this.#space();
      const next = this.#text[this.#at];
      if (next !== end && next !== ",") throw this.#expected(`a comma or ${end}`);
      this.#at++;
      if (next === end) return;
    }
  }

  #word(): void {
    const word = ["true", "false", "null"].find((one) => this.#text.startsWith(one, this.#at));
    if (word === undefined) throw this.#expected("a value");
    this.#at += word.length;
  }

  #space(): void {
    SPACE.lastIndex = this.#at;
    SPACE.test(this.#text);
    this.#at = SPACE.lastIndex;
  }

  #take(pattern: RegExp, what: string): string {
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.#text);
    if (!match) throw new Fault(this.#at, what);
    this.#at = pattern.lastIndex;
    return match[0];
  }

  #expected(what: string): Fault {
    const ends = this.#at >= this.#text.length;
    return new Fault(this.#at, ends ? `the text ends where ${what} is expected` : `${what} is expected here`);
  }
}
