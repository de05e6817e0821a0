/** Label of a store of a pool that is itself a store of another one. */
export function nestedLabel(pool: string, store: string): string {
  return `${pool} > ${store}`;
}
