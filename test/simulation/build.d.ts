/** A change of one file of the sources: `find` stands in it once. */
export interface Patch {
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

/** Of Node, for the processes that run schedules. */
export const NODE_OPTIONS: readonly string[];

/**
 * Compiles variants of the simulation into a folder inside the project; gives the runner of each. `main`: the file of
 * test/simulation that a runner begins with, without its ending; default `main`.
 */
export function buildSimulations(
  folder: string,
  variants: readonly { readonly name: string; readonly patches: readonly Patch[] }[],
  main?: string,
): Map<string, string>;
