/** Answers that tell of several resources (RFC 4918, 13). */
import { STATUS_CODES } from "node:http";
import { encodePath } from "../../signature-v4.ts";
import { escapeXml } from "../../xml.ts";
import type { Exchange } from "../http-server.ts";
import { send } from "../http-tools.ts";
import { resourceOf } from "../object-facts.ts";
import type { DavStatus } from "./dav-status.ts";
import { PROLOG } from "./xml.ts";

export function sendMultistatus(exchange: Exchange, responses: readonly string[]): void {
  send(
    exchange,
    207,
    { "Content-Type": 'application/xml; charset="utf-8"' },
    `${PROLOG}<D:multistatus xmlns:D="DAV:">${responses.join("")}</D:multistatus>`,
  );
}

/** What a status element says. */
export function statusLine(status: number): string {
  return `<D:status>HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}</D:status>`;
}

/** What became of one object, by its name. */
export function problemResponse(name: string, problem: DavStatus): string {
  const { path, isFolder } = resourceOf(name);
  const condition = problem.condition === undefined ? "" : `<D:error><D:${problem.condition}/></D:error>`;
  return (
    `<D:response><D:href>${escapeXml(encodePath(`/${path}`) + (isFolder && path !== "" ? "/" : ""))}</D:href>` +
    `${statusLine(problem.status)}${condition}` +
    `<D:responsedescription>${escapeXml(problem.message)}</D:responsedescription></D:response>`
  );
}
