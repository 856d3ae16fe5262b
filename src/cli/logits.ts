/** `ciuic logits`: every position's logits of given token ids, to a file, for comparison with other implementations. */
import { InputError } from "../ir/errors.ts";
import { type Tensor, tensorFrom } from "../ir/tensor.ts";
import { tensorType } from "../ir/types.ts";
import { writeSafetensors } from "../runtime/weights/safetensors.ts";
import { defineCommand, exitCodes } from "./command.ts";
import { deviceFlags, deviceOptions } from "./device-flags.ts";
import { withModel } from "./model-source.ts";
import type { OptionTable } from "./options.ts";
import { checkTokenIds, readTokenIds } from "./token-ids.ts";
import { writeOutput } from "./write-output.ts";

const options = {
  ids: { kind: "text", value: "IDS.json", doc: "An array of arrays of token ids; - reads stdin." },
  out: { kind: "text", value: "OUT.safetensors", doc: "The file to write." },
  ...deviceOptions,
} as const satisfies OptionTable;

export const logits = defineCommand({
  name: "logits",
  usage: ["[MODEL] --ids IDS.json --out OUT.safetensors [--backend NAME]"],
  summary: "Write the logits of token ids to a file.",
  details: [
    "Writes one F32 tensor [tokens, vocabulary] per array: logits.0, logits.1, and so on. Each array is a sequence of its own, computed from its first token; nothing is put before it.",
  ],
  options,
  examples: ['echo "[[0, 397, 431], [0, 5]]" | ciuic logits --ids - --out logits.safetensors'],
  positionals: 1,
  run: async ({ values, positionals }) => {
    const { ids: file, out } = values;
    if (file === undefined) throw new InputError("logits --ids", "missing: expected a JSON file of token ids");
    if (out === undefined) throw new InputError("logits --out", "missing: expected the file to write");
    const lists = await readTokenIds(file);
    await withModel(positionals[0], deviceFlags(values), async (model) => {
      const vocab = model.config.vocab_size;
      checkTokenIds(lists, vocab, file);
      const tensors = new Map<string, Tensor>();
      for (const [i, ids] of lists.entries()) {
        tensors.set(`logits.${i}`, tensorFrom(tensorType("f32", [ids.length, vocab]), await model.logits(ids)));
      }
      await writeOutput(out, writeSafetensors(tensors));
    });
    return exitCodes.done;
  },
});
