/** Fusion's decisions: every value that is computed has one, and they are the groups that are made. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { isOp, topoOrder } from "../../src/ir/graph.ts";
import { parseModule } from "../../src/ir/parse.ts";
import { jsTarget, wasmTarget, webgpuTarget } from "../../src/ir/target.ts";
import { recordHistory } from "../../src/passes/compile-history.ts";
import { weightExpressions } from "../../src/passes/constant.ts";
import { fuse } from "../../src/passes/fuse.ts";
import { labelOf } from "../../src/passes/fusion-decision.ts";
import { lowerFunc } from "../../src/passes/lower/lower.ts";
import { runPasses } from "../../src/passes/pass.ts";
import { tensorPasses } from "../../src/passes/pipeline.ts";
import { arbModule } from "../arb/program.ts";

const targets = [jsTarget, wasmTarget, webgpuTarget];

describe("decisions", () => {
  it("are one for each value, stored exactly where a group has its root", () => {
    fc.assert(
      fc.property(arbModule(), fc.constantFrom(...targets), (module, target) => {
        for (const func of runPasses(module, tensorPasses(target), target).funcs.values()) {
          const weights = new Set(weightExpressions(func));
          const { groups, decisions, buffers } = fuse(func, target, { enabled: true, weights });
          const decided = decisions.map(({ node }) => node);
          expect(new Set(decided).size).toBe(decided.length);
          const stored = decisions.filter(({ as }) => as === "stored");
          expect(new Set(stored.map(({ node }) => node))).toEqual(new Set(groups.map(({ root }) => root)));
          for (const { node, as, into, why, missed } of decisions) {
            expect(buffers.has(node), labelOf(node)).toBe(as === "stored");
            expect(why === "").toBe(as !== "stored");
            if (missed) expect(func.outs).not.toContain(node);
            for (const root of into) expect(buffers.has(root)).toBe(true);
          }
        }
      }),
    );
  });
});

const twice = parseModule(`module @m entry @f {
func @f(%x: f32[4,8], %w: f32[3,8]) {
  %h: f32[4,8] = exp %x
  %a: f32[4,3] = contract %h, %w {axes="n i, o i -> n o"}
  %b: f32[4,3] = neg %a
  %s: f32[4] = reduceSum %h
  return %b, %s
}
}
`);

describe("the history of a function", () => {
  it("says what was fused and why the rest was not", () => {
    const recorder = recordHistory((weights) => weights);
    const func = runPasses(twice, [], jsTarget, { instruments: [recorder.instrument] }).funcs.get("f")!;
    const lowered = lowerFunc(func, jsTarget, { enabled: true, weights: new Set() }, (each) =>
      recorder.fused(func, each),
    );
    recorder.lowered(func, lowered, lowered);
    const [history] = recorder.history(twice).funcs;
    expect(history).toMatchObject({
      calls: 1,
      ops: 4,
      placed: { epilogue: 1, inlined: 0, stored: 3 },
      fused: [{ into: "b", values: ["a"] }],
      missed: [{ value: "h", why: "b would compute it again in an inner loop" }],
      kernels: 3,
    });
    const count = topoOrder(func.outs).filter((node) => !isOp(node, "param")).length;
    expect(history!.ops).toBe(count);
  });
});
