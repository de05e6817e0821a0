/** Answers that tell of several resources (RFC 4918, 13). */
import { STATUS_CODES } from "node:http";
import { setImmediate } from "node:timers/promises";
import { encodePath } from "../../support/signature-v4.ts";
import { escapeXml } from "../../support/xml.ts";
import type { Exchange } from "../exchange.ts";
import { send, sendStream } from "../http-tools.ts";
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

/** Characters of an answer that are made at a time. */
const PIECE_CHARS = 64 * 1024;

/** The same for a folder of any size: made and sent in pieces, between which others are served. */
export async function streamMultistatus<T>(
  exchange: Exchange,
  resources: readonly T[],
  response: (resource: T) => string,
): Promise<void> {
  async function* pieces(): AsyncGenerator<Uint8Array> {
    let text = `${PROLOG}<D:multistatus xmlns:D="DAV:">`;
    for (const resource of resources) {
      text += response(resource);
      if (text.length < PIECE_CHARS) continue;
      yield Buffer.from(text);
      text = "";
      await setImmediate();
    }
    yield Buffer.from(`${text}</D:multistatus>`);
  }
  await sendStream(exchange, 207, { "Content-Type": 'application/xml; charset="utf-8"' }, pieces());
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
