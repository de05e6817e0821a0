/** One case of the suite: what it guarantees, and what it is given to try it. */
import type { Capabilities, Store } from "../contract/store.ts";

/** What a case is given. */
export interface ConformanceContext {
  /** The store under test. */
  readonly store: Store;
  /** Opens the same place once more. The case closes what it opens. */
  readonly open: () => Promise<Store>;
  /** Ends with `/` and is the case's own: every name of the case stands under it. */
  readonly prefix: string;
  /** Registers a name outside `prefix` for deletion after the case. */
  readonly cleanUp: (name: string) => void;
  /** How many objects the case about long listings puts. */
  readonly listCount: number;
}

export interface ConformanceCase {
  /** What is guaranteed, as a sentence. Unique. */
  readonly name: string;
  /** Part of the quick subset: seconds on a slow network, a few hundred KiB. */
  readonly quick: boolean;
  /** Why the case does not apply to a store with this manifest; undefined when it does. */
  readonly needs?: (capabilities: Capabilities) => string | undefined;
  /** Resolves when the guarantee holds; rejects, mostly with an AssertionError, when it does not. */
  run(context: ConformanceContext): Promise<void>;
}
