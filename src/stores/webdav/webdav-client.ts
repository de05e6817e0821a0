/** Requests to a WebDAV server, with its login, and what its answers say went wrong. */
import type { Readable } from "node:stream";
import { HoldfastError } from "../../contract/errors.ts";
import { httpError } from "../../support/network-errors.ts";
import { HttpClient } from "../base/http-client.ts";
import type { HttpAnswer } from "../base/http-client.ts";
import { notFound } from "../base/operations.ts";
import { answerChallenge } from "./http-auth.ts";
import type { HttpAuth, HttpLogin } from "./http-auth.ts";

/** An error's text is read this far. */
const MAX_ERROR_BYTES = 4096;
/** A digest's nonce may expire; one this old is tried on a small request before a body that cannot be sent twice. */
const FRESH_LOGIN_MS = 30_000;

export type Answer = HttpAnswer;

interface Question {
  readonly method: string;
  /** Percent-encoded, beginning with `/`. */
  readonly path: string;
  readonly headers?: Record<string, string>;
  /** Text and bytes can be sent again; other bodies cannot. */
  readonly body?: string | Uint8Array | AsyncIterable<Uint8Array>;
  /** Statuses that the caller looks at; every other is thrown as an error. */
  readonly expect: readonly number[];
  readonly signal: AbortSignal | undefined;
  readonly held?: boolean;
}

/** Requests to one server: logging in, errors, no redirects. */
export class WebdavClient {
  readonly origin: string;
  readonly #http: HttpClient;
  readonly #login: HttpLogin | undefined;
  #auth: HttpAuth | undefined;
  #freshUntil = 0;

  constructor(http: HttpClient, login: HttpLogin | undefined) {
    this.origin = http.origin;
    this.#http = http;
    this.#login = login;
  }

  /** Sends a request; rejects unless the status is one of those expected. The answer's body is the caller's to read. */
  async send(question: Question): Promise<Answer> {
    const repeatable =
      question.body === undefined || typeof question.body === "string" || question.body instanceof Uint8Array;
    for (let attempt = 1; ; attempt++) {
      const { method, path, body, signal, held } = question;
      const headers = {
        "user-agent": "holdfast",
        ...(this.#auth ? { authorization: this.#auth.header(method, path) } : {}),
        ...question.headers,
      };
      const answer = await this.#http.send({ method, path, headers, body, signal, held });
      if (answer.status !== 401) this.#freshUntil = Date.now() + FRESH_LOGIN_MS;
      if (question.expect.includes(answer.status)) return answer;
      if (answer.status === 401 && this.#login && attempt <= 2) {
        // A second 401 has a new nonce in it, or the password is wrong.
        const auth = answerChallenge(headerOf(answer, "www-authenticate"), this.#login);
        if (auth && (attempt === 1 || isStale(answer)) && repeatable) {
          await discard(answer);
          this.#auth = auth;
          continue;
        }
      }
      throw await statusError(answer, question, this.origin);
    }
  }

  /** Makes sure that a request with a body that cannot be sent twice will not be asked for a password first. */
  async prepare(path: string, signal: AbortSignal | undefined): Promise<void> {
    if (!this.#login || Date.now() < this.#freshUntil) return;
    await discard(await this.send({ method: "OPTIONS", path, expect: [200, 204, 404, 405, 501], signal }));
  }

  close(): void {
    this.#http.close();
  }
}

/** A header's text; of one that came several times, all of them. */
export function headerOf(answer: Answer, name: string): string {
  const value: unknown = answer.headers[name];
  if (Array.isArray(value)) return value.join(", ");
  return typeof value === "string" ? value : "";
}

function isStale(answer: Answer): boolean {
  return /stale\s*=\s*"?true/iu.test(headerOf(answer, "www-authenticate"));
}

/** Reads an answer to its end, so that its connection can be used again, but not for ever. */
export async function discard(answer: Answer): Promise<void> {
  await readSome(answer.body, MAX_ERROR_BYTES);
}

async function readSome(body: Readable, limit: number): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of body) {
      const bytes = chunk as Buffer;
      size += bytes.length;
      chunks.push(bytes);
      if (size > limit) break;
    }
  } catch {
    // The status has said what there is to say.
  } finally {
    body.destroy();
  }
  return Buffer.concat(chunks).subarray(0, limit).toString("utf8");
}

/** What the statuses mean here, where they do not tell by themselves. */
const meanings: Readonly<Record<number, string>> = {
  400: "it does not take this",
  401: "it does not accept the user name and password",
  403: "it is not permitted",
  405: "it cannot do that here",
  407: "the proxy does not accept the user name and password",
  413: "it does not take this",
  414: "it does not take this",
  422: "it does not take this",
  423: "it is locked by another",
  431: "it does not take this",
  501: "it cannot do that here",
  507: "no space is left",
};

export async function statusError(answer: Answer, question: Question, origin: string): Promise<HoldfastError> {
  await discard(answer);
  const { status } = answer;
  const said = `${origin} answered ${status} to ${question.method}`;
  if (status === 404 || status === 410) return notFound();
  if (status >= 300 && status < 400) {
    return new HoldfastError(
      "config",
      `${said}: it redirects elsewhere (${place(answer, origin)}), which is not followed`,
    );
  }
  const message = meanings[status] === undefined ? said : `${said}: ${meanings[status]}`;
  const error = httpError({ status, message, retryAfter: answer.headers["retry-after"], nowMs: Date.now() });
  // A lock passes, and is nothing that stands in the way of an object.
  return status === 423 ? new HoldfastError("unavailable", message, { retryAfterMs: error.retryAfterMs }) : error;
}

/** Where a redirect leads to: the origin alone, as the rest may hold what is not to be shown. */
export function place(answer: Answer, origin: string): string {
  try {
    const target = new URL(headerOf(answer, "location"), origin);
    return target.origin === origin ? "on the same server" : target.origin;
  } catch {
    return "nowhere";
  }
}
