/**
 * Renewal: the announcement of a change is written anew while the change lasts. Its age shows other processes whether the
 * change may still go on, however long a request takes.
 */
import type { Ledger } from "../ledger/ledger.ts";
import type { CopyMark, ObjectRecord, StoreId } from "../ledger/record.ts";
import type { Runtime } from "../contract/runtime.ts";

export interface Announced {
  readonly ledger: Ledger;
  readonly runtime: Runtime;
}

/** Announcements are renewed in this part of the time after which they count no more. */
const PARTS = 4;

/**
 * Renews an announcement until the returned function is called. `holdsMs`: how long other processes believe it, in
 * milliseconds. `isOver`: the stores whose change has ended meanwhile; their marks are not renewed. Default: none.
 */
export function keepAnnounced(
  { ledger, runtime }: Announced,
  announcement: ObjectRecord,
  holdsMs: number,
  isOver: (id: StoreId) => boolean = () => false,
): () => void {
  let stop = (): void => undefined;
  const renewLater = (): void => {
    stop = runtime.timer(holdsMs / PARTS, () => {
      const rev = ledger.stamp(announcement);
      const copies: Record<StoreId, CopyMark> = {};
      for (const [id, mark] of Object.entries(announcement.copies)) if (!isOver(id)) copies[id] = { ...mark, rev };
      ledger.append({ objects: [{ ...announcement, copies }] });
      renewLater();
    });
  };
  renewLater();
  return () => stop();
}
