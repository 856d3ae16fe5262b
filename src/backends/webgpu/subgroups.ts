/**
 * How many neighbours of a workgroup make a subgroup. WebGPU tells a range of sizes and not which invocations belong
 * together, so a kernel that writes down what it finds is run once on each device.
 */
import { runOnce } from "./run-once.ts";

const sizes = new WeakMap<GPUDevice, number>();
const invocations = 64;

/** The size that `measureSubgroups` found; 0 where subgroups are not to be used, or it was not asked. */
export function subgroupSizeOf(device: GPUDevice): number {
  return sizes.get(device) ?? 0;
}

/** Finds the device's subgroups. Never throws: without them kernels are slower, and right. */
export async function measureSubgroups(device: GPUDevice): Promise<void> {
  const { subgroupMinSize = 0, subgroupMaxSize = 0 } = device.adapterInfo;
  if (!device.features.has("subgroups") || subgroupMinSize !== subgroupMaxSize || subgroupMinSize < 2) return;
  try {
    const found = await run(device);
    const neighbours = found.every((word, lane) => word === subgroupMinSize * 256 + (lane % subgroupMinSize));
    if (neighbours) sizes.set(device, subgroupMinSize);
  } catch {
    // The device is lost or cannot compile this; whoever uses it next hears about it.
  }
}

/** For each invocation of two workgroups: 256 times the size of its subgroup plus its place in it. */
function run(device: GPUDevice): Promise<Uint32Array> {
  const code = `enable subgroups;
@group(0) @binding(0) var<storage, read_write> found: array<u32>;
@compute @workgroup_size(${invocations})
fn main(
  @builtin(global_invocation_id) id: vec3u,
  @builtin(subgroup_invocation_id) place: u32,
  @builtin(subgroup_size) size: u32,
) {
  found[id.x] = size * 256u + place;
}`;
  return runOnce(device, code, 2 * invocations, [], 2);
}
