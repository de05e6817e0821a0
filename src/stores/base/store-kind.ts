/** A kind of store, for the list of all kinds in `open-store.ts`. */
import type { Logger } from "../../contract/log.ts";
import type { Runtime } from "../../contract/runtime.ts";
import type { Store } from "../../contract/store.ts";
import type { StoreUrl } from "../../contract/store-url.ts";

/** What a kind of store is given to open one. */
export interface StoreContext {
  /** Name of the store in errors. */
  readonly label: string;
  /**
   * The store's environment: the process's, with the store's own `env` laid over it. A kind reads credentials from here
   * and never from `process.env`, and hands this (never more) to a child process.
   */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly runtime: Runtime;
  readonly logger: Logger;
  /** Cancels opening. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Where a store keeps its objects, as its kind reads it from the URL and the environment, without reaching out. Only `login`
 * may hold secrets.
 */
export interface StorePlace {
  /**
   * All that must be the same before one store can stand in another: the protocol, the server or service with its port, the
   * user or account, the bucket, share or module. User names are fine here; passwords, keys and tokens are not.
   */
  readonly server: readonly string[];
  /** Where on it, part by part. A store holds everything below its own path. */
  readonly path: readonly string[];
  /** For a folder of this machine: its path, absolute and without symbolic links. */
  readonly folder?: string | undefined;
  /**
   * For kinds whose account is told by a secret alone, such as a token: what it was told by. It is compared with another
   * store's, and goes nowhere.
   */
  readonly login?: string | undefined;
}

/** Kinds of store by the schemes of their URLs. */
export type StoreKinds = Readonly<Record<string, StoreKind>>;

/** A kind of store: how its URLs are opened, and where they lead. */
export interface StoreKind {
  open(url: StoreUrl, context: StoreContext): Promise<Store>;
  /** Throws `config` for what cannot be opened either. */
  place(url: StoreUrl, env: StoreContext["env"]): StorePlace | Promise<StorePlace>;
}
