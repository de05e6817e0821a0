/** Every store over HTTP makes the same of these answers: the status, the error's code, and whether it may be tried again. */
export const HTTP_STATUSES = [
  [401, "denied", false],
  [403, "denied", false],
  [429, "throttled", true],
  [500, "unavailable", true],
  [502, "unavailable", true],
  [503, "unavailable", true],
  [507, "full", false],
] as const;
