/** Makes operations on one name take turns within this process: a condition is checked and acted on in one go. */
export class NameLocks {
  readonly #tails = new Map<string, Promise<void>>();

  /** Runs `work` when everything that asked for `name` before is over. */
  async run<T>(name: string, work: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(name);
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
