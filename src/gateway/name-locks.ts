/**
 * Makes operations on one name take turns within this process: what the pool knows nothing of (WebDAV's locks, buckets) is
 * checked and acted on in one go. What an object is now is for the pool to check (`onlyIf`), which others write to as well.
 */
export class NameLocks {
  readonly #tails = new Map<string, Promise<void>>();
  readonly #onAsked: (name: string) => void;

  /** `onAsked` is called with each name that somebody asks for, before it is waited for. */
  constructor(onAsked: (name: string) => void = () => undefined) {
    this.#onAsked = onAsked;
  }

  /** Resolves when everything that has asked for one of these names is over. */
  async settled(isMeant: (name: string) => boolean): Promise<void> {
    const meant = [...this.#tails].filter(([name]) => isMeant(name));
    for (const [name] of meant) this.#onAsked(name);
    await Promise.all(meant.map(([, tail]) => tail));
  }

  /** Runs `work` when everything that asked for `name` before is over. */
  async run<T>(name: string, work: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(name);
    this.#onAsked(name);
    let release: () => void = () => undefined;
    const mine = new Promise<void>((resolve) => {
      release = resolve;
    });
    const tail = (before ?? Promise.resolve()).then(() => mine);
    this.#tails.set(name, tail);
    await before;
    try {
      return await work();
    } finally {
      release();
      if (this.#tails.get(name) === tail) this.#tails.delete(name);
    }
  }
}
