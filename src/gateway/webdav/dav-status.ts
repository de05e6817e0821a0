/** Answers of the WebDAV gateway other than success. */
import { ClientError } from "../http-tools.ts";

/** An answer other than success, thrown. */
export class DavStatus extends ClientError {
  readonly status: number;
  /** Name of the DAV: element that says which condition failed. */
  readonly condition: string | undefined;

  constructor(status: number, message: string, condition?: string) {
    super(status === 404 ? "not-found" : "invalid", message);
    this.status = status;
    this.condition = condition;
  }
}
