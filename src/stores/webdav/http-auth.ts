/** Logging in over HTTP: Basic (RFC 7617) and Digest (RFC 7616). */
import { createHash, randomBytes } from "node:crypto";

export interface HttpLogin {
  readonly user: string;
  readonly password: string;
}

interface Challenge {
  readonly scheme: string;
  readonly parameters: ReadonlyMap<string, string>;
}

/** The way to log in that a server asked for; gives each request its Authorization header. */
export interface HttpAuth {
  header(method: string, path: string): string;
}

/**
 * The way to log in after a 401 with this `WWW-Authenticate` header: Digest where the server offers one that is
 * known, else Basic, else undefined.
 */
export function answerChallenge(header: string, login: HttpLogin): HttpAuth | undefined {
  const challenges = parseChallenges(header);
  for (const algorithm of ["SHA-256", "MD5"]) {
    const digest = challenges.find(
      ({ scheme, parameters }) =>
        scheme === "digest" &&
        (parameters.get("algorithm") ?? "MD5").toUpperCase() === algorithm &&
        (parameters.get("qop") ?? "auth").split(/\s*,\s*/u).includes("auth"),
    );
    if (digest) return digestAuth(digest.parameters, algorithm === "MD5" ? "md5" : "sha256", login);
  }
  return challenges.some(({ scheme }) => scheme === "basic") ? basicAuth(login) : undefined;
}

export function basicAuth(login: HttpLogin): HttpAuth {
  const value = `Basic ${Buffer.from(`${login.user}:${login.password}`).toString("base64")}`;
  return { header: () => value };
}

function digestAuth(parameters: ReadonlyMap<string, string>, hash: "md5" | "sha256", login: HttpLogin): HttpAuth {
  const digest = (text: string): string => createHash(hash).update(text).digest("hex");
  const realm = parameters.get("realm") ?? "";
  const nonce = parameters.get("nonce") ?? "";
  const opaque = parameters.get("opaque");
  const algorithm = parameters.get("algorithm");
  const hasQop = parameters.has("qop");
  const secret = digest(`${login.user}:${realm}:${login.password}`);
  let count = 0;
  return {
    header(method, path) {
      const nc = (++count).toString(16).padStart(8, "0");
      const cnonce = randomBytes(16).toString("hex");
      const request = digest(`${method}:${path}`);
      const response = digest(
        hasQop ? `${secret}:${nonce}:${nc}:${cnonce}:auth:${request}` : `${secret}:${nonce}:${request}`,
      );
      return [
        `Digest username=${quote(login.user)}, realm=${quote(realm)}, nonce=${quote(nonce)}, uri=${quote(path)}`,
        `response="${response}"`,
        ...(algorithm === undefined ? [] : [`algorithm=${algorithm}`]),
        ...(hasQop ? [`qop=auth, nc=${nc}, cnonce="${cnonce}"`] : []),
        ...(opaque === undefined ? [] : [`opaque=${quote(opaque)}`]),
      ].join(", ");
    },
  };
}

function quote(text: string): string {
  return `"${text.replace(/["\\]/gu, "\\$&")}"`;
}

/** `Basic realm="a", Digest realm="b", nonce="c"` as its challenges. */
function parseChallenges(header: string): Challenge[] {
  const found: { scheme: string; parameters: Map<string, string> }[] = [];
  const token = /\s*,?\s*([A-Za-z][\w.~+-]*)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+)))?/gy;
  for (let match = token.exec(header); match; match = token.exec(header)) {
    const [, name = "", quoted, plain] = match;
    if (quoted === undefined && plain === undefined) found.push({ scheme: name.toLowerCase(), parameters: new Map() });
    else found.at(-1)?.parameters.set(name.toLowerCase(), quoted?.replace(/\\(.)/gu, "$1") ?? plain ?? "");
  }
  return found;
}
