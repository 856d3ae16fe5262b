/**
 * Byte-level tokens: in tokenizer.json each byte of a token is written as one printable character, so that any bytes fit in
 * JSON. Printable ASCII and most of Latin-1 stand for themselves, the other 68 bytes for U+0100 and up, in order.
 */

const charOfByte: readonly string[] = makeChars();
const byteOfChar: ReadonlyMap<string, number> = new Map(charOfByte.map((char, byte) => [char, byte]));

/** The character that stands for this byte. */
export function byteToChar(byte: number): string {
  return charOfByte[byte]!;
}

/** The bytes a token stands for; undefined when it has a character that stands for no byte. */
export function bytesOfToken(token: string): Uint8Array | undefined {
  const bytes: number[] = [];
  for (const char of token) {
    const byte = byteOfChar.get(char);
    if (byte === undefined) return undefined;
    bytes.push(byte);
  }
  return Uint8Array.from(bytes);
}

function makeChars(): string[] {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const itself = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    return String.fromCharCode(itself ? byte : next++);
  });
}
