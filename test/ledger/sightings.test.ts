/** The age of what a machine has seen, whatever its wall clock says. */
import { expect, it } from "vitest";
import { MemoryIndex } from "../../src/ledger/ledger-index.ts";
import { Sightings } from "../../src/ledger/sightings.ts";

const HOUR_MS = 3_600_000;
const SEEN = "018bcfe568000000-00000001aaaaaaaa";

/** A machine's clocks. Each process has a steady clock that begins anew. */
class Clocks {
  wallMs = 1_700_000_000_000;
  bootMs = 50_000;
  boot: string | undefined = "first";

  pass(ms: number): void {
    this.wallMs += ms;
    this.bootMs += ms;
  }

  process(): ConstructorParameters<typeof Sightings>[0] {
    const beganMs = this.bootMs;
    return {
      now: () => this.wallMs,
      monotonicMs: () => this.bootMs - beganMs,
      sinceBoot: () => (this.boot === undefined ? undefined : { boot: this.boot, ms: this.bootMs }),
    };
  }
}

function machine(): { readonly clocks: Clocks; readonly process: () => Sightings } {
  const clocks = new Clocks();
  const index = new MemoryIndex();
  return { clocks, process: () => new Sightings(clocks.process(), () => index) };
}

it("is what the steady clock says while the process runs, though the wall clock is set", () => {
  const { clocks, process } = machine();
  const sightings = process();
  expect(sightings.ageMs(SEEN)).toBe(0);
  clocks.pass(2000);
  clocks.wallMs += HOUR_MS;
  expect(sightings.ageMs(SEEN)).toBe(2000);
  clocks.wallMs -= 5 * HOUR_MS;
  expect(sightings.ageMs(SEEN)).toBe(2000);
});

it("goes on in a later process, though the wall clock was set meanwhile", () => {
  const { clocks, process } = machine();
  process().note(SEEN);
  clocks.pass(3000);
  clocks.wallMs += HOUR_MS;
  const later = process();
  expect(later.ageMs(SEEN)).toBe(3000);
  clocks.pass(500);
  expect(later.ageMs(SEEN)).toBe(3500);
});

it.each(["second", undefined])(
  "goes by the wall clock where the machine was started anew, or tells no start (%s)",
  (boot) => {
    const { clocks, process } = machine();
    process().note(SEEN);
    clocks.boot = boot;
    clocks.pass(HOUR_MS);
    clocks.bootMs = 0;
    expect(process().ageMs(SEEN)).toBe(HOUR_MS);
  },
);

it("begins anew where the wall clock cannot be right", () => {
  const { clocks, process } = machine();
  clocks.boot = undefined;
  process().note(SEEN);
  clocks.wallMs -= HOUR_MS;
  expect(process().ageMs(SEEN)).toBe(0);
  clocks.pass(1000);
  expect(process().ageMs(SEEN)).toBe(1000);
});
