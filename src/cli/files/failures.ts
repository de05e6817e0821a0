/** Failures in a run over many objects or files: each is said, and the run goes on without it. */
import { isHoldfastError, toHoldfastError } from "../../contract/errors.ts";
import type { HoldfastError, Operation } from "../../contract/errors.ts";
import type { CommandContext } from "../context.ts";

export class Failures {
  readonly #context: CommandContext;
  readonly #operation: Operation;
  #count = 0;

  /** `operation` is what each error is said to have happened in. */
  constructor(context: CommandContext, operation: Operation) {
    this.#context = context;
    this.#operation = operation;
  }

  get count(): number {
    return this.#count;
  }

  /** Says that an object failed, and makes the run a failed one. Throws the error of a run that was stopped. */
  async add(object: string, error: unknown): Promise<void> {
    if (isHoldfastError(error, "aborted")) throw error;
    const failure = toHoldfastError(error).within({ operation: this.#operation, object });
    this.#count++;
    this.#context.outcome.failed();
    await this.#context.printer.error(failure);
  }

  /** Says an error that is no single object's. */
  async tell(error: HoldfastError): Promise<void> {
    this.#context.outcome.error(error);
    await this.#context.printer.error(error);
  }
}
