/** What pruning leaves out of a model, and how it is said. */
import { InputError } from "../../ir/errors.ts";

export interface PruneOptions {
  /** The routed experts that each layer keeps, by layer; as many in every layer. What `Model.chooseExperts` gives. */
  readonly experts?: KeptExperts;
}

/** By the layer's number: the experts kept, ascending. */
export type KeptExperts = Readonly<Record<string, readonly number[]>>;

/** @throws InputError for an option that does not exist, and lists of experts that are none; sizes are the model's to check */
export function checkPruneOptions(options: PruneOptions, where = "prune"): void {
  for (const name of Object.keys(options)) {
    if (name !== "experts") throw new InputError(`${where} ${name}`, "unknown option", { hint: "Options: experts." });
  }
  if (options.experts === undefined) throw new InputError(where, "expected what to leave out, got nothing");
  checkKeptExperts(options.experts, `${where} experts`);
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

/** "8 routed experts kept in each of 5 layers". */
export function pruneSentence({ experts = {} }: PruneOptions): string {
  const lists = Object.values(experts);
  return `${lists[0]?.length ?? 0} routed experts kept in each of ${lists.length} layers`;
}
