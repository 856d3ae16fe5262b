/** Files that the user names on the command line. `-` is stdin. */
import { readFile } from "node:fs/promises";
import { text } from "node:stream/consumers";
import { InputError } from "../ir/errors.ts";
import { decodeUtf8 } from "../runtime/weights/byte-source.ts";

/** The file as text. @throws InputError when it cannot be read, which `hint` explains, or is not UTF-8. */
export async function readText(path: string, hint?: string): Promise<string> {
  if (path === "-") return text(process.stdin);
  const bytes = await readFile(path).catch((cause: unknown) => {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
    throw new InputError(path, `cannot read: ${code}`, { cause, ...(hint && { hint }) });
  });
  return decodeUtf8(path, bytes);
}
