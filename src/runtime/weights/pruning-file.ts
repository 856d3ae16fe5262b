/** `pruning.json`: which routed experts a pruned model keeps, and what that was decided by. */
import { checkKeptExperts, type ExpertChoice, type KeptExperts } from "../../compile.ts";
import { InputError, showValue } from "../../ir/errors.ts";
import { asArray, asObject, parseJsonObject } from "./json.ts";

const format = "ciuic pruning 1";

export interface Pruning extends ExpertChoice {
  /** Tokens of the sample text that the gates were watched on. */
  readonly tokens: number;
}

export function showPruning({ experts, share, tokens }: Pruning): string {
  const lists = Object.entries(experts).map(([layer, kept]) => `  ${JSON.stringify(layer)}: ${JSON.stringify(kept)}`);
  return `{
 "format": ${JSON.stringify(format)},
 "tokens": ${tokens},
 "share": ${JSON.stringify(share)},
 "experts": {
${lists.join(",\n")}
 }
}
`;
}

/** @throws InputError for a file of another form; whether the experts fit a model shows when it is loaded */
export function parsePruning(text: string, where = "pruning.json"): { readonly experts: KeptExperts } {
  const fields = parseJsonObject(text, where);
  if (fields.get("format") !== format) {
    const got = fields.has("format") ? showValue(fields.get("format")) : "nothing";
    throw new InputError(`${where} format`, `expected ${JSON.stringify(format)}, got ${got}`);
  }
  const lists = [...asObject(fields.get("experts"), `${where} experts`)].map(
    ([layer, kept]) => [layer, asArray(kept, `${where} experts ${layer}`)] as const,
  );
  const experts = Object.fromEntries(lists) as KeptExperts; // checked next
  checkKeptExperts(experts, `${where} experts`);
  return { experts };
}
