/** Optional packages that are not among those of the program, such as a TensorFlow that was installed apart. */
import { UnsupportedError } from "../../ir/errors.ts";
import type { ImportPackage } from "./packages.ts";

/** Imports packages as a script in that folder finds them. */
export function importFrom(folder: string): ImportPackage {
  if (typeof process === "undefined" || typeof process.getBuiltinModule !== "function") {
    throw new UnsupportedError("packageFolder", "packages in folders need Node");
  }
  const { join, resolve } = process.getBuiltinModule("node:path");
  const require = process.getBuiltinModule("node:module").createRequire(join(resolve(folder), "script.cjs"));
  return async (name) => require(name);
}
