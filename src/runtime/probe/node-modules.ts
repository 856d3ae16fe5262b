/** Node's own modules, reached through the process, so that a browser bundle holds no import of them. */

export function nodeModules() {
  return {
    fs: process.getBuiltinModule("node:fs"),
    os: process.getBuiltinModule("node:os"),
    path: process.getBuiltinModule("node:path"),
    module: process.getBuiltinModule("node:module"),
    url: process.getBuiltinModule("node:url"),
  };
}

export function isNode(): boolean {
  return typeof process !== "undefined" && typeof process.getBuiltinModule === "function";
}
