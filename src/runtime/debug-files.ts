/** Writes the files that DUMP and TRACE ask for, under Node; imported only there, as node-folder.ts is. */
import type { WriteFile } from "../compile-options.ts";
import { InputError, UnsupportedError } from "../ir/errors.ts";

/** A synchronous writer, since passes are; it makes the folders that a path needs. */
export async function debugFileWriter(): Promise<WriteFile> {
  if (typeof process === "undefined") {
    return (variable) => {
      throw new UnsupportedError(variable, "files can only be written under Node");
    };
  }
  const { mkdirSync, writeFileSync } = await import("node:fs");
  const { dirname } = await import("node:path");
  return (variable, path, text) => {
    try {
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, text);
    } catch (cause) {
      const why = cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
      throw new InputError(variable, `cannot write ${path}: ${why}`, { cause });
    }
  };
}
