/** What pruning leaves out of a model, and how it is said. */
import { didYouMean, InputError, showValue } from "../../ir/errors.ts";
import { parseSparsity, type SparsityWish, sparsitySentence } from "./sparsity.ts";

export interface PruneOptions {
  /** The routed experts that each layer keeps, by layer; as many in every layer. What `Model.chooseExperts` gives. */
  readonly experts?: KeptExperts;
  /** Small elements of the matrices of layers become 0: "2:4" keeps 2 of each 4 in a row, 0.5 half of each row. */
  readonly sparsity?: SparsityWish;
}

/** By the layer's number: the experts kept, ascending. */
export type KeptExperts = Readonly<Record<string, readonly number[]>>;

/** @throws InputError for an option that does not exist, and lists of experts that are none; sizes are the model's to check */
export function checkPruneOptions(options: PruneOptions, where = "prune"): void {
  if (typeof options !== "object" || options === null) {
    throw new InputError(where, `expected options such as { sparsity: "2:4" }, got ${showValue(options)}`);
  }
  const known = ["experts", "sparsity"];
  for (const name of Object.keys(options)) {
    if (known.includes(name)) continue;
    const hint = didYouMean(name, known) ?? `Options: ${known.join(", ")}.`;
    throw new InputError(`${where} ${name}`, "unknown option", { hint });
  }
  const { experts, sparsity } = options;
  if (experts === undefined && sparsity === undefined) {
    throw new InputError(where, "expected what to leave out, got nothing");
  }
  if (experts !== undefined) checkKeptExperts(experts, `${where} experts`);
  if (sparsity !== undefined) parseSparsity(sparsity, `${where} sparsity`);
}

/** @throws InputError unless every layer keeps as many experts, each once and in order */
export function checkKeptExperts(experts: KeptExperts, where: string): void {
  const lists = Object.entries(experts);
  const [first] = lists;
  if (first === undefined) throw new InputError(where, "expected the experts of at least one layer, got none");
  for (const [layer, kept] of lists) {
    if (!/^\d+$/.test(layer)) throw new InputError(where, `expected numbers of layers, got ${JSON.stringify(layer)}`);
    const ascending =
      Array.isArray(kept) && kept.every((each, i) => Number.isInteger(each) && each >= 0 && !(each <= kept[i - 1]!));
    if (!ascending || kept.length === 0) {
      throw new InputError(`${where} ${layer}`, "expected numbers of experts, ascending");
    }
    if (kept.length !== first[1].length) {
      const hint = "Layers share one compiled function.";
      throw new InputError(
        `${where} ${layer}`,
        `expected ${first[1].length} as in layer ${first[0]}, got ${kept.length}`,
        {
          hint,
        },
      );
    }
  }
}

/** "8 routed experts kept in each of 5 layers", "2 of each 4 weights in a row kept, the largest". */
export function pruneSentences({ experts, sparsity }: PruneOptions): string[] {
  const lists = Object.values(experts ?? {});
  return [
    ...(experts === undefined
      ? []
      : [`${lists[0]?.length ?? 0} routed experts kept in each of ${lists.length} layers`]),
    ...(sparsity === undefined ? [] : [sparsitySentence(parseSparsity(sparsity))]),
  ];
}
