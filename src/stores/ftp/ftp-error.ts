/** What an FTP server says went wrong, as an error of Holdfast. */
import { FTPError } from "basic-ftp";
import { HoldfastError } from "../../contract/errors.ts";

export function ftpError(error: FTPError, server: string): HoldfastError {
  const text = error.message.replace(/\s+/gu, " ").trim();
  const make = (code: ConstructorParameters<typeof HoldfastError>[0]): HoldfastError =>
    new HoldfastError(code, `${server} answered: ${text}`, { cause: error });
  if (/no space|disk (?:is )?full|quota/iu.test(text)) return make("full");
  switch (error.code) {
    case 331:
    case 332:
    case 430:
    case 530:
    case 532:
      return make("denied");
    case 452:
    case 552:
      return make("full");
    case 500:
    case 502:
    case 504:
      return make("unsupported");
    case 501:
      return make("invalid");
    case 534:
    case 536:
    case 522:
      return make("config");
    case 550:
      return make(/permission|denied|not permitted|forbidden|not allowed/iu.test(text) ? "denied" : "not-found");
    case 553:
      return make(/permission|denied|not permitted|forbidden/iu.test(text) ? "denied" : "invalid");
    default:
      return make("unavailable");
  }
}
