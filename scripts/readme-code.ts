/** The programs in README.md, so that they can be checked and run as they stand. */
import { readFileSync } from "node:fs";

/** The text of each block marked `ts`, in order. */
export function readmePrograms(readme = readFileSync("README.md", "utf8")): readonly string[] {
  return [...readme.matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map((match) => match[1] ?? "");
}

/** The text of each block marked `sh`, in order: one command each. */
export function readmeCommands(readme = readFileSync("README.md", "utf8")): readonly string[] {
  return [...readme.matchAll(/^```sh\n([\s\S]*?)\n```$/gm)].map((match) => match[1] ?? "");
}
