/**
 * Servers that go wrong on purpose, in front of real ones.
 *
 * TCP, for every protocol:
 *
 * ```ts
 * const proxy = await startTcpFaults({ port: 22 });              // target: 127.0.0.1:22
 * proxy.fault = { kind: "reset", afterDown: 1000 };              // for connections made from now on
 * proxy.fault = { kind: "black-hole", afterUp: 50 };             // takes everything, answers nothing
 * proxy.fault = { kind: "trickle", bytesPerSecond: 1 };
 * proxy.fault = { kind: "slow", bytesPerSecond: 1_000_000 };
 * proxy.cut();                                                   // a server that drops its idle connections
 * await proxy.close();
 * ```
 *
 * HTTP, request by request (rules are tried in order; the first whose `times` are not used up is taken):
 *
 * ```ts
 * const proxy = await startHttpFaults({ target: "http://127.0.0.1:9000" });
 * proxy.add({ method: "PUT", times: 2, fault: { kind: "respond", status: 503, headers: { "retry-after": "2" } } });
 * proxy.add({ path: /part/u, nth: 3, fault: { kind: "truncate", byte: 100 } });
 * proxy.add({ fault: { kind: "answer", with: (request) => ({ status: 200, body: endlessPage(request.url) }) } });
 * expect(proxy.requests.at(-1)?.headers.authorization).toBeUndefined();
 * proxy.clear();
 * ```
 *
 * Without a target, what no rule answers gets a 502. With `tls` both speak TLS to the client (and plain to the target);
 * `makeCertificates()` has certificates to be refused: expired, self-signed, for another host; and a good one with its CA.
 *
 * Both listen on 127.0.0.1 at a free port. `close()` ends every connection.
 */
export { makeCertificates } from "./certificates.ts";
export type { Certificate, Certificates } from "./certificates.ts";
export { startHttpFaults } from "./http.ts";
export type { Answer, HttpFault, HttpFaultProxy, HttpFaultRule, SeenRequest } from "./http.ts";
export { startTcpFaults } from "./tcp.ts";
export type { TcpFault, TcpFaultProxy } from "./tcp.ts";
