/**
 * Products by matrix units: their shaders through Dawn's compiler, the same kernels without units on a software GPU, and a
 * device that is asked what its units compute. No device here has such units.
 */
import { describe, expect, test } from "vitest";
import { makeContext } from "../../../src/backends/webgpu/context.ts";
import { emitKernel } from "../../../src/backends/webgpu/emit.ts";
import { matrixFeature, matrixUnitsOf, measureMatrixUnits } from "../../../src/backends/webgpu/matrix-units.ts";
import { measureSubgroups } from "../../../src/backends/webgpu/subgroups.ts";
import { compileToPlan } from "../../../src/compile.ts";
import { interpret } from "../../../src/ir/interpret.ts";
import { printKernel } from "../../../src/ir/kernel/print.ts";
import { openNodeGpu, unitFlags } from "../../../src/runtime/node-gpu.ts";
import { inputsOf, type Product, productModule } from "../../passes/lower/products.ts";
import { unitKernels } from "./corpus.ts";
import { hasGpu, openGpu } from "./gpu.ts";

const ofNvidia = { subgroup: 32, sizes: [{ m: 16, n: 16, k: 32 }] };
const product: Product = { lead: [64], blocks: 9, groups: 3, bits: 4, affine: false, epilogue: true };

test("shaders with units are valid", async () => {
  const gpu = await openNodeGpu(["backend=null", ...unitFlags]);
  const adapter = (await gpu.requestAdapter())!; // the null backend has one always
  const device = await adapter.requestDevice({ requiredFeatures: ["subgroups", matrixFeature] });
  const kernels = unitKernels();
  expect(kernels.length).toBe(2);
  for (const { kernel } of kernels) {
    const { source } = emitKernel(kernel, { subgroup: 32, matrixUnits: true });
    expect(source).toContain("subgroupMatrixMultiplyAccumulate");
    device.pushErrorScope("validation");
    const module = device.createShaderModule({ code: source });
    // Workgroups of the null backend's subgroups, which have up to 128 invocations.
    if (source.includes("@workgroup_size(128)"))
      device.createComputePipeline({ layout: "auto", compute: { module, entryPoint: "main" } });
    expect((await device.popErrorScope())?.message, source).toBeUndefined();
  }
  device.destroy();
});

describe.skipIf(!hasGpu)("on a software GPU, without units", () => {
  const ofFour = { subgroup: 4, sizes: [{ m: 16, n: 8, k: 16 }] };
  test.each([ofNvidia, ofFour])("products for $subgroup neighbours are what the interpreter says", async (matrices) => {
    const device = await openGpu();
    for (const module of [productModule(product), productModule({ ...product, lead: [20], bits: 8, affine: true })]) {
      const { plan } = compileToPlan(module, { ...device.target, matrices });
      expect(plan.kernels.map(printKernel).join()).toContain("multiply tile_sums");
      const inputs = inputsOf(module, 7);
      const instance = device.load(plan).instantiate({ weight: () => new Float32Array() });
      for (const [i, { data }] of inputs.entries()) instance.params[i]!.set(data);
      await instance.run();
      const [expected] = interpret(module, inputs);
      expect([...instance.results[0]!]).toEqual([...expected!.data]);
      instance.release();
    }
    await device.close();
  });
});

interface Spoiled {
  readonly features?: readonly GPUFeatureName[];
  readonly configs?: readonly object[];
  /** What the compiler says. */
  readonly refuses?: string;
  /** Changes the product. */
  readonly spoil?: (result: Int32Array) => void;
}

const config = { componentType: "i8", resultComponentType: "i32", M: 16, N: 16, K: 32 };
const others = { ...config, componentType: "f16", resultComponentType: "f32", K: 16 };

/** A device of subgroups of 32 that multiplies what it is given, in plain loops. */
function deviceOf({ features = ["subgroups", matrixFeature], refuses, spoil }: Spoiled): GPUDevice {
  const written: Int8Array[] = [];
  let [sizes, asksUnits]: [number[], boolean] = [[], false];
  const product = () => {
    const [left, right] = written as [Int8Array, Int8Array];
    const [tokens, rows] = [left.length / 32, right.length / 32];
    const result = Int32Array.from({ length: tokens * rows }, (_, i) => {
      const [token, row] = [Math.floor(i / rows), i % rows];
      const sum = Array.from({ length: 32 }, (_, k) => left[32 * token + k]! * right[32 * row + k]!);
      return sum.reduce((a, b) => a + b, 0x4b400000);
    });
    spoil?.(result);
    return result.buffer;
  };
  const places = () => Uint32Array.from({ length: 128 }, (_, i) => 32 * 256 + (i % 32)).buffer;
  const nothing = () => ({});
  const fake = {
    adapterInfo: { subgroupMinSize: 32, subgroupMaxSize: 32 },
    features: new Set(features),
    limits: {
      maxComputeInvocationsPerWorkgroup: 256,
      maxComputeWorkgroupSizeX: 256,
      maxComputeWorkgroupStorageSize: 49152,
    },
    lost: new Promise(() => {}),
    pushErrorScope: () => {},
    popErrorScope: async () => (refuses !== undefined && asksUnits ? { message: refuses } : null),
    createShaderModule: ({ code }: { code: string }) => {
      asksUnits = code.includes("enable chromium_experimental_subgroup_matrix;");
      return {};
    },
    createBindGroupLayout: nothing,
    createPipelineLayout: nothing,
    createComputePipeline: nothing,
    createBindGroup: nothing,
    createBuffer: ({ size }: { size: number }) => {
      sizes.push(size);
      return { destroy: () => {}, mapAsync: async () => {}, getMappedRange: () => (asksUnits ? product() : places()) };
    },
    createCommandEncoder: () => ({
      beginComputePass: () => ({
        setPipeline: nothing,
        setBindGroup: nothing,
        dispatchWorkgroups: nothing,
        end: nothing,
      }),
      copyBufferToBuffer: nothing,
      finish: nothing,
    }),
    queue: {
      submit: nothing,
      writeBuffer: (_: unknown, __: number, data: Uint32Array) => written.push(new Int8Array(data.buffer)),
    },
  };
  return fake as unknown as GPUDevice; // what the probes use of one
}

async function foundOn(spoiled: Spoiled) {
  const device = deviceOf(spoiled);
  await measureSubgroups(device);
  const { configs = [others, config] } = spoiled;
  // What the probe asks of one; Dawn under Node does not list them on the device.
  await measureMatrixUnits(device, { info: { subgroupMatrixConfigs: configs } } as unknown as GPUAdapter);
  return { device, ...matrixUnitsOf(device)! };
}

test("units that multiply rightly are used until they are switched off", async () => {
  const { device, units, text } = await foundOn({});
  expect(units).toEqual(ofNvidia);
  expect(text).toBe("matrix units 16 x 16 x 32");
  const context = makeContext(device);
  expect(context.limits.matrices).toEqual(ofNvidia);
  expect(context.matrixUnits).toBe(true);
  expect(context.variants.names()).toContain("matrix units");
  for (const name of ["matrix units", "subgroups"]) {
    context.variants.use(name, false);
    expect([context.limits.matrices, context.matrixUnits]).toEqual([null, false]);
    context.variants.use(name, true);
  }
  expect(context.matrixUnits).toBe(true);
});

test.each<[Spoiled, string]>([
  [{ spoil: (result) => result[77]!++ }, "no matrix units: 16 x 16 x 32 give"],
  [{ refuses: "no such builtin" }, "no matrix units: 16 x 16 x 32 are refused: no such builtin"],
  [{ features: ["subgroups"] }, "no matrix units: the adapter does not offer them"],
  [{ features: [matrixFeature] }, "no matrix units: subgroups are no runs of neighbours"],
  [{ configs: [others] }, "no matrix units: none for signed bytes among f16 to f32 16 x 16 x 16"],
])("units that do not are not: %#", async (spoiled, why) => {
  const { device, units, text } = await foundOn(spoiled);
  expect(units).toBeNull();
  expect(text.startsWith(why), text).toBe(true);
  expect(makeContext(device).limits.matrices).toBeNull();
});
