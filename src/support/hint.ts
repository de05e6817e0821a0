/** Commands that messages tell people to run, spelled as a shell takes them. */

/** A word as a POSIX shell reads it back: in single quotes where it holds more than letters, digits and what is harmless. */
export function shellWord(word: string): string {
  return /^[\p{L}\p{N}_@%+=:,./-]+$/u.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** The words of a `holdfast` command as one line: `holdfast repair --refill 'my nas'`. */
export function hint(...words: readonly string[]): string {
  return ["holdfast", ...words].map(shellWord).join(" ");
}

/** A message whose hints name a pool: `run: holdfast -p pool.json status`. Hints stand behind `run: `, `with: `, `; ` or `(`. */
export function hintsWithPool(message: string, pool: string): string {
  return message.replaceAll(/(?<=run: |with: |; |\()holdfast (?=[a-z])/gu, `${hint("-p", pool)} `);
}
