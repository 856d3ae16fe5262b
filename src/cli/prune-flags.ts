/** `--prune FILE` and `--sparsity N:M` as the library's option. */
import { checkPruneOptions, type PruneOptions } from "../compile.ts";
import { parsePruning } from "../runtime/weights/pruning-file.ts";
import type { OptionTable, OptionValues } from "./options.ts";
import { readText } from "./read-input.ts";

export const pruneOptions = {
  prune: { kind: "text", value: "FILE", doc: "Without the experts that ciuic prune left out: its pruning.json." },
  sparsity: {
    kind: "text",
    value: "N:M",
    doc: "Of each M weights of a layer in a row only the N largest, as in 2:4; or a share of each row to set to 0, as in 0.5.",
  },
} as const satisfies OptionTable;

/** Undefined where nothing is left out. @throws InputError for a file of another form, or what is no sparsity */
export async function pruneFlags(values: OptionValues<typeof pruneOptions>): Promise<PruneOptions | undefined> {
  const { prune, sparsity } = values;
  if (prune === undefined && sparsity === undefined) return undefined;
  const options: PruneOptions = {
    ...(prune !== undefined && parsePruning(await readText(prune), prune)),
    ...(sparsity !== undefined && { sparsity: /^[\d.]+$/.test(sparsity) ? Number(sparsity) : sparsity }),
  };
  checkPruneOptions(options);
  return options;
}
