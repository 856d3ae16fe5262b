/** WebGPU under Node: Dawn, out of the optional package `webgpu`. Imported when first needed, so that a browser bundle can leave it out. */
import { UnsupportedError } from "../ir/errors.ts";

const packageName = "webgpu";

/** Dawn's flags without which adapters do not offer their matrix units. */
export const unitFlags = ["enable-dawn-features=allow_unsafe_apis,use_vulkan_memory_model"];

/** Dawn under Node frees what a device needs when nobody holds the GPU object that it came from any more. */
const held = new Map<string, GPU>();

/**
 * The GPU of this process; `flags` are Dawn's, such as `backend=null`.
 * @throws UnsupportedError when the package is not installed or cannot be loaded
 */
export async function openNodeGpu(flags: readonly string[] = []): Promise<GPU> {
  const key = flags.join(" ");
  const known = held.get(key);
  if (known !== undefined) return known;
  // By a name in a variable, so that bundlers for browsers leave the package alone.
  const loading: Promise<typeof import("webgpu")> = import(packageName);
  const loaded = await loading.catch((cause: unknown) => {
    throw new UnsupportedError("webgpu", `Node's WebGPU cannot be loaded: ${reason(cause)}`, {
      hint: "Install it beside this package: npm install webgpu@0.6.2.",
      cause,
    });
  });
  const gpu = loaded.create([...flags]);
  held.set(key, gpu);
  return gpu;
}

function reason(error: unknown): string {
  return error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error);
}
