/** Quantisation: what is rewritten and how, which weights, and that the error is what rounding allows. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { compile, compileToPlan, type QuantizeOptions } from "../../src/compile.ts";
import { interpret } from "../../src/ir/interpret.ts";
import { parseModule } from "../../src/ir/parse.ts";
import { printModule } from "../../src/ir/print.ts";
import { jsTarget } from "../../src/ir/target.ts";
import { type Tensor, tensorOf, valuesOf } from "../../src/ir/tensor.ts";
import { byteSize, showType } from "../../src/ir/types.ts";
import { legalize } from "../../src/passes/legalize.ts";
import { runPasses } from "../../src/passes/pass.ts";
import { tensorPasses } from "../../src/passes/pipeline.ts";
import { observe } from "../../src/passes/quantize/observe.ts";
import { planWeight } from "../../src/passes/quantize/policy.ts";
import { quantize } from "../../src/passes/quantize/quantize.ts";
import { randomNumbers, randomTensor, randomWeights } from "../../src/passes/validate.ts";
import { close } from "../arb/compare.ts";

const linear = parseModule(`
module @m entry @main {
func @main(%x: f32[2,40]) {
  %w: bf16[3,40] = weight {name="up_proj.weight"}
  %y: f32[2,3] = contract %x, %w {axes="n i, o i -> n o"}
  return %y
}
}`);

/** A block with what models have: an embedding, a router, merged and gathered weights, one summed over another axis. */
const block = parseModule(`
module @m entry @main {
func @main(%tokens: i32[3], %experts: i32[3,2]) {
  %w_embed: bf16[10,12] = weight {name="model.embed_tokens.weight"}
  %rows: bf16[3,12] = gather %w_embed, %tokens
  %embedded: f32[3,12] = cast %rows
  %x: f32[3,12] = neg %embedded
  %w_router: f32[4,12] = weight {name="a.mlp.gate.weight"}
  %router: f32[3,4] = contract %x, %w_router {axes="n i, o i -> n o"}
  %w_gate: bf16[9,12] = weight {name="a.mlp.shared.gate_proj.weight"}
  %gate: f32[3,9] = contract %x, %w_gate {axes="n i, o i -> n o"}
  %w_up: bf16[9,12] = weight {name="a.mlp.shared.up_proj.weight"}
  %up: f32[3,9] = contract %x, %w_up {axes="n i, o i -> n o"}
  %act: f32[3,9] = mul %gate, %up
  %w_down: bf16[12,9] = weight {name="a.mlp.shared.down_proj.weight"}
  %down: f32[3,12] = contract %act, %w_down {axes="n i, o i -> n o"}
  %w_experts: bf16[5,12,12] = weight {name="a.mlp.experts.{0}.up_proj.weight"}
  %chosen: bf16[3,2,12,12] = gather %w_experts, %experts
  %routed: f32[3,12] = contract %down, %chosen {axes="n i, n k o i -> n o"}
  %w_kv: bf16[2,12,7] = weight {name="a.kv_b_proj.weight"}
  %latent: f32[3,2,7] = contract %routed, %w_kv {axes="n d, h d r -> n h r"}
  %w_head: bf16[10,12] = weight {name="lm_head.weight"}
  %logits: f32[3,10] = contract %routed, %w_head {axes="n i, o i -> n o"}
  return %router, %latent, %logits
}
}`);

const blockInputs = [tensorOf("i32", [3], [1, 9, 4]), tensorOf("i32", [3, 2], [0, 4, 2, 2, 3, 1])];

function quantized(options: QuantizeOptions, module = linear) {
  return runPasses(module, [legalize(jsTarget), quantize(options)], jsTarget, { verify: 2 });
}

test("weights become codes and scales, and with activations the input too", () => {
  expect(printModule(quantized({ weights: "int4", activations: "int8" }))).toMatchInlineSnapshot(`
    "module @m entry @main {
    func @main(%x: f32[2,40]) {
      %x_scales: f16[2,2] = groupScales %x {group=32, method="range", to="i8"}
      %x_codes: i8[2,40] = quantizeGroups %x, %x_scales {group=32}
      %0: f32[2,40] = dequantizeGroups %x_codes, %x_scales {group=32}
      %w: bf16[3,40] = weight {name="up_proj.weight"}
      %w_scales: f16[3,2] = groupScales %w {group=32, method="mse", to="i4"}
      %w_codes: i4[3,40] = quantizeGroups %w, %w_scales {group=32}
      %1: f32[3,40] = dequantizeGroups %w_codes, %w_scales {group=32}
      %y: f32[2,3] = contract %0, %1 {axes="n i, o i -> n o"}
      return %y
    }
    }
    "
  `);
});

test("minimums where affine, a calibrated scale where static", () => {
  const options = { weights: "int4-affine", activations: "int8-static", method: "range" } as const;
  expect(printModule(quantized(options))).toMatchInlineSnapshot(`
    "module @m entry @main {
    func @main(%x: f32[2,40]) {
      %w_up_proj_input_scale: f16[1] = weight {name="up_proj.input_scale"}
      %0: f16[2,1] = broadcast %w_up_proj_input_scale
      %x_codes: i8[2,40] = quantizeGroups %x, %0 {group=40}
      %1: f32[2,40] = dequantizeGroups %x_codes, %0 {group=40}
      %w: bf16[3,40] = weight {name="up_proj.weight"}
      %w_scales: f16[3,2] = groupScales %w {group=32, method="range", to="u4"}
      %w_minimums: f16[3,2] = groupMinimums %w {group=32, method="range", to="u4"}
      %w_codes: u4[3,40] = quantizeGroups %w, %w_scales, %w_minimums {group=32}
      %2: f32[3,40] = dequantizeGroups %w_codes, %w_scales, %w_minimums {group=32}
      %y: f32[2,3] = contract %1, %2 {axes="n i, o i -> n o"}
      return %y
    }
    }
    "
  `);
});

test("for calibration, functions return how large the inputs are that need a scale", () => {
  const module = parseModule(`
module @m entry @main {
func @layer(%x: f32[2,40]) {
  %w: bf16[40,40] = weight {name="layers.{layer}.up_proj.weight"}
  %y: f32[2,40] = contract %x, %w {axes="n i, o i -> n o"}
  return %y
}

func @main(%x: f32[2,40]) {
  %a: f32[2,40] = call @layer %x {layer=0}
  %b: f32[2,40] = call @layer %a {layer=3}
  return %b
}
}`);
  const options = { weights: "int8", activations: "int8-static" } as const;
  const observed = runPasses(module, [legalize(jsTarget), observe(options)], jsTarget, { verify: 2 });
  expect(printModule(observed)).toMatchInlineSnapshot(`
    "module @m entry @main {
    func @layer(%x: f32[2,40]) {
      %w: bf16[40,40] = weight {name="layers.{layer}.up_proj.weight"}
      %0: f32[40,40] = cast %w
      %y: f32[2,40] = contract %x, %0 {axes="n i, o i -> n o"}
      %1: f32[80] = reshape %x
      %2: f32[80] = abs %1
      %layers._layer_.up_proj.input_scale: f32[] = reduceMax %2
      return %y, %layers._layer_.up_proj.input_scale
    }

    func @main(%x: f32[2,40]) {
      %a: f32[2,40], %layers.0.up_proj.input_scale: f32[] = call @layer %x {layer=0}
      %b: f32[2,40], %layers.3.up_proj.input_scale: f32[] = call @layer %a {layer=3}
      return %b, %layers.0.up_proj.input_scale, %layers.3.up_proj.input_scale
    }
    }
    "
  `);
  const none = runPasses(module, [legalize(jsTarget), observe({ weights: "int8" })], jsTarget, { verify: 2 });
  expect(printModule(none)).toBe(printModule(runPasses(module, [legalize(jsTarget)], jsTarget)));
});

test("nothing to quantise leaves the module as it is", () => {
  // verify 2 checks that it is the same object.
  const legal = runPasses(linear, [legalize(jsTarget)], jsTarget);
  expect(printModule(quantized({ weights: "none" }))).toBe(printModule(legal));
});

describe("what is held", () => {
  const held = (options: QuantizeOptions) => {
    const { plan } = compileToPlan(block, jsTarget, { quantize: options, verify: 2 });
    return plan.funcs.get("main")!.weights.map(({ type }) => showType(type));
  };

  test("codes and scales, merged where the formats are equal; the router stays", () => {
    expect(held({ weights: "int4", group: 4 })).toMatchInlineSnapshot(`
      [
        "f16[10,3]",
        "i8[10,12]",
        "f32[4,12]",
        "f16[18,3]",
        "i4[18,12]",
        "f16[12,3]",
        "i4[12,9]",
        "f16[5,12,3]",
        "i4[5,12,12]",
        "f16[2,12,2]",
        "i8[2,12,7]",
        "f16[10,3]",
        "i8[10,12]",
      ]
    `);
  });

  test("overrides decide first", () => {
    const types = held({ weights: "int4", group: 4, overrides: { "*.gate": "int8", "*_proj": "none" } });
    expect(types).toContain("i8[4,12]");
    expect(types.filter((type) => type.startsWith("i4"))).toEqual([]);
  });

  test("a fourth of the bytes at most", () => {
    const bytes = (options: object) => {
      const { plan } = compileToPlan(linear, jsTarget, options);
      return plan.funcs.get("main")!.weights.reduce((sum, { type }) => sum + byteSize(type), 0);
    };
    expect(bytes({})).toBe(3 * 40 * 4);
    expect(bytes({ quantize: { weights: "int4" } })).toBe((3 * 40) / 2 + 3 * 2 * 2);
  });
});

test("the policy's formats", () => {
  const format = (name: string, overrides = {}) =>
    planWeight(name, { weights: "int4", activations: "int8", overrides });
  expect(format("model.layers.{layer}.mlp.gate.weight").format).toBe("none");
  expect(format("model.layers.{layer}.mlp.gate_proj.weight")).toMatchObject({ format: "int4", activations: "int8" });
  expect(format("model.layers.{layer}.self_attn.kv_b_proj.weight")).toMatchObject({
    format: "int8",
    activations: "none",
  });
  expect(format("lm_head.weight").format).toBe("int8");
  expect(format("lm_head.weight", { "lm_*": "int4" }).format).toBe("int4");
  expect(format("model.layers.{layer}.mlp.experts.{0}.up_proj.weight", { "*.experts.*": "none" }).format).toBe("none");
  expect(planWeight("lm_head.weight", { weights: "none" }).format).toBe("none");
});

test("mistakes in the options are named", () => {
  const bad = (options: object) => () => quantized(options as QuantizeOptions);
  expect(bad({ weights: "int5" })).toThrow("quantize weights: expected none or int8");
  expect(bad({ weights: "int4", activation: "int8" })).toThrow("unknown option");
  expect(bad({ weights: "int4", group: 0.5 })).toThrow("quantize group");
  expect(bad({ weights: "int4", overrides: { "*.up_poj": "int8" } })).toThrow("matches no weight");
  expect(bad({ weights: "int4", overrides: { up_proj: "int3" } })).toThrow('overrides "up_proj"');
});

const policies = fc.record({
  weights: fc.constantFrom("int8" as const, "int4" as const, "int4-affine" as const),
  activations: fc.constantFrom("none" as const, "int8" as const),
  method: fc.constantFrom("mse" as const, "range" as const),
  group: fc.constantFrom(3, 4, 32),
});

test("a linear layer is off by what rounding its weights and inputs allows", () => {
  fc.assert(
    fc.property(policies, fc.nat(), (policy, seed) => {
      const weights = randomWeights(linear, seed);
      const x = randomTensor(linear.funcs.get("main")!.params[0]!.type, randomNumbers(seed));
      const exact = valuesOf(interpret(linear, [x], { weights })[0]!);
      const found = valuesOf(interpret(quantized({ ...policy, method: "range" }), [x], { weights })[0]!);
      const w = weights("up_proj.weight");
      const most = (values: Tensor) => Math.max(...valuesOf(values).map(Math.abs));
      const levels = { int8: 254, int4: 16, "int4-affine": 15 }[policy.weights];
      // No element is off by more than a step (half, but for i4's cut end), each 2 / levels of the largest at most.
      const offW = (2 / levels) * most(w) * 1.01;
      const offX = policy.activations === "int8" ? (most(x) / 254) * 1.01 : 0;
      const bound = 40 * (offW * (most(x) + offX) + offX * most(w)) + 1e-6;
      exact.forEach((y, i) => {
        expect(Math.abs(y - found[i]!)).toBeLessThanOrEqual(bound);
      });
    }),
    { numRuns: 60 },
  );
});

test("compiled programs, optimised or not, compute what the interpreter does on the quantised module", async () => {
  await fc.assert(
    fc.asyncProperty(policies, fc.nat({ max: 1000 }), async (policy, seed) => {
      const weights = randomWeights(block, seed);
      const module = runPasses(block, tensorPasses(jsTarget, { quantize: policy }), jsTarget, { verify: 2 });
      const expected = interpret(module, blockInputs, { weights });
      for (const optimize of [true, false]) {
        const actual = await compile(block, "js", { quantize: policy, optimize }).run(blockInputs, weights);
        // Weights and scales agree to the bit; sums are double on both sides and rounded once.
        close(actual, expected, { ulp: 16, absolute: 1e-6, finiteOnly: true });
      }
    }),
    { numRuns: 25 },
  );
});
