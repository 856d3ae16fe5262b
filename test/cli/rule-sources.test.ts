/** Where rules and passes are written: every one is found, where its name stands, with something said of it. */
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { expect, it } from "vitest";
import { findSources } from "../../src/cli/rule-sources.ts";
import { lineKey } from "../../src/cli/viewer/diff.ts";
import { rewriteLines } from "../../src/cli/viewer/rewrite-lines.ts";
import { allBackendNames, findBackend } from "../../src/compile.ts";
import { holdPass } from "../../src/passes/hold-narrow.ts";
import { tensorPasses } from "../../src/passes/pipeline.ts";
import { simplifyRules } from "../../src/passes/simplify.ts";
import type { TraceFile } from "../../src/trace-file.ts";

const rules = simplifyRules.map(({ name }) => name);
const quantize = { weights: "int4", activations: "int8" } as const;
const passes = allBackendNames.flatMap((backend) =>
  tensorPasses(findBackend(backend).target, { quantize }).map(({ name }) => name),
);
const found = await findSources(rules, [...passes, "observe"]);

it("finds every rule at its line", () => {
  expect(Object.keys(found.rules).sort()).toEqual([...rules].sort());
  for (const [name, { place, doc, text }] of Object.entries(found.rules)) {
    const [file, line] = place.split(":");
    expect(doc.length).toBeGreaterThan(4);
    const lines = readFileSync(file!, "utf8")
      .split("\n")
      .slice(Number(line) - 1);
    expect(lines[0]).toContain(text.split("\n")[0]);
    const whole = name.replace(/^\w+?_constant_right$/, "_constant_right");
    expect(lines.slice(0, 2).join("\n")).toContain(whole);
    expect(lines.slice(0, 2).join("\n")).toMatch(/rule\(|name: /);
  }
  const { sub_neg, div_power_of_two, fold_small } = found.rules;
  expect(sub_neg).toMatchObject({
    doc: "x - (-y) = x + y",
    text: expect.stringMatching(/^rule\("sub_neg", .*x \+ y$/),
  });
  expect(div_power_of_two?.doc).toContain("x / 2^n = x * 2^-n");
  expect(fold_small?.text).toMatch(/^\{\n {2}name: "fold_small"[\s\S]*\n\},$/);
});

it("finds every pass, and nothing that is not there", async () => {
  expect(Object.keys(found.passes).sort()).toEqual([...new Set([...passes, "observe"])].sort());
  // Its name is a constant of its file.
  expect(found.passes[holdPass]?.doc).toMatch(/^Large weights that a checkpoint stores in 16 bits/);
  expect(found.passes.quantize?.doc).toMatch(/^Quantisation: what a contraction reads .*\.$/);
  expect(await findSources(["no_such_rule", "name"], ["simplif"])).toEqual({ rules: {}, passes: {} });
});

/** Nodes whose operands are before them. */
const nodes = fc.array(fc.tuple(fc.constantFrom("neg", "exp", "add"), fc.array(fc.nat(), { maxLength: 2 })), {
  minLength: 2,
  maxLength: 12,
});

it("of a rewrite, tells what only one side reads, and never a node twice", () => {
  fc.assert(
    fc.property(nodes, fc.nat(), fc.nat(), (drawn, a, b) => {
      const all = drawn.map(([op, ins], i): TraceFile["nodes"][number] => {
        return [op, i === 0 ? [] : ins.map((each) => each % i), "{}", "f32[2]", `n${i}`];
      });
      const [before, after] = [a % all.length, b % all.length];
      const lines = rewriteLines({ nodes: all }, before, after);
      const of = (kind: string) => lines.filter((line) => line.kind === kind).map(({ text }) => text.split(":")[0]);
      const reads = (root: number): Set<string> =>
        new Set([`%n${root}`, ...all[root]![1].flatMap((each) => [...reads(each)])]);
      const [old, now] = [reads(before), reads(after)];
      expect(new Set(of("removed"))).toEqual(new Set([...old].filter((name) => !now.has(name))));
      expect(new Set(of("added").filter((name) => name !== "instead"))).toEqual(
        new Set([...now].filter((name) => !old.has(name))),
      );
      expect(new Set(lines.map(({ text }) => lineKey(text))).size).toBe(lines.length);
    }),
  );
});
