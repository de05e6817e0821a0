/** Answers of the S3 gateway: whole documents, and those that are begun before their content is known. */
import type { Exchange } from "../exchange.ts";
import { send } from "../http-tools.ts";
import { toS3Error } from "./s3-error.ts";
import type { S3Error } from "./s3-error.ts";
import { tag, xmlDocument } from "./xml.ts";

/** Completing an upload or copying sends a space each time this has passed, so that nobody thinks the line is dead. */
const KEEP_ALIVE_MS = 10_000;

/** The owner of everything. */
export const OWNER_ID = "holdfast";
export const OWNER = tag("ID", OWNER_ID) + tag("DisplayName", OWNER_ID);

export function sendXml(exchange: Exchange, root: string, content: string): void {
  send(exchange, 200, { "Content-Type": "application/xml" }, xmlDocument(root, content));
}

/**
 * Runs `work`, which gives the content of the answer. When it takes long, the answer begins before it is known, with
 * spaces that keep the line open; an error then stands in an answer with status 200, as S3's clients expect.
 */
export async function withKeepAlive(exchange: Exchange, root: string, work: () => Promise<string>): Promise<void> {
  const { response } = exchange;
  let begun = false;
  const timer = setInterval(() => {
    if (!begun) {
      response.writeHead(200, { "Content-Type": "application/xml" });
      response.write('<?xml version="1.0" encoding="UTF-8"?>\n');
      begun = true;
    }
    response.write(" ");
  }, KEEP_ALIVE_MS);
  try {
    const content = await work();
    clearInterval(timer);
    if (begun) response.end(xmlDocument(root, content).replace(/^.*\n/u, ""));
    else sendXml(exchange, root, content);
  } catch (error) {
    if (!begun) throw error;
    exchange.failed(error);
    response.end(`<Error>${errorTags(toS3Error(error))}${tag("RequestId", exchange.id)}</Error>`);
  } finally {
    clearInterval(timer);
  }
}

export function errorTags(error: S3Error): string {
  return tag("Code", error.s3Code) + tag("Message", error.message);
}

/** A time in whole seconds, as the header Last-Modified has it too: clients compare the two. */
export function isoDate(ms: number): string {
  return new Date(Math.floor(ms / 1000) * 1000).toISOString();
}
