/** Writes the files that DUMP and TRACE ask for, under Node; reached through the process, as in node-folder.ts. */
import type { WriteFile } from "../compile-options.ts";
import { InputError, UnsupportedError } from "../ir/errors.ts";
import { makeFolder } from "./make-folder.ts";

/** A synchronous writer, since passes are; it makes the folders that a path needs. */
export async function debugFileWriter(): Promise<WriteFile> {
  if (typeof process === "undefined" || typeof process.getBuiltinModule !== "function") {
    return (variable) => {
      throw new UnsupportedError(variable, "files can only be written under Node");
    };
  }
  const { writeFileSync } = process.getBuiltinModule("node:fs");
  const { dirname } = process.getBuiltinModule("node:path");
  return (variable, path, text) => {
    try {
      makeFolder(dirname(path));
      writeFileSync(path, text);
    } catch (cause) {
      const why = cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
      throw new InputError(variable, `cannot write ${path}: ${why}`, { cause });
    }
  };
}
