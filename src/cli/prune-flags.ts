/** `--prune FILE` as the library's option. */
import type { PruneOptions } from "../compile.ts";
import { parsePruning } from "../runtime/pruning-file.ts";
import type { OptionTable, OptionValues } from "./options.ts";
import { readText } from "./read-input.ts";

export const pruneOptions = {
  prune: { kind: "text", value: "FILE", doc: "Without the experts that ciuic prune left out: its pruning.json." },
} as const satisfies OptionTable;

/** Undefined where nothing is left out. @throws InputError for a file of another form */
export async function pruneFlags({ prune }: OptionValues<typeof pruneOptions>): Promise<PruneOptions | undefined> {
  return prune === undefined ? undefined : parsePruning(await readText(prune), prune);
}
