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
  let at = 0;
  const space = (): void => {
    SPACE.lastIndex = at;
    SPACE.test(text);
    at = SPACE.lastIndex;
  };
  const take = (pattern: RegExp, what: string): string => {
    pattern.lastIndex = at;
    const match = pattern.exec(text);
    if (!match) throw new Fault(at, what);
    at = pattern.lastIndex;
    return match[0];
  };
  const expected = (what: string): Fault =>
    new Fault(at, at >= text.length ? `the text ends where ${what} is expected` : `${what} is expected here`);

  const value = (depth: number): void => {
    if (depth > MAX_DEPTH) throw new Fault(at, `nested deeper than ${MAX_DEPTH} levels`);
    space();
    const first = text[at];
    if (first === "{") object(depth);
    else if (first === "[") list(depth);
    else if (first === '"') take(STRING, "a string that is not closed, or holds a bad escape or a control character");
    else if (first !== undefined && /[-\d]/u.test(first)) take(NUMBER, "a number in a form that JSON does not have");
    else {
      for (const word of ["true", "false", "null"]) {
        if (text.startsWith(word, at)) {
          at += word.length;
          return;
        }
      }
      throw expected("a value");
    }
  };
  const list = (depth: number): void => {
    at++;
    space();
    if (text[at] === "]") {
      at++;
      return;
    }
    for (;;) {
      value(depth + 1);
      space();
      const next = text[at];
      if (next === "]") {
        at++;
        return;
      }
      if (next !== ",") throw expected("a comma or ]");
      at++;
    }
  };
  const object = (depth: number): void => {
    at++;
    space();
    if (text[at] === "}") {
      at++;
      return;
    }
    const seen = new Set<string>();
    for (;;) {
      space();
      if (text[at] !== '"') throw expected("a key in double quotes");
      const start = at;
      const key = JSON.parse(take(STRING, "a key that is not closed, or holds a bad escape")) as string;
      if (seen.has(key)) throw new Fault(start, `the key ${JSON.stringify(key)} is there twice`);
      seen.add(key);
      space();
      if (text[at] !== ":") throw expected("a colon");
      at++;
      value(depth + 1);
      space();
      const next = text[at];
      if (next === "}") {
        at++;
        return;
      }
      if (next !== ",") throw expected("a comma or }");
      at++;
    }
  };

  try {
    value(0);
    space();
    if (at < text.length) throw new Fault(at, "something follows the end of the value");
    return undefined;
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    const before = text.slice(0, error.offset);
    const line = before.split("\n").length;
    return { line, column: error.offset - before.lastIndexOf("\n"), what: error.message };
  }
}
