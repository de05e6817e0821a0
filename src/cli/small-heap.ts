/** Memory that does not grow with the length of a listing. */
import { setFlagsFromString } from "node:v8";

/** How much more than what is in use V8 may let the heap come to before it collects, in percent. Its default is up to 300. */
const GROWTH_PERCENT = 50;

/** Runs something that goes through very many objects and keeps none. Collecting more often takes no more time there. */
export async function withSmallHeap(work: () => Promise<void>): Promise<void> {
  setFlagsFromString(`--heap-growing-percent=${GROWTH_PERCENT}`);
  try {
    await work();
  } finally {
    // Compiled code is kept for the flags of the moment at which it is kept.
    setFlagsFromString("--heap-growing-percent=0");
  }
}
