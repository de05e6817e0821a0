/** What mishaps do to disks, and what is no longer certain of the pool after them. */
import { createHash } from "node:crypto";
import { IDENTITY_NAME } from "../../src/ledger/identity.ts";
import type { ObjectRecord } from "../../src/ledger/record.ts";
import type { Config } from "./steps.ts";
import type { NameModel } from "./oracle.ts";
import type { Disk, Trouble } from "./sim-store.ts";
import type { World } from "./world.ts";

/** So many segments are not merged in a schedule. */
const PLENTY = 32;

/** What mishaps befall, and who has to know of them. */
export interface Scene {
  readonly world: World;
  readonly disks: readonly Disk[];
  readonly models: ReadonlyMap<string, NameModel>;
  readonly trouble: Trouble;
  /** The place of what happens next in the order of events. */
  readonly nextEvent: () => number;
  /** What the ledgers of some disks say together of a name. */
  readonly recordOn: (disks: readonly Disk[], name: string) => ObjectRecord | undefined;
  /** Whether a segment of a ledger among these objects was damaged. */
  readonly isSpoiled: (disk: { readonly objects: ReadonlyMap<string, Buffer> }) => boolean;
  /** Whether copies are on their way that no caller waits for. */
  readonly isWritingLater: () => boolean;
  readonly note: (line: () => string) => void;
}

export class Mishaps {
  readonly #scene: Scene;
  /** Disks that went back in time, and were not made whole since. */
  readonly #outdated = new Set<Disk>();
  /** A repair that was begun since may have brought their ledgers up to date, and not what they hold. */
  #isRepaired = false;
  /** Where a copy of another disk stands, and of which. */
  readonly #clones = new Map<Disk, Disk>();

  constructor(scene: Scene) {
    this.#scene = scene;
  }

  /** Whether a store that is heard may not know what it was told. */
  get isAnyOutdated(): boolean {
    return this.#outdated.size > 0;
  }

  /** Whether a machine's own index may have what no store has: what went to a mount point, or to a store before it went back. */
  isAnyForgetful = false;

  get isAnyCloned(): boolean {
    return this.#clones.size > 0;
  }

  /** Whether a copy of the disk stands elsewhere: were it silent meanwhile, nobody could tell the two apart. */
  isCopied(disk: Disk): boolean {
    return [...this.#clones.values()].includes(disk);
  }

  /** Whether the ledger on a disk shows that it went back in time: nobody has brought it up to date. */
  isKnownOutdated(disk: Disk, { mergeAt }: Pick<Config, "mergeAt">): boolean {
    return this.#outdated.has(disk) && !this.#isRepaired && mergeAt >= PLENTY;
  }

  noteRepair(): void {
    if (this.#outdated.size > 0) this.#isRepaired = true;
  }

  /** A repair saw everything, and every store has the whole ledger. */
  noteWhole(): void {
    this.#isRepaired = false;
    this.#outdated.clear();
  }

  noteMounted(disk: Disk): void {
    this.#clones.delete(disk);
  }

  /** Whether a disk may be taken away: another one has to be left that says which pool this is. */
  isSpare(disk: Disk): boolean {
    return disk.own.has(IDENTITY_NAME) && this.#scene.disks.some((other) => other !== disk && isThere(other));
  }

  /** The image is of this moment, whatever is under way. */
  takeImage(disk: Disk): void {
    if (isThere(disk)) disk.image = new Map(disk.objects);
  }

  /** Names that nothing else vouches for may be lost, or be what they were before. */
  rollBack(disk: Disk): void {
    const { disks, models, note, recordOn, nextEvent } = this.#scene;
    const { image } = disk;
    if (image === undefined || disks.some((one) => !isThere(one) || this.#scene.isSpoiled(one))) return;
    // What was damaged then, and merged by the others since, is named until the user discards it.
    if (this.#scene.isSpoiled({ objects: image })) return;
    if (this.#scene.isWritingLater() || disk.landing.size > 0) return;
    note(() => `${disk.label} is rolled back`);
    const others = disks.filter((other) => other !== disk);
    const before = new Map([...models.keys()].map((name) => [name, recordOn([disk], name)?.version]));
    const isSafe = new Map([...models.values()].map((model) => [model, this.#survives(model, others)]));
    const former = disk.objects;
    disk.objects = new Map(image);
    disk.forget();
    this.#strike(disk);
    this.#outdated.add(disk);
    this.isAnyForgetful = true;
    for (const model of models.values()) {
      if (isSafe.get(model) !== true) model.taint(nextEvent());
      const isBehind = recordOn([disk], model.name)?.version !== before.get(model.name);
      const isOther = former.get(model.name)?.equals(disk.objects.get(model.name) ?? Buffer.alloc(0)) !== true;
      if (isOther) model.damaged.add(disk.label);
      model.forgetWhoKnows();
      for (const write of model.writes) {
        if (isBehind || isOther) write.holders = write.holders.filter((label) => label !== disk.label);
      }
    }
  }

  /** Whether other disks have a name as it is, and know it. */
  #survives(model: NameModel, others: readonly Disk[]): boolean {
    const now = this.#scene.nextEvent();
    const legal = model.legal(now, now);
    const [only] = legal;
    if (legal.length !== 1 || only === undefined || model.busy) return false;
    const record = this.#scene.recordOn(others, model.name);
    const { value } = only;
    if (value === undefined) return model.ever.size === 1 || record?.kind === "delete";
    const good = others.filter((other) => other.objects.get(model.name)?.toString() === value);
    const isKnown = record?.content?.sha256 === createHash("sha256").update(value).digest("hex");
    return isKnown && good.some((other) => only.holders.includes(other.label));
  }

  /** From now on each of two addresses leads to the other's disk. */
  swap(disk: Disk, other: Disk): void {
    const { models, note } = this.#scene;
    if (disk === other || !isThere(disk) || !isThere(other)) return;
    if (this.isAnyCloned || disk.landing.size + other.landing.size > 0 || this.#scene.isWritingLater()) return;
    note(() => `${disk.label} and ${other.label} change places`);
    disk.swap(other);
    const labels = new Map([
      [disk.label, other.label],
      [other.label, disk.label],
    ]);
    for (const model of models.values()) {
      for (const write of model.writes) write.holders = write.holders.map((label) => labels.get(label) ?? label);
      const damaged = [...model.damaged].map((label) => labels.get(label) ?? label);
      model.damaged.clear();
      for (const label of damaged) model.damaged.add(label);
    }
    const outdated = [disk, other].filter((one) => this.#outdated.has(one));
    if (outdated.length === 1) for (const one of [disk, other]) this.#toggleOutdated(one);
    this.#strike(disk);
    this.#strike(other);
  }

  #toggleOutdated(disk: Disk): void {
    if (!this.#outdated.delete(disk)) this.#outdated.add(disk);
  }

  /**
   * A copy of one disk stands in the place of another, as it is now. Only where nobody can take it for the first: that
   * one answers as long as the copy is there, and its address is known for it alone.
   */
  clone(disk: Disk, from: Disk, isKnownAt: boolean): void {
    const isCalm = !from.down && !from.full && from.faults.length === 0;
    if (disk === from || !isThere(disk) || !isThere(from) || !isCalm || isKnownAt || this.isAnyCloned) return;
    // The ledger has to tell which of the two is the first.
    if (this.#scene.isSpoiled(from)) return;
    if (this.#scene.isWritingLater() || disk.landing.size > 0) return;
    this.#scene.note(() => `a copy of ${from.label} stands in the place of ${disk.label}`);
    disk.unmount(from.objects);
    this.#clones.set(disk, from);
    this.#strike(disk);
  }

  #strike(disk: Disk): void {
    disk.struck(this.#scene.trouble, this.#scene.world.nowMs);
  }
}

/** Whether a disk is in its place, and knows which pool it is of. */
function isThere(disk: Disk): boolean {
  return !disk.isUnmounted && !disk.isWiped && disk.objects.has(IDENTITY_NAME);
}
