/** Names as rsync takes and gives them. */

/**
 * A name as rsync's filters take it. Backslashes quote only in patterns that have a wild card (rsync(1), "PATTERN
 * MATCHING RULES").
 */
export function pattern(name: string): string {
  return /[*?[]/u.test(name) ? name.replace(/[\\*?[]/gu, "\\$&") : name;
}

/** A name from rsync's output, given as Latin-1: `\#012` is a byte. Undefined where the bytes are no UTF-8. */
export function unescape(text: string): string | undefined {
  const bytes = Buffer.from(
    text.replace(/\\#([0-3][0-7]{2})/gu, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8))),
    "latin1",
  );
  const name = bytes.toString("utf8");
  return Buffer.from(name).equals(bytes) ? name : undefined;
}

/** A name for a list of names: one that begins with `#` or `;` would be a comment. */
export function listed(name: string): string {
  return `./${name}`;
}
