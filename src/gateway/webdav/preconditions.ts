/** What a request asks of a resource before it changes it: HTTP's conditions, and ETags of the If header. */
import type { ChangeCondition, ObjectInfo } from "../../contract/store.ts";
import type { Exchange } from "../exchange.ts";
import { checkConditions, conditionsOf } from "../http-tools.ts";
import type { Validators } from "../http-tools.ts";
import { etagOf } from "../object-facts.ts";
import type { Call } from "./call.ts";
import { DavStatus } from "./dav-status.ts";
import { modifiedOf } from "./resources.ts";
import type { Resource } from "./resources.ts";

/** The If header of a request that held when it came. */
export interface IfHeader {
  /** Whether it says anything of the ETag of the file at a path. */
  namesEtagOf(path: string): boolean;
  /** Throws 412 unless it holds with this object at the path. */
  check(path: string, current: ObjectInfo | undefined): void;
}

/** Throws 412 where the request's conditions do not hold for what was found at its address. A folder has no ETag. */
export function checkResource(exchange: Exchange, found: Resource | undefined): void {
  check(exchange, found?.kind === "folder" ? {} : found && validatorsOf(found.info));
}

/** The same for the moment at which the file is changed; undefined where the request asks nothing of it. */
export function changeCondition({ exchange, path }: Call, ifHeader: IfHeader | undefined): ChangeCondition | undefined {
  const { ifMatch, ifNoneMatch, ifUnmodifiedSince } = conditionsOf(exchange);
  const asks = [ifMatch, ifNoneMatch, ifUnmodifiedSince].some((header) => header !== undefined);
  if (!asks && !ifHeader?.namesEtagOf(path)) return undefined;
  return (current) => {
    check(exchange, current && validatorsOf(current));
    ifHeader?.check(path, current);
  };
}

function check(exchange: Exchange, target: Validators | undefined): void {
  if (checkConditions(conditionsOf(exchange), target, false) !== "go") {
    throw new DavStatus(412, "a condition of the request does not hold");
  }
}

function validatorsOf(info: ObjectInfo): Validators {
  return { etag: `"${etagOf(info)}"`, modifiedMs: modifiedOf(info) };
}
