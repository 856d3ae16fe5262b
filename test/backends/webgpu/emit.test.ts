/** Every shader of the test corpus, through Dawn's own compiler, which needs no driver; and one to be read. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { emitKernel } from "../../../src/backends/webgpu/emit.ts";
import type { Kernel } from "../../../src/ir/kernel/kernel.ts";
import { parseKernel } from "../../../src/ir/kernel/parse.ts";
import { leastWebGpu, webgpuTargetOf } from "../../../src/ir/target.ts";
import { goldenNames } from "../../models/read-golden.ts";
import { caseKernels, goldenKernels, longProductKernels } from "./corpus.ts";
import { nullGpu } from "./gpu.ts";

let device: GPUDevice;
beforeAll(async () => {
  device = await (await nullGpu.requestAdapter())!.requestDevice({ requiredFeatures: ["subgroups"] }); // the null backend has an adapter always
});
afterAll(() => device.destroy());

/** What the shader compiler and the validation of pipelines find wrong. */
async function problemsOf(source: string, fits = true): Promise<string[]> {
  device.pushErrorScope("validation");
  const module = device.createShaderModule({ code: source });
  // The null backend has the least limits.
  if (fits) device.createComputePipeline({ layout: "auto", compute: { module, entryPoint: "main" } });
  const error = await device.popErrorScope();
  return error === null ? [] : [error.message];
}

/** What is wrong with a kernel's shader, bound apart from what it writes and beside it. */
async function problemsOfKernel(kernel: Kernel, { buffers } = leastWebGpu): Promise<string[]> {
  const inputs = kernel.bufs.filter(({ access, space }) => access === "read" && space === "global");
  const wrong: string[] = [];
  const beside = new Set(inputs.map((buf) => buf.name));
  for (const options of [{}, { shared: beside }, { subgroup: 4 }, { subgroup: 32 }, { packedDot: false }]) {
    const { source, access } = emitKernel(kernel, options);
    if (options.packedDot === false && !source.includes("dot4s8")) continue;
    if (options.subgroup !== undefined && !source.includes("enable subgroups")) continue; // the same as without
    if (access.length > buffers) wrong.push(`${kernel.name}: ${access.length} buffers`);
    for (const problem of await problemsOf(source, buffers === leastWebGpu.buffers))
      wrong.push(`${kernel.name}: ${problem}\n${source}`);
  }
  return wrong;
}

test.each(goldenNames.flatMap((name) => [1, 40].map((tokens) => [name, tokens] as const)))(
  "the shaders of %s for %i tokens are valid within the limits of every device",
  async (name, tokens) => {
    const wrong: string[] = [];
    for (const kernel of goldenKernels(name, tokens)) wrong.push(...(await problemsOfKernel(kernel)));
    expect(wrong).toEqual([]);
  },
);

test("products of long rows share no more memory than every device has, whatever its subgroups", async () => {
  const kernels = longProductKernels();
  expect(kernels.length).toBe(8);
  const wrong: string[] = [];
  for (const { name, kernel } of kernels) {
    for (const subgroup of [0, 4, 8, 16, 32])
      for (const problem of await problemsOf(emitKernel(kernel, { subgroup }).source))
        wrong.push(`${name}, subgroups of ${subgroup}: ${problem}`);
  }
  expect(wrong).toEqual([]);
});

const large = { ...leastWebGpu, buffers: 16, invocations: 1024, sharedBytes: 49152 };
test.each(goldenNames.flatMap((name) => (["int4", "int8"] as const).map((weights) => [name, weights] as const)))(
  "the shaders of %s at %s for a token are valid where limits are large",
  async (name, weights) => {
    const options = { quantize: { weights, activations: "int8" } } as const;
    const wrong: string[] = [];
    for (const kernel of goldenKernels(name, 1, { target: webgpuTargetOf(large), options }))
      wrong.push(...(await problemsOfKernel(kernel, large)));
    expect(wrong).toEqual([]);
  },
);

describe.each([{}, { optimize: false }])("with options %o", (options) => {
  test("the shaders of every op case are valid within the limits of every device", async () => {
    const wrong: string[] = [];
    for (const { name, kernel } of caseKernels(options))
      wrong.push(...(await problemsOfKernel(kernel)).map((problem) => `${name}: ${problem}`));
    expect(wrong).toEqual([]);
  });
});

test("a fused kernel reads as if written by hand", async () => {
  const { source, workgroups } = emitKernel(
    parseKernel(`kernel linear_silu from "%3: f32[2,4] = contract %x, %w", "%4 = silu %3" {
  read x: f32[16] // f32[2,8]
  read w: bf16[32] // bf16[4,8]
  write y: f32[8] // f32[2,4]
  write best: i8[2]
  grid n in 0 .. 2 {
    grid j in 0 .. 4 {
      var sum: f32 = 0.0
      for k in 0 .. 8 {
        sum = sum + x[n * 8 + k] * w[j * 8 + k]
      }
      note "silu"
      y[n * 4 + j] = sum * sigmoid(sum) + -inf
    }
  }
  grid l in 0 .. 2 {
    best[l] = i32(x[l])
  }
}
`),
  );
  expect(await problemsOf(source)).toEqual([]);
  expect(workgroups).toEqual([1, 1]);
  expect(source).toMatchInlineSnapshot(`
    "// linear_silu
    //   %3: f32[2,4] = contract %x, %w
    //   %4 = silu %3

    @group(0) @binding(0) var<storage, read> x: array<f32>; // f32[2,8]
    @group(0) @binding(1) var<storage, read> w: array<u32>; // bf16[4,8]
    @group(0) @binding(2) var<storage, read_write> y: array<f32>; // f32[2,4]
    @group(0) @binding(3) var<storage, read_write> best: array<atomic<u32>>; // i8[2]

    var<private> infinity_bits: u32 = 0x7f800000u;
    fn infinity() -> f32 { return bitcast<f32>(infinity_bits); }
    fn is_nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }
    fn f32_to_i32(x: f32) -> i32 {
      if (is_nan(x)) { return 0; }
      if (x >= 2147483648.0) { return 2147483647; }
      return select(i32(x), -2147483648, x <= -2147483648.0);
    }

    fn load_w(i: i32) -> f32 { return bitcast<f32>(((w[i >> 1u] >> ((u32(i) & 1u) * 16u)) & 65535u) << 16u); }
    fn store_best(i: i32, value: i32) {
      let shift = ((u32(i) & 3u) * 8u);
      atomicAnd(&best[i >> 2u], ~(255u << shift));
      atomicOr(&best[i >> 2u], (bitcast<u32>(clamp(value, -128, 127)) & 255u) << shift);
    }

    @compute @workgroup_size(8)
    fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
      let group_index = i32(group.x);
      let id = group_index * 8 + i32(lane);
      {
        let n = id / 4;
        let j = id % 4;
        var sum: f32 = 0.0;
        for (var k = 0; k < 8; k++) {
          sum += x[n * 8 + k] * load_w(j * 8 + k);
        }
        // silu
        y[n * 4 + j] = sum * (1.0 / (1.0 + exp(-sum))) + -infinity();
      }
      if (id < 2) {
        let l = id;
        store_best(l, f32_to_i32(x[l]));
      }
    }
    "
  `);
});
