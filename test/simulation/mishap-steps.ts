/** What befalls stores as a whole, and the files that name them: seldom, and drawn apart from the steps of a schedule. */
import { Random } from "./random.ts";
import type { Config, OtherShape, Step } from "./steps.ts";

/** How often a schedule has mishaps at all. */
const OFTEN = 0.25;
const MISHAP_SEED = 0x3a1d_0000_0000;

/** The steps, with mishaps among them: the same steps for the same seed, whatever mishaps there are. */
export function withMishaps(steps: readonly Step[], config: Config, seed: number, slots: number): readonly Step[] {
  const random = new Random(seed + MISHAP_SEED);
  if (!random.chance(OFTEN)) return steps;
  const result = [...steps];
  const several = config.stores > 1 ? 1 : 0;
  const isPlain = config.prefixes.length === 0 ? 1 : 0;
  const weights = {
    rollback: 2 * several,
    swap: 1.5 * several * isPlain,
    clone: 1 * several,
    unmount: 2 * several,
    wipe: config.mode === "mirror" ? 0.7 * several : 0,
    readdress: 1.5,
    misopen: 1,
  };
  for (let count = 1 + random.below(3); count > 0; count--) {
    const kind = random.weighted(weights);
    const disk = random.below(config.stores);
    const other = (disk + 1 + random.below(Math.max(1, config.stores - 1))) % config.stores;
    const at = random.below(result.length + 1);
    const later = at + 1 + random.below(result.length + 1 - at);
    switch (kind) {
      case "rollback":
        result.splice(at, 0, { do: "image", disk });
        result.splice(later, 0, { do: "rollback", disk });
        if (random.chance(0.3)) result.splice(later + 1, 0, { do: "status", slot: random.below(slots) });
        break;
      case "swap":
        result.splice(at, 0, { do: "swap", disk, other });
        break;
      case "clone":
      case "unmount":
        result.splice(
          at,
          0,
          kind === "clone" ? { do: "clone", disk, from: other } : { do: "unmount", disk, amid: true },
        );
        if (random.chance(0.7)) result.splice(later, 0, { do: "up", disk });
        break;
      case "wipe":
        result.splice(at, 0, { do: "wipe", disk });
        if (random.chance(0.3)) result.splice(at + 1, 0, { do: "status", slot: random.below(slots) });
        break;
      case "readdress":
        result.splice(at, 0, { do: "readdress", machine: random.below(config.machines), disk });
        break;
      case "misopen":
        result.splice(at, 0, { do: "misopen", slot: random.below(slots), as: otherShape(config, random), place: disk });
        break;
    }
  }
  return result;
}

function otherShape(config: Config, random: Random): OtherShape {
  if (config.mode === "stripe" || config.stores === 1) return "mode";
  return random.pick(["mode", "min", "prefixes"] as const);
}

/** The pool as somebody means it to be who does not know better. `place`: of the store whose prefixes are others. */
export function misshapen(config: Config, as: OtherShape, place: number): Pick<Config, "mode" | "min" | "prefixes"> {
  const { mode, min, prefixes, stores } = config;
  switch (as) {
    case "mode":
      return mode === "mirror" ? { mode: "stripe", min: 1, prefixes: [] } : { mode: "mirror", min: 1, prefixes: [] };
    case "min":
      return { mode, min: (min % stores) + 1, prefixes };
    case "prefixes":
      return {
        mode,
        min,
        prefixes: Array.from({ length: stores }, (_, at) => (at === place ? ["other/"] : (prefixes[at] ?? []))),
      };
  }
}
