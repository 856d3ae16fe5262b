/** Writing a file that the user named. */
import { writeFile } from "node:fs/promises";
import { InputError } from "../ir/errors.ts";

/** @throws InputError with the system's reason. */
export async function writeOutput(path: string, data: string | Uint8Array): Promise<void> {
  await writeFile(path, data).catch((cause: unknown) => {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
    throw new InputError(path, `cannot write: ${code}`, { cause });
  });
}
