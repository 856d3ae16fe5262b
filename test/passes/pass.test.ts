/** `runPasses` finds the pass at fault; instruments see what happened. */
import { describe, expect, test } from "vitest";
import { maths } from "../../src/ir/build.ts";
import { Builder, type Module, makeModule, mapFuncs, type Node } from "../../src/ir/graph.ts";
import { type Invariant, Violation } from "../../src/ir/invariants.ts";
import { parseModule } from "../../src/ir/parse.ts";
import { printModule } from "../../src/ir/print.ts";
import { jsTarget } from "../../src/ir/target.ts";
import { dump, timing, tracing } from "../../src/passes/instruments.ts";
import { mapOuts, type Pass, type PassOptions, runPasses } from "../../src/passes/pass.ts";
import { tensorPasses } from "../../src/passes/pipeline.ts";
import { simplify } from "../../src/passes/simplify.ts";

const module = parseModule(`
module @m entry @main {
func @main(%x: f32[2,3]) {
  %minus: f32[2,3] = neg %x
  %again: f32[2,3] = neg %minus
  %out: f32[2,3] = silu %again
  return %out
}
}`);

const pass = (name: string, run: Pass["run"], more: Partial<Pass> = {}): Pass => ({
  name,
  level: "tensor",
  exact: true,
  run,
  ...more,
});
const idle = pass("idle", (m) => m);
/** Replaces every result. */
const replacing = (name: string, replace: (out: Node, builder: Builder) => Node, more: Partial<Pass> = {}) =>
  pass(name, (m, { builder }) => mapOuts(m, (func) => func.outs.map((out) => replace(out, builder))), more);
const negate = (out: Node, builder: Builder) => maths(builder).neg(out);

const run = (passes: readonly Pass[], options: PassOptions = {}) => runPasses(module, passes, jsTarget, options);

describe("verification", () => {
  const noNeg: Invariant = {
    name: "noNeg",
    check: (m) => {
      for (const func of m.funcs.values()) {
        const found = func.outs.find((out) => out.op === "neg");
        if (found !== undefined) throw new Violation(`@${func.name}`, "there is a neg", func, found);
      }
    },
  };
  const giver = pass("giver", (m) => m, { gives: [noNeg] });

  test("a given invariant is checked after every later pass, and the pass that broke it is named", () => {
    const passes = [giver, idle, replacing("breaker", negate), idle];
    expect(() => run(passes, { verify: 2 })).toThrow(/pass breaker: @main: there is a neg.*noNeg/s);
    expect(() => run(passes, { verify: 2 })).toThrow("DUMP_PASS='^breaker$'");
    expect(() => run(passes, { verify: 1 })).toThrow("there is a neg");
    expect(() => run(passes, { verify: 0 })).not.toThrow();
  });

  test("a pass needs what earlier passes gave", () => {
    const needy = pass("needy", (m) => m, { needs: [noNeg] });
    expect(() => run([giver, needy])).not.toThrow();
    expect(() => run([needy, giver])).toThrow("pass needy: needs noNeg, which no pass before it gives");
    expect(() => run([giver, needy], { disabledPasses: ["giver"] })).toThrow("pass needy");
  });

  test("a new module for no change, and a change in place, are found", () => {
    const copying = pass("copying", (m) => ({ ...m }));
    expect(() => run([copying], { verify: 2 })).toThrow("pass copying: changed nothing, but returned another module");
    const sly = pass("sly", (m, { builder }) => {
      const func = m.funcs.get("main")!;
      // What the types forbid and JavaScript allows.
      (m.funcs as Map<string, unknown>).set("main", { ...func, outs: [negate(func.outs[0]!, builder)] });
      return m;
    });
    expect(() => run([sly], { verify: 2 })).toThrow("pass sly: changed the module in place");
  });

  test("level 3 compares results: bit for bit where exact, else up to rounding", () => {
    const wrong = replacing("wrong", negate);
    expect(() => run([wrong], { verify: 2 })).not.toThrow();
    expect(() => run([wrong], { verify: 3 })).toThrow(
      /pass wrong: result 0 of @main: element 0: expected .* \(seed 1\)/,
    );
    const nudge = (out: Node, builder: Builder) => maths(builder).mul(out, 1 + 2 ** -20);
    expect(() => run([replacing("nudge", nudge)], { verify: 3 })).toThrow("pass nudge");
    expect(() => run([replacing("nudge", nudge, { exact: false })], { verify: 3 })).not.toThrow();
    expect(() => run([{ ...wrong, exact: false }], { verify: 3 })).toThrow("normalised mean squared error");
    expect(() => run(tensorPasses(jsTarget), { verify: 3, seed: 7 })).not.toThrow();
  });

  test("malformed input is refused before any pass", () => {
    const bad: Module = { ...module, entry: "nothing" };
    expect(() => runPasses(bad, [idle], jsTarget)).toThrow("there is no function @nothing");
  });
});

test("nodes of several builders become equal nodes of one", () => {
  const build = () => maths(new Builder());
  const [first, second] = [build(), build()];
  const x = first.builder.param("x", "f32", [2]);
  const outs = [first.neg(x), second.neg(x)];
  expect(outs[0]).not.toBe(outs[1]);
  const mixed = makeModule("m", [{ name: "main", params: [x], outs }], "main");
  const [a, b] = runPasses(mixed, [], jsTarget).funcs.get("main")!.outs;
  expect(a).toBe(b);
});

describe("instruments", () => {
  test("dump writes numbered files, of the passes asked for", () => {
    const files = new Map<string, string>();
    const write = (name: string, text: string) => files.set(name, text);
    run(tensorPasses(jsTarget), { instruments: [dump({ write, pattern: /^(expand|legalize)$/ })] });
    expect([...files.keys()]).toEqual(["00-input.ir", "03-expand.after.ir", "04-legalize.after.ir"]);
    expect(files.get("00-input.ir")).toBe(printModule(module));
    expect(printModule(parseModule(files.get("03-expand.after.ir")!))).toBe(files.get("03-expand.after.ir"));
  });

  test("timing reports each pass once", () => {
    const seen: string[] = [];
    run([simplify(), simplify()], {
      instruments: [timing((name, ms, changed) => seen.push(`${name} ${ms >= 0} ${changed}`))],
    });
    expect(seen).toEqual(["simplify true true", "simplify true false"]);
  });

  test("a trace numbers nodes once and names each match", () => {
    const { instrument, trace } = tracing();
    run([simplify()], { instruments: [instrument] });
    expect(JSON.parse(JSON.stringify(trace))).toEqual({
      input: expect.stringContaining("%again: f32[2,3] = neg %minus"),
      nodes: [
        ["param", [], '{dtype="f32", name="x", shape=[2, 3]}', "f32[2,3]", "x"],
        ["neg", [0], "", "f32[2,3]", "minus"],
        ["neg", [1], "", "f32[2,3]", "again"],
        ["silu", [2], "", "f32[2,3]", "out"],
        ["silu", [0], "", "f32[2,3]", "out"],
      ],
      passes: [
        {
          name: "simplify",
          ms: expect.any(Number),
          before: { main: [3] },
          after: { main: [4] },
          text: expect.stringContaining("%out: f32[2,3] = silu %x"),
          matches: [{ rule: "neg_neg", before: 2, after: 0 }],
        },
      ],
    });
  });

  test("rules can be disabled by name", () => {
    const after = run([simplify()], { disabledRules: ["neg_neg"] });
    expect(printModule(after)).toBe(printModule(module));
  });
});

test("mapOuts and mapFuncs return the same module where nothing changes", () => {
  expect(mapOuts(module, (func) => [...func.outs])).toBe(module);
  expect(mapFuncs(module, (func) => func)).toBe(module);
});
