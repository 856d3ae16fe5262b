/** `ciuic eval`: its options, what it prints, and its JSON. */
import { describe, expect, it } from "vitest";
import { type Evaluation, showEvaluation } from "../../src/cli/eval.ts";
import { quantizeFlags } from "../../src/cli/quantize-flags.ts";
import { ciuic, goldenFolder } from "./ciuic.ts";

describe("--quantize", () => {
  it("reads formats, overrides and the method", () => {
    const override = ["lm_head=none", "*.down_proj=int8"];
    expect(quantizeFlags("eval", { quantize: "int4+int8", override, method: "range" })).toEqual({
      weights: "int4",
      activations: "int8",
      method: "range",
      overrides: { lm_head: "none", "*.down_proj": "int8" },
    });
    expect(quantizeFlags("eval", { quantize: "int8" })).toEqual({ weights: "int8", overrides: {} });
    expect(quantizeFlags("eval", {})).toBeUndefined();
  });

  it.each([
    [{ quantize: "int5" }, "expected f32 or none or int8"],
    [{ quantize: "int4+int4" }, "activations: expected none or int8 or int8-static"],
    [{ quantize: "int4+int8+int8" }, "expected WEIGHTS or WEIGHTS+INPUTS"],
    [{ quantize: "int4", method: "best" }, "method: expected mse or range"],
    [{ quantize: "int4", override: ["lm_head"] }, "expected PATTERN=FORMAT"],
    [{ quantize: "int4", override: ["lm_head=int2"] }, 'overrides "lm_head"'],
    [{ override: ["lm_head=int8"] }, "eval --override: needs --quantize"],
    [{ method: "mse" }, "eval --method: needs --quantize"],
  ])("refuses %o", (values, message) => {
    expect(() => quantizeFlags("eval", values)).toThrow(message);
  });
});

const scores = { windows: 1, tokens: 9, loss: 1, perplexity: Math.E, referenceLoss: 0.5, kl: 0.25, top1: 0.75 };

it("prints what it measured", () => {
  const evaluation: Evaluation = {
    model: "m",
    quantize: { weights: "int4" },
    lossy: ["weights rounded to int4"],
    weightBytes: { unquantized: 80, quantized: 10 },
    texts: { books: scores },
    arithmetic: { unquantized: 1, quantized: 0.975 },
    tensors: [{ names: ["a", "b"], codes: "i4", elements: 16, bytes: 10, error: 0.08 }],
  };
  expect(showEvaluation(evaluation)).toMatchInlineSnapshot(`
    "changed: weights rounded to int4
    weights 80 B, changed 10 B
    books: 1 window, 9 tokens  loss 1.00000  perplexity 2.718  unchanged 0.50000  kl 0.250000  top1 75.00 %
    arithmetic 100.0 % right, changed 97.5 %
    0.08000  i4      10 B  a + b
    "
  `);
});

describe("as a process", () => {
  it("compares on a text, as JSON", async () => {
    const args = ["eval", "--text", "-", "--quantize", "int8", "--tensors", "--json"];
    const { code, stdout } = await ciuic(args, { input: "Once upon a time, there was a little fox." });
    expect(code).toBe(0);
    const evaluation = JSON.parse(stdout) as Evaluation;
    expect(evaluation).toMatchObject({
      model: expect.stringContaining("tiny-deepseek"),
      quantize: { weights: "int8" },
      arithmetic: null,
    });
    expect(evaluation.texts["-"]).toMatchObject({ windows: 1 });
    expect(Object.keys(evaluation.texts["-"]!)).toEqual(expect.arrayContaining(["loss", "perplexity", "kl", "top1"]));
    expect(evaluation.weightBytes.quantized).toBeLessThan(0.6 * evaluation.weightBytes.unquantized);
    expect(evaluation.tensors!.length).toBeGreaterThan(40);
  });

  it.each([
    [["--quantize", "int9"], "", "ciuic: eval --quantize: weights: expected"],
    [["--text", "-"], "", "no text to predict"],
    [["--windows", "0"], "", "eval --windows: expected at least 1"],
    [["--quantize", "int4+int8-static", "--windows", "1"], "", "int8-static"],
    [[goldenFolder("v3")], "", "no reference.json"],
  ])("explains %j", async (args, input, message) => {
    const { code, stderr } = await ciuic(["eval", ...args], { input });
    expect(stderr).toContain(message);
    expect(code).toBe(2);
  });
});
