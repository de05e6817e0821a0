/** Text for use in XML. Characters that XML cannot carry are written as references, as S3 does. */
export function escapeXml(text: string): string {
  return text
    .replace(/[&<>"\r]/gu, (character) => {
      switch (character) {
        case "&":
          return "&amp;";
        case "<":
          return "&lt;";
        case ">":
          return "&gt;";
        case '"':
          return "&quot;";
        default:
          return "&#13;";
      }
    })
    .replace(
      // oxlint-disable-next-line no-control-regex -- these are what is looked for
      /[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/gu,
      (character) => `&#x${character.charCodeAt(0).toString(16)};`,
    );
}
