/** `ciuic opt`: runs passes on IR text. */

import { defaultBackend, findBackend } from "../compile.ts";
import { compileOptionsFromEnv } from "../compile-options.ts";
import { didYouMean, InputError } from "../ir/errors.ts";
import { Builder } from "../ir/graph.ts";
import { parseModule } from "../ir/parse.ts";
import { printModule } from "../ir/print.ts";
import type { Target } from "../ir/target.ts";
import { absorb } from "../passes/absorb.ts";
import { expand } from "../passes/expand.ts";
import { legalize } from "../passes/legalize.ts";
import { mergeContracts } from "../passes/merge-contracts.ts";
import { type Pass, runPasses } from "../passes/pass.ts";
import { tensorPasses } from "../passes/pipeline.ts";
import { simplify } from "../passes/simplify.ts";
import { debugFileWriter } from "../runtime/debug-files.ts";
import { write } from "./answer.ts";
import { defineCommand, exitCodes } from "./command.ts";
import type { OptionTable } from "./options.ts";
import { readText } from "./read-input.ts";

interface NamedPass {
  readonly doc: string;
  readonly make: (target: Target) => Pass;
}

/** The passes by name; a test checks that all of the pipeline's are here. */
export const namedPasses: Readonly<Record<string, NamedPass>> = {
  simplify: { doc: "Algebra, shapes, constant folding, to a fixed point.", make: () => simplify() },
  absorb: {
    doc: "Latent attention over the latent itself where that takes fewer multiplications.",
    make: () => absorb(),
  },
  expand: {
    doc: "Composite ops in terms of primitive ones; attention stays whole.",
    make: () => expand({ keep: ["attention"] }),
  },
  "expand-all": { doc: "The same, attention too.", make: () => expand() },
  legalize: { doc: "Casts where the target's kernels want f32 or cannot store a dtype.", make: legalize },
  "merge-contracts": { doc: "Contractions of one value with several weights become one.", make: () => mergeContracts },
};

const options = {
  passes: { kind: "text", value: "A,B", doc: "Passes to run, in this order. Default: the whole pipeline." },
  target: { kind: "text", value: "NAME", doc: "The backend to prepare for. Default: wasm." },
  canonical: { kind: "flag", doc: "Number the values: equal modules print alike." },
  list: { kind: "flag", doc: "List the passes." },
} as const satisfies OptionTable;

export const opt = defineCommand({
  name: "opt",
  usage: ["FILE.ir [--passes A,B] [--target NAME]", "--list"],
  summary: "Run passes on IR text.",
  details: [
    "Reads a module as inspect prints it (- is stdin), runs the passes, prints the result. Every pass is verified; VERIFY=3 also interprets before and after each.",
  ],
  options,
  examples: [
    "ciuic opt --list",
    "ciuic inspect --after none | ciuic opt - --passes simplify,expand",
    "ciuic inspect --after none | VERIFY=2 ciuic opt -",
  ],
  positionals: 1,
  readsIr: true,
  run: async ({ values, positionals }) => {
    if (values.list) {
      const rows = Object.entries(namedPasses).map(([name, { doc }]) => `${name.padEnd(16)} ${doc}\n`);
      await write(process.stdout, rows.join(""));
      return exitCodes.done;
    }
    const [file] = positionals;
    if (file === undefined) throw new InputError("opt", "missing: expected a file of IR, or - for stdin");
    const { target } = findBackend(values.target ?? defaultBackend);
    const passes = values.passes === undefined ? tensorPasses(target) : choosePasses(values.passes, target);
    const module = parseModule(await readText(file), new Builder());
    const fromEnv = compileOptionsFromEnv(await debugFileWriter());
    const after = runPasses(module, passes, target, { ...fromEnv, verify: fromEnv.verify === 3 ? 3 : 2 });
    await write(process.stdout, printModule(after, { canonical: values.canonical ?? false }));
    return exitCodes.done;
  },
});

/** @throws InputError naming the first that does not exist. */
export function choosePasses(list: string, target: Target): Pass[] {
  const names = list
    .split(",")
    .map((name) => name.trim())
    .filter((name) => name !== "");
  return names.map((name) => {
    const found = Object.hasOwn(namedPasses, name) ? namedPasses[name] : undefined;
    if (found !== undefined) return found.make(target);
    const known = Object.keys(namedPasses);
    const hint = didYouMean(name, known) ?? `Passes: ${known.join(", ")}.`;
    throw new InputError("opt --passes", `there is no pass ${JSON.stringify(name)}`, { hint });
  });
}
