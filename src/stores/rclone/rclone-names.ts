/** Names as rclone's interface takes and gives them. */

/** Characters that rclone shows as others, and the marks that it shows them as. */
const STAND_INS = /[\u2400-\u241f\u2421\uff0f\u201b]/gu;
// oxlint-disable-next-line no-control-regex -- these are what is encoded
const CONTROLS = /[\u0001-\u001f\u007f]/gu;

/**
 * A name as rclone's interface takes it: control characters stand as their symbols (U+2400 and on), and what looks like
 * such a symbol is quoted with U+201B. See "restricted filenames" in rclone's overview of its remotes.
 */
export function toRcloneName(name: string): string {
  return name
    .split("/")
    .map((part) => {
      if (part === "\uff0e" || part === "\uff0e\uff0e") return part.replaceAll("\uff0e", "\u201b\uff0e");
      return part
        .replace(STAND_INS, (mark) => `\u201b${mark}`)
        .replace(CONTROLS, (char) => (char === "\u007f" ? "\u2421" : String.fromCharCode(0x2400 + char.charCodeAt(0))));
    })
    .join("/");
}

/** The inverse of `toRcloneName`, for one part of a name. */
export function fromRclonePart(part: string): string {
  return part.replace(
    /\u201b([\u2400-\u241f\u2421\uff0f\uff0e\u201b])|([\u2401-\u241f\u2421])/gu,
    (_, quoted, mark) => {
      if (typeof quoted === "string") return quoted;
      return mark === "\u2421" ? "\u007f" : String.fromCharCode(String(mark).charCodeAt(0) - 0x2400);
    },
  );
}
