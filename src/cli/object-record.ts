/** An object in JSON output. */
import type { PoolObjectInfo } from "../contract/pool.ts";
import type { OutputRecord } from "./terminal/printer.ts";

export function objectRecord(info: PoolObjectInfo): OutputRecord {
  return {
    type: "object",
    object: info.name,
    size: info.size,
    ...(info.modifiedMs === undefined ? {} : { modified: new Date(info.modifiedMs).toISOString() }),
    ...(info.sha256 === undefined ? {} : { sha256: info.sha256 }),
    ...(info.metadata === undefined ? {} : { metadata: info.metadata }),
  };
}
