/** The options of `run` and `chat` about how the model is loaded. */
import type { LoadOptions } from "../runtime/load-model.ts";
import { deviceFlags, deviceOptions } from "./device-flags.ts";
import type { OptionTable, OptionValues } from "./options.ts";
import { pruneFlags, pruneOptions } from "./prune-flags.ts";
import { quantizeFlags, quantizeOptions } from "./quantize-flags.ts";

export const modelOptions = {
  context: { kind: "whole", value: "N", doc: "Longest sequence in tokens, prompt included. Default: at most 4096." },
  ...deviceOptions,
  ...quantizeOptions,
  ...pruneOptions,
} as const satisfies OptionTable;

/** @throws InputError naming the command's option */
export async function modelFlags(command: string, values: OptionValues<typeof modelOptions>): Promise<LoadOptions> {
  const { context: contextLength } = values;
  return {
    contextLength,
    ...deviceFlags(values),
    quantize: quantizeFlags(command, values),
    prune: await pruneFlags(values),
  };
}

/** What was changed on purpose, for stderr; empty where nothing was. */
export function showChanges(lossy: readonly string[]): string {
  return lossy.length === 0 ? "" : `[changed: ${lossy.join("; ")}]\n`;
}
