/**
 * Goes through all runs of a scenario, depth first, each time from the beginning.
 *
 * A run is given up where it comes to a state that was explored before, and where its next step was explored before in
 * another order that makes no difference: see docs/decisions/0003-exhaustive-check.md for why nothing is missed.
 */
import { Violation } from "../world.ts";
import { conflict } from "./actors.ts";
import type { Touch } from "./actors.ts";
import { Execution } from "./execution.ts";
import type { Reduction } from "./execution.ts";
import { layGround } from "./ground.ts";
import type { Ground } from "./ground.ts";
import { judge } from "./judge.ts";
import type { Kind, Wrong } from "./judge.ts";
import type { Scenario } from "./scenario.ts";
import type { Step } from "./step.ts";

export interface Limits {
  /** How often, in one run, another machine may go on while the one before it could have. Default: without limit. */
  readonly preemptions?: number | undefined;
  /** The same, where it counts only if the one before it had been answered a part of the calls that it made at once. */
  readonly splits?: number | undefined;
  /** Of the processor: where other work is done beside it, the same limit leads as far. */
  readonly seconds?: number | undefined;
  /** Kinds of wrong ends that are looked for. Default all. */
  readonly kinds?: ReadonlySet<Kind> | undefined;
  /** End with the first wrong end. */
  readonly first?: boolean | undefined;
  /** Leave nothing out but what was explored before: to see that what is left out otherwise makes no difference. */
  readonly plain?: boolean | undefined;
}

/** What is wrong at the end of a run, and the choices that led there. */
export interface Found extends Wrong {
  readonly choices: string;
  /** States that had been seen when it was found. */
  readonly afterStates: number;
}

export interface Summary {
  readonly scenario: string;
  readonly states: number;
  readonly executions: number;
  /** Steps that were explored: from a state, for the first time. */
  readonly transitions: number;
  /** Runs that were given up at a state that was explored before. */
  readonly met: number;
  /** Steps that were left out because another order of the same steps was explored. */
  readonly slept: number;
  /** Different ends. */
  readonly ends: number;
  /** Digests of what stands on the stores in the end and what was told, whatever ended before what. */
  readonly outcomes: ReadonlySet<string>;
  /** Ends, by what is wrong with them. */
  readonly wrong: Readonly<Partial<Record<Kind, number>>>;
  readonly complete: boolean;
  /** Of the processor. */
  readonly seconds: number;
  readonly found: readonly Found[];
}

/** A step that has been explored from a state, or from one before it since which nothing has happened that matters to it. */
interface Explored {
  readonly id: string;
  readonly agent: number;
  readonly machine: number;
  touches: readonly Touch[];
  readonly begins: boolean;
  /** It ended an operation. */
  ended: boolean;
  /** It changed what the processes of its machine share. */
  shared: boolean;
}

/** A state on the path that is being explored. */
interface Node {
  /** What is yet to be explored, the next one last. */
  readonly todo: Explored[];
  current: Explored;
  readonly asleep: readonly Explored[];
  readonly done: Explored[];
  /** Whose step led here, and whether it counts when another one goes on in its place. */
  readonly lastAgent: number;
  readonly counts: boolean;
  /** How often that may still be. */
  readonly switches: number;
}

/** A run in which something changed that is taken to be written once: what was left out because of that must be explored. */
class Distrust extends Error {}

export async function explore(scenario: Scenario, limits: Limits = {}): Promise<Summary> {
  const ground = await layGround(scenario);
  try {
    return await new Search(scenario, ground, limits, limits.plain === true ? "none" : "trusting").run();
  } catch (error) {
    if (!(error instanceof Distrust)) throw error;
    return new Search(scenario, ground, limits, "wary").run();
  }
}

/** Runs one list of choices, and gives its trace and what is wrong with its end. */
export async function replay(
  scenario: Scenario,
  choices: string,
): Promise<{ readonly trace: readonly string[]; readonly wrongs: readonly Wrong[]; readonly execution: Execution }> {
  const ground = await layGround(scenario);
  const [first = ""] = choices;
  const execution = new Execution(scenario, ground, REDUCTIONS[first] ?? "trusting", true);
  await execution.begin();
  for (const id of choices.replace(/^[*!]/u, "").split(".").filter(Boolean)) {
    const step = execution.options().find((one) => one.id === id);
    if (step === undefined)
      throw new Error(
        `${id} is none of ${execution
          .options()
          .map((one) => one.id)
          .join(", ")}`,
      );
    await execution.take(step);
  }
  const wrongs = execution.options().length > 0 ? [] : await wrongsOf(execution);
  return { trace: execution.trace, wrongs, execution };
}

async function wrongsOf(execution: Execution): Promise<readonly Wrong[]> {
  const { failure, scenario, deeds } = execution;
  if (failure instanceof Violation) return [{ kind: "ends", message: failure.message }];
  if (failure !== undefined) return [{ kind: "internal", message: failure.stack ?? failure.message }];
  if (execution.isStuck) return [{ kind: "ends", message: "an operation waits for what will never happen" }];
  return judge({ scenario, deeds, disks: execution.disks.map(({ objects }) => objects) });
}

class Search {
  readonly #scenario: Scenario;
  readonly #ground: Ground;
  readonly #limits: Limits;
  readonly #reduction: Reduction;
  readonly #path: Node[] = [];
  /** States that were met, with the steps that have not been explored from them, or how many switches were left. */
  readonly #seen = new Map<string, readonly string[] | number>();
  readonly #outcomes = new Set<string>();
  readonly #judged = new Map<string, readonly Wrong[]>();
  readonly #found = new Map<Kind, Found>();
  readonly #wrong: Partial<Record<Kind, number>> = {};
  readonly #started = process.cpuUsage();
  #executions = 0;
  #transitions = 0;
  #met = 0;
  #slept = 0;

  constructor(scenario: Scenario, ground: Ground, limits: Limits, reduction: Reduction) {
    this.#scenario = scenario;
    this.#ground = ground;
    this.#limits = limits;
    this.#reduction = reduction;
  }

  async run(): Promise<Summary> {
    let complete = true;
    do {
      if (this.#isOver()) {
        complete = false;
        break;
      }
      await this.#execute();
    } while (this.#advance());
    return {
      scenario: this.#scenario.name,
      states: this.#seen.size,
      executions: this.#executions,
      transitions: this.#transitions,
      met: this.#met,
      slept: this.#slept,
      ends: this.#judged.size,
      outcomes: this.#outcomes,
      wrong: this.#wrong,
      complete,
      seconds: Math.round(this.#seconds * 10) / 10,
      found: [...this.#found.values()],
    };
  }

  #isOver(): boolean {
    const { seconds, first } = this.#limits;
    if (first === true && this.#found.size > 0) return true;
    return seconds !== undefined && this.#seconds > seconds;
  }

  get #seconds(): number {
    const { user, system } = process.cpuUsage(this.#started);
    return (user + system) / 1_000_000;
  }

  get #isBounded(): boolean {
    return this.#most !== undefined;
  }

  get #most(): number | undefined {
    return this.#limits.preemptions ?? this.#limits.splits;
  }

  /** One run: as far as the path leads, and on to an end. */
  async #execute(): Promise<void> {
    this.#executions++;
    const execution = new Execution(this.#scenario, this.#ground, this.#reduction);
    await execution.begin();
    for (const node of this.#path.slice(0, -1)) await execution.take(pick(execution, node.current.id));
    let node = this.#path.at(-1);
    for (;;) {
      const asleep = node === undefined ? [] : await this.#step(execution, node);
      if (execution.hasRewritten && this.#reduction === "trusting") throw new Distrust();
      const options = execution.options();
      if (options.length === 0) return this.#end(execution);
      node = this.#open(execution, options, asleep, node);
      if (node === undefined) return;
      this.#path.push(node);
    }
  }

  /** Takes the node's current step. Gives what sleeps behind it. */
  async #step(execution: Execution, { current, asleep, done }: Node): Promise<readonly Explored[]> {
    this.#transitions++;
    await execution.take(pick(execution, current.id));
    current.ended = execution.hasEnded;
    current.shared = execution.hasShared;
    if (execution.isBound) {
      // It goes together with what its machine does next.
      current.touches = execution.options().flatMap(({ touches }) => touches);
      current.ended = true;
    }
    if (this.#reduction === "none") return [];
    return [...asleep, ...done].filter((other) => areIndependent(other, current));
  }

  /** A state that was come to. Undefined: nothing is left to explore from it. */
  #open(
    execution: Execution,
    options: readonly Step[],
    asleep: readonly Explored[],
    from: Node | undefined,
  ): Node | undefined {
    const lastAgent = from?.current.agent ?? -1;
    const counts =
      options.some(({ agent }) => agent === lastAgent) &&
      (this.#limits.preemptions !== undefined || execution.isMidBatch(lastAgent));
    const switches = switchesLeft(from, this.#most ?? 0);
    const todo = this.#isBounded
      ? this.#unseenWithin(`${execution.key()} ${lastAgent}`, options, switches, counts ? lastAgent : undefined)
      : this.#unseen(execution.key(), options, asleep);
    if (todo.length === 0) return undefined;
    // Whoever went on before goes on first.
    const inOrder = [...todo].sort((a, b) => Number(b.agent === lastAgent) - Number(a.agent === lastAgent));
    const explored = inOrder.reverse().map(exploredOf);
    const current = explored.pop();
    if (current === undefined) return undefined;
    return { todo: explored, current, asleep, done: [], lastAgent, counts, switches };
  }

  /** The steps that have to be explored from a state. */
  #unseen(key: string, options: readonly Step[], asleep: readonly Explored[]): readonly Step[] {
    const seen = this.#seen.get(key) as readonly string[] | undefined;
    const sleeping = new Set(asleep.map(({ id }) => id));
    // What slept when the state was met before, and does not sleep now.
    const todo = options.filter(({ id }) => !sleeping.has(id) && (seen?.includes(id) ?? true));
    const left = [...sleeping].filter((id) => seen?.includes(id) ?? true);
    this.#seen.set(key, left.length === 0 ? NONE : left);
    if (seen === undefined) this.#slept += options.length - todo.length;
    else if (todo.length === 0) this.#met++;
    return todo;
  }

  /**
   * The same where switches are counted. Nothing sleeps then: the order that was explored may have taken more of them.
   * `bound`: who has to go on when no switch is left.
   */
  #unseenWithin(key: string, options: readonly Step[], switches: number, bound: number | undefined): readonly Step[] {
    const seen = this.#seen.get(key) as number | undefined;
    if (seen !== undefined && seen >= switches) {
      this.#met++;
      return [];
    }
    this.#seen.set(key, switches);
    return options.filter(({ agent }) => switches > 0 || bound === undefined || agent === bound);
  }

  /** Goes back to the last state from which something is left to explore. False: there is none. */
  #advance(): boolean {
    for (let node = this.#path.at(-1); node !== undefined; node = this.#path.at(-1)) {
      if (!this.#isBounded) node.done.push(node.current);
      const next = node.todo.pop();
      if (next !== undefined) {
        node.current = next;
        return true;
      }
      this.#path.pop();
    }
    return false;
  }

  async #end(execution: Execution): Promise<void> {
    const key = execution.failure === undefined && !execution.isStuck ? execution.endKey(true) : execution.key();
    let wrongs = this.#judged.get(key);
    if (wrongs === undefined) {
      const { kinds } = this.#limits;
      wrongs = (await wrongsOf(execution)).filter(({ kind }) => kinds?.has(kind) ?? true);
      this.#judged.set(key, wrongs);
      for (const kind of new Set(wrongs.map((wrong) => wrong.kind))) this.#wrong[kind] = (this.#wrong[kind] ?? 0) + 1;
    }
    this.#outcomes.add(execution.endKey(false));
    for (const wrong of wrongs) {
      const choices = markOf(this.#reduction) + this.#path.map(({ current }) => current.id).join(".");
      const known = this.#found.get(wrong.kind);
      if (known !== undefined && known.choices.length <= choices.length) continue;
      this.#found.set(wrong.kind, { ...wrong, choices, afterStates: known?.afterStates ?? this.#seen.size });
    }
  }
}

const NONE: readonly string[] = [];
/** How a list of choices says how they came about. */
const REDUCTIONS: Readonly<Record<string, Reduction>> = { "!": "none", "*": "wary" };

function markOf(reduction: Reduction): string {
  return Object.entries(REDUCTIONS).find(([, of]) => of === reduction)?.[0] ?? "";
}

function exploredOf({ id, agent, machine, touches, begins }: Step): Explored {
  return { id, agent, machine, touches, begins, ended: false, shared: false };
}

function switchesLeft(from: Node | undefined, most: number): number {
  if (from === undefined) return most;
  return from.switches - (from.counts && from.current.agent !== from.lastAgent ? 1 : 0);
}

function pick(execution: Execution, id: string): Step {
  const options = execution.options();
  const step = options.find((one) => one.id === id);
  // The same choices lead to the same state: what a process does depends on what it was told alone.
  if (step === undefined) throw new Error(`${id} is none of ${options.map((one) => one.id).join(", ")}`);
  return step;
}

/** Whether two steps of different processes come to the same in either order. */
function areIndependent(a: Explored, b: Explored): boolean {
  if (a.agent === b.agent || (a.begins && b.ended) || (b.begins && a.ended)) return false;
  if (a.machine === b.machine && (a.shared || b.shared)) return false;
  return !a.touches.some((one) => b.touches.some((other) => conflict(one, other)));
}
