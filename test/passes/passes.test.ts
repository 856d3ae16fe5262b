/** Every pass on random modules: the same results, bit for bit where it is declared exact, and the checks of VERIFY=2. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { UnsupportedError } from "../../src/ir/errors.ts";
import { jsTarget, type Target } from "../../src/ir/target.ts";
import { type DType, dtypes } from "../../src/ir/types.ts";
import { absorb } from "../../src/passes/absorb.ts";
import { expand } from "../../src/passes/expand.ts";
import { legalize } from "../../src/passes/legalize.ts";
import { mergeContracts } from "../../src/passes/merge-contracts.ts";
import { type Pass, runPasses } from "../../src/passes/pass.ts";
import { tensorPasses } from "../../src/passes/pipeline.ts";
import { simplify } from "../../src/passes/simplify.ts";
import { close, same } from "../arb/compare.ts";
import { runInterpret, withInputs } from "../arb/inputs.ts";
import { arbModule, type ProgramOptions } from "../arb/program.ts";

/** Stores everything, so that no random module is refused. */
const anyTarget: Target = { ...jsTarget, storage: Object.keys(dtypes) as DType[] };

const plainTarget: Target = { ...jsTarget, storage: ["f32", "i32", "u32", "bool"] };

const options: ProgramOptions = { dtypes: anyTarget.storage };

const exactPasses: Record<string, readonly Pass[]> = {
  simplify: [simplify()],
  legalize: [legalize(anyTarget)],
  "merge-contracts": [mergeContracts],
  all: [simplify(), legalize(anyTarget), mergeContracts, simplify()],
};

describe.each(Object.entries(exactPasses))("%s", (_, passes) => {
  test("changes no bit of any result", () => {
    expect(passes.every((pass) => pass.exact)).toBe(true);
    fc.assert(
      fc.property(withInputs(arbModule({ ...options, maxSteps: 16 })), ([module, data]) => {
        const after = runPasses(module, passes, anyTarget, { verify: 2 });
        same(runInterpret(after, data), runInterpret(module, data));
      }),
      { numRuns: 200 },
    );
  });
});

test("legalize for a target that stores few dtypes changes no bit either", () => {
  let accepted = 0;
  fc.assert(
    fc.property(withInputs(arbModule({ ...options, maxSteps: 12 })), ([module, data]) => {
      try {
        const after = runPasses(module, [legalize(plainTarget)], plainTarget, { verify: 2 });
        same(runInterpret(after, data), runInterpret(module, data));
        accepted++;
      } catch (error) {
        // Parameters and results of narrow dtypes have no legal form.
        if (!(error instanceof UnsupportedError)) throw error;
      }
    }),
    { numRuns: 300 },
  );
  expect(accepted).toBeGreaterThan(50);
});

const wholePipelines: Record<string, readonly Pass[]> = {
  optimised: tensorPasses(anyTarget),
  "not optimised": tensorPasses(anyTarget, { optimize: false }),
  expand: [expand()],
  absorb: [absorb({ form: "absorbed" })],
};

/** Ops that turn a difference of one rounding into a jump. */
const jumps = [
  "updateRows",
  "floor",
  "round",
  "rem",
  "eq",
  "ne",
  "lt",
  "le",
  "gt",
  "ge",
  "topKIndices",
  "argMax",
  "cast",
  "pow",
] as const;

describe.each(Object.entries(wholePipelines))("pipeline %s", (_, passes) => {
  test("keeps results up to rounding", () => {
    const modules = arbModule({ ...options, finite: true, maxSteps: 8, without: jumps });
    fc.assert(
      fc.property(withInputs(modules, { finite: true }), ([module, data]) => {
        const after = runPasses(module, passes, anyTarget, { verify: 2 });
        // Eight ops of values up to about 4, each adding a few roundings of 6e-8 and scaling those before it.
        close(runInterpret(after, data), runInterpret(module, data), { ulp: 4096, absolute: 1e-3, finiteOnly: true });
      }),
      { numRuns: 200 },
    );
  });
});
