/** 16-bit weights are held as they are stored, chosen codes are expanded as tables; what is computed stays the same to the bit. */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { Module } from "../../src/ir/graph.ts";
import { interpret } from "../../src/ir/interpret.ts";
import { parseModule } from "../../src/ir/parse.ts";
import { printModule } from "../../src/ir/print.ts";
import { jsTarget } from "../../src/ir/target.ts";
import { weightExpressions } from "../../src/passes/constant.ts";
import { heldAsStored, holdNarrow } from "../../src/passes/hold-narrow.ts";
import { legalize } from "../../src/passes/legalize.ts";
import { orientWeights } from "../../src/passes/orient-weights.ts";
import { runPasses } from "../../src/passes/pass.ts";
import { unpackTables } from "../../src/passes/unpack-tables.ts";
import { randomNumbers, randomTensor, randomWeights } from "../../src/passes/validate.ts";
import { same } from "../arb/compare.ts";
import { arbCase } from "../backends/random-programs.ts";

const narrow = { dtypes: ["bf16", "f16"], least: 12 } as const;
const target = { ...jsTarget, narrowWeights: narrow };

function after(module: Module): Module {
  return runPasses(module, [legalize(target), unpackTables, orientWeights, holdNarrow(narrow)], target, { verify: 2 });
}

/** The weight expressions that would be loaded, as dtype and shape. */
function loaded(text: string): string[] {
  const module = parseModule(text);
  const changed = after(module);
  const random = randomNumbers(1);
  const inputs = module.funcs.get("main")!.params.map(({ type }) => randomTensor(type, random));
  const weights = randomWeights(module, 1);
  same(interpret(changed, inputs, { weights }), interpret(module, inputs, { weights }));
  const held = heldAsStored(weightExpressions(changed.funcs.get("main")!), narrow);
  return held.map(({ op, type }) => `${op} ${type.dtype}[${type.shape}]`);
}

const main = (params: string, body: string) => `module @m entry @main {\nfunc @main(${params}) {\n${body}\n}\n}`;

test("a stack of projections, and one that is small", () => {
  const held = loaded(
    main(
      "%x: f32[2,3]",
      `  %a: bf16[4,3] = weight {name="a"}
  %b: bf16[2,3] = weight {name="b"}
  %c: bf16[2,3] = weight {name="c"}
  %ab: bf16[6,3] = concat %a, %b {axis=0}
  %y: f32[2,6] = contract %x, %ab {axes="n i, o i -> n o"}
  %z: f32[2,2] = contract %x, %c {axes="n i, o i -> n o"}
  return %y, %z`,
    ),
  );
  expect(held).toEqual(["transpose bf16[3,6]", "transpose f32[3,2]"]);
});

test("what is stored in f32 stays, and so does a weight that is computed with", () => {
  const held = loaded(
    main(
      "%x: f32[2,3]",
      `  %a: f32[4,3] = weight {name="a"}
  %b: bf16[4,3] = weight {name="b"}
  %wide: f32[4,3] = cast %b
  %twice: f32[4,3] = add %wide, %wide
  %y: f32[2,4] = contract %x, %a {axes="n i, o i -> n o"}
  %z: f32[2,4] = contract %x, %twice {axes="n i, o i -> n o"}
  return %y, %z`,
    ),
  );
  expect(held).toEqual(["transpose f32[3,4]", "transpose f32[3,4]"]);
});

test("rows of experts are chosen before they are widened", () => {
  const text = main(
    "%x: f32[1,3], %experts: i32[1,2]",
    `  %w: bf16[4,5,3] = weight {name="w.{0}"}
  %wide: f32[4,5,3] = cast %w
  %rows: f32[1,2,5,3] = gather %wide, %experts
  %y: f32[1,2,5] = contract %x, %rows {axes="n i, n k f i -> n k f"}
  return %y`,
  );
  expect(loaded(text)).toEqual(["weight bf16[4,5,3]"]);
  expect(printModule(after(parseModule(text)))).toMatch(/gather %w, %experts\n.*cast/);
});

test("chosen codes are expanded as tables, but not those of an embedding", () => {
  const codes = (shape: string, name: string) => `  %${name}: i8[${shape}] = weight {name="${name}"}`;
  const text = main(
    "%x: f32[1,4], %experts: i32[1,2], %tokens: i32[1]",
    `${codes("3,2,4", "q")}
  %s: f16[3,2,2] = weight {name="s"}
  %q_rows: i8[1,2,2,4] = gather %q, %experts
  %s_rows: f16[1,2,2,2] = gather %s, %experts
  %rows: f32[1,2,2,4] = dequantizeGroups %q_rows, %s_rows {group=2}
  %y: f32[1,2,2] = contract %x, %rows {axes="n i, n k f i -> n k f"}
${codes("5,4", "e")}
  %es: f16[5,2] = weight {name="es"}
  %e_rows: i8[1,4] = gather %e, %tokens
  %es_rows: f16[1,2] = gather %es, %tokens
  %row: f32[1,4] = dequantizeGroups %e_rows, %es_rows {group=2}
  return %y, %row`,
  );
  loaded(text);
  const printed = printModule(after(parseModule(text)));
  expect(printed).toMatch(/dequantizeGroups %q, %s/);
  expect(printed).toMatch(/dequantizeGroups %e_rows, %es_rows/);
});

test("random programs compute the same", () => {
  fc.assert(
    fc.property(arbCase({ finite: true }), ({ module, given }) => {
      const changed = runPasses(
        module,
        [legalize(target), unpackTables, orientWeights, holdNarrow({ ...narrow, least: 1 })],
        target,
        {
          verify: 2,
        },
      );
      const { inputs, weights } = given;
      same(interpret(changed, inputs, { weights }), interpret(module, inputs, { weights }));
    }),
    { numRuns: 100 },
  );
});
