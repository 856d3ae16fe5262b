/** Values that invocations put together, in every way that shaders have for it, on a software GPU and in Dawn's compiler. */
import { describe, expect, test } from "vitest";
import { emitKernel } from "../../../src/backends/webgpu/emit.ts";
import { runOnce } from "../../../src/backends/webgpu/run-once.ts";
import { measureSubgroups, subgroupSizeOf } from "../../../src/backends/webgpu/subgroups.ts";
import { parseKernel } from "../../../src/ir/kernel/parse.ts";
import { runKernel } from "../../../src/ir/kernel/run.ts";
import { gpu, hasGpu, nullGpu } from "./gpu.ts";

const invocations = 64;
const pairs = [1, 2, 4, 8, 16, 32, 64].flatMap((over) =>
  [1, 2, 4, 8, 16].filter((apart) => over * apart <= invocations).map((apart) => [over, apart] as const),
);

/** All of them one after another, so that a place is used again; the last in a loop. */
const kernel = parseKernel(`kernel combines {
  write y: f32[${(pairs.length + 2) * invocations}]
  workgroup lane in 0 .. ${invocations} {
    ${pairs
      .map(
        ([over, apart], i) =>
          `combine a${i} = ${i % 3 === 1 ? "max" : "add"}(f32(lane * ${i + 1} % 61)) over ${over} apart ${apart}
    y[lane + ${i * invocations}] = a${i}`,
      )
      .join("\n    ")}
    for i in 0 .. 2 {
      combine again = add(f32(lane + i)) over 8 apart 8
      y[i * ${invocations} + lane + ${pairs.length * invocations}] = again
    }
  }
}`);

const expected = new Float32Array((pairs.length + 2) * invocations);
runKernel(kernel, [expected]);

test("sums are of those that are so far apart", () => {
  const at = pairs.findIndex(([over, apart]) => over === 4 && apart === 16);
  // Numbers 5, 21, 37 and 53, times the factor.
  const all = [5, 21, 37, 53].map((lane) => (lane * (at + 1)) % 61);
  expect(expected[at * invocations + 5]).toBe(at % 3 === 1 ? Math.max(...all) : all.reduce((a, b) => a + b));
});

test.each([0, 4, 8, 16, 32, 64])("subgroups of %i: the shader is valid", async (subgroup) => {
  const device = await (await nullGpu.requestAdapter())!.requestDevice({ requiredFeatures: ["subgroups"] }); // always there
  device.pushErrorScope("validation");
  const { source } = emitKernel(kernel, { subgroup });
  const module = device.createShaderModule({ code: source });
  device.createComputePipeline({ layout: "auto", compute: { module, entryPoint: "main" } });
  expect((await device.popErrorScope())?.message, source).toBeUndefined();
  device.destroy();
});

describe.skipIf(!hasGpu)("on a GPU", () => {
  test.each(["with subgroups", "by shared memory alone"])("they are what the executor says: %s", async (how) => {
    const adapter = (await gpu.requestAdapter())!;
    const requiredFeatures = (["subgroups"] as const).filter((name) => adapter.features.has(name));
    const device = await adapter.requestDevice({ requiredFeatures });
    await measureSubgroups(device);
    const subgroup = how === "with subgroups" ? subgroupSizeOf(device) : 0;
    const { source } = emitKernel(kernel, { subgroup });
    const found = new Float32Array((await runOnce(device, source, expected.length, [], 1)).buffer);
    expect([...found]).toEqual([...expected]);
    device.destroy();
  });
});
