/** Makes the page and the chart from results. */
import { describeFigures } from "./bench.ts";
import type { Report, Result } from "./bench.ts";

const BEGIN = "<!-- results: made by `npm run bench -- --report` -->";
const END = "<!-- end of results -->";
const FIGURES = { wallMs: "time", cpuMs: "CPU", peakBytes: "memory", firstMs: "time to the first line" } as const;

function table(rows: readonly (readonly string[])[]): string {
  const [head = [], ...rest] = rows;
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rest.map(line)].join("\n");
}

/** The page with its part of results made anew; what is written around it stays. */
export function writePage(report: Report, page: string): string {
  const [before = "", rest = ""] = page.split(BEGIN);
  const after = rest.split(END)[1] ?? "";
  const rows: string[][] = [["work", "Holdfast", "beside", "took", "ratio", "goal", ""]];
  for (const result of report.results) rows.push(...rowsOf(result));
  const made = [
    "",
    "### The machine",
    "",
    table([["", ""], ...Object.entries(report.machine).map(([name, value]) => [name, value])]),
    "",
    ...report.leftOut.map((line) => `Left out: ${line}.\n`),
    "### The ratios",
    "",
    table(rows),
    "",
  ].join("\n");
  return `${before}${BEGIN}\n${made}\n${END}${after}`;
}

function rowsOf(result: Result): string[][] {
  const own = result.contenders[result.subject];
  const taken = own === undefined ? "" : typeof own === "string" ? own : describeFigures(own);
  const rows: string[][] = [];
  const left = (): string[] => (rows.length === 0 ? [`**${result.title}**`, taken] : ["", ""]);
  const met = (value: boolean | null): string => (value === null ? "" : value ? "met" : "**missed**");
  /** What the least possible work reaches of a goal, where that is not the goal either. */
  const reachable = (other: string, goal: number | null): string => {
    const [theirs, least] = [result.contenders[other], result.contenders["limit"]];
    if (goal === null || typeof theirs !== "object" || typeof least !== "object" || other === "limit") return "";
    if (theirs.wallMs === undefined || least.wallMs === undefined) return "";
    const ratio = theirs.wallMs / least.wallMs;
    return ratio < goal ? `; the limit itself has ${ratio.toFixed(2)}` : "";
  };
  for (const { other, figure, ratio, goal, met: isMet } of result.ratios) {
    const theirs = result.contenders[other];
    if (theirs === undefined) continue;
    const what = figure === "wallMs" ? other : `${other}: ${FIGURES[figure]}`;
    const took = typeof theirs === "string" ? theirs : describeFigures(theirs);
    rows.push([
      ...left(),
      what,
      took,
      ratio === null ? "–" : ratio.toFixed(2),
      goal === null ? "" : `≥ ${goal}`,
      `${met(isMet)}${isMet === false ? reachable(other, goal) : ""}`,
    ]);
  }
  const compared = new Set([result.subject, ...result.ratios.map((one) => one.other)]);
  for (const [name, figures] of Object.entries(result.contenders)) {
    if (compared.has(name)) continue;
    const took =
      figures === "wrong" ? "gives wrong bytes" : typeof figures === "string" ? figures : describeFigures(figures);
    rows.push([...left(), name, took, "", "", ""]);
  }
  for (const { words, value, met: isMet } of result.bounds) {
    rows.push([...left(), words, "", value.toFixed(value < 10 ? 2 : 0), "", words.includes("goal") ? met(isMet) : ""]);
  }
  return rows;
}

const PEERS = [
  ["limit", "#888888", "the limit"],
  ["rclone union", "#d98032", "rclone union"],
  ["duplicity multi", "#3f7fbf", "duplicity's multi backend"],
] as const;
const [LEAST, MOST] = [0.1, 100];

/** Bars of how many times as fast as others Holdfast was, on a logarithmic scale. */
export function writeChart(report: Report): string {
  const results = report.results.filter((result) =>
    result.ratios.some(
      (one) => one.figure === "wallMs" && one.ratio !== null && PEERS.some(([name]) => name === one.other),
    ),
  );
  const [left, width, bar, gap, top] = [400, 560, 9, 12, 54];
  const x = (ratio: number): number => {
    const share = Math.log(Math.min(MOST, Math.max(LEAST, ratio)) / LEAST) / Math.log(MOST / LEAST);
    return Math.round(left + share * width);
  };
  const shapes: string[] = [];
  let y = top;
  const text = (at: number, line: number, words: string, more = ""): string =>
    `<text x="${at}" y="${line}" ${more}>${words.replaceAll("&", "&amp;").replaceAll("<", "&lt;")}</text>`;
  for (const result of results) {
    const start = y;
    for (const [name, colour] of PEERS) {
      const ratio = result.ratios.find((one) => one.other === name && one.figure === "wallMs")?.ratio ?? null;
      if (ratio === null) continue;
      const [from, to] = [Math.min(x(1), x(ratio)), Math.max(x(1), x(ratio))];
      shapes.push(
        `<rect x="${from}" y="${y}" width="${Math.max(1, to - from)}" height="${bar - 1}" fill="${colour}"/>`,
      );
      shapes.push(text(to + 4, y + bar - 2, ratio.toFixed(ratio < 10 ? 2 : 0), 'font-size="8"'));
      y += bar;
    }
    shapes.push(text(left - 8, (start + y) / 2 + 3, result.title, 'text-anchor="end"'));
    y += gap;
  }
  const marks = [0.1, 0.3, 1, 3, 10, 30, 100].map(
    (ratio) =>
      `<line x1="${x(ratio)}" x2="${x(ratio)}" y1="${top - 8}" y2="${y}" stroke="${ratio === 1 ? "#000000" : "#dddddd"}"/>` +
      text(x(ratio), top - 12, `${ratio}×`, 'text-anchor="middle"'),
  );
  const legend = PEERS.map(
    ([, colour, title], index) =>
      `<rect x="${left + index * 190}" y="12" width="10" height="10" fill="${colour}"/>` +
      text(left + 14 + index * 190, 21, `beside ${title}`),
  );
  const size = `width="${left + width + 50}" height="${y + 10}" viewBox="0 0 ${left + width + 50} ${y + 10}"`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" ${size} font-family="sans-serif" font-size="10">`,
    `<title>How many times as fast as others Holdfast was</title>`,
    `<rect width="100%" height="100%" fill="#ffffff"/>`,
    ...legend,
    ...marks,
    ...shapes,
    "</svg>\n",
  ].join("\n");
}
