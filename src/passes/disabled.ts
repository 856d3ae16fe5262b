/** Checks the names given to DISABLE_PASS and DISABLE_RULE, so that a misspelt one is not silently ignored. */
import { didYouMean, InputError } from "../ir/errors.ts";
import type { Pass } from "./pass.ts";
import { simplifyRules } from "./simplify.ts";

export interface Disabled {
  readonly passes?: readonly string[];
  readonly rules?: readonly string[];
}

/** Throws InputError, with the nearest name, where something to be disabled does not exist. */
export function checkDisabled(passes: readonly Pass[], disabled: Disabled): void {
  const check = (variable: string, what: string, names: readonly string[], known: readonly string[]) => {
    const unknown = names.find((name) => !known.includes(name));
    if (unknown === undefined) return;
    const hint = didYouMean(unknown, known) ?? `There are ${known.join(", ")}.`;
    throw new InputError(variable, `there is no ${what} ${JSON.stringify(unknown)}`, { hint });
  };
  const namesOf = (named: readonly { readonly name: string }[]) => named.map(({ name }) => name);
  check("DISABLE_PASS", "pass", disabled.passes ?? [], namesOf(passes));
  check("DISABLE_RULE", "rule", disabled.rules ?? [], namesOf(simplifyRules));
}
