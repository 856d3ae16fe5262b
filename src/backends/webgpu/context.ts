/** One GPU device: what it offers, and what went wrong on it, since WebGPU reports errors later than they are made. */
import { type CompilerError, UnsupportedError } from "../../ir/errors.ts";
import { leastWebGpu, type WebGpuLimits } from "../../ir/target.ts";
import type { Device } from "../backend.ts";
import { matrixFeature, matrixUnitsOf, measureMatrixUnits } from "./matrix-units.ts";
import { measureSubgroups, subgroupSizeOf } from "./subgroups.ts";

export interface GpuContext {
  readonly device: GPUDevice;
  readonly limits: WebGpuLimits;
  /** Neighbours of a workgroup that make a subgroup; 0 where subgroups are not to be used. */
  readonly subgroup: number;
  /** Whether products of packed bytes are one operation, or are put together from others. */
  readonly packedDot: boolean;
  /** Whether products of matrices are made by the device's units. */
  readonly matrixUnits: boolean;
  /** What kernels may use of what the device offers. */
  readonly variants: NonNullable<Device["variants"]>;
  /** Largest buffer, in bytes. What is larger is several, of `limits.binding.part` bytes each. */
  readonly bufferBytes: number;
  /** Runs `make`; an error that WebGPU finds in it is thrown by `check` later. */
  readonly watch: <T>(what: () => string, make: () => T) => T;
  /** Waits for what is being watched. @throws UnsupportedError for the first thing that went wrong, or a lost device */
  readonly check: () => Promise<void>;
}

/** The adapter's limits that are asked for; others keep their default. */
const wantedLimits = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxComputeWorkgroupStorageSize",
] as const;

/** Features that kernels can use, where the adapter has them. */
const wantedFeatures: readonly GPUFeatureName[] = ["timestamp-query", "subgroups"];
const unitVariant = "matrix units";

/** A device with all that the adapter gives, `matrixUnits` if they are asked for. @throws UnsupportedError when there is no adapter */
export async function requestGpuDevice(gpu: GPU | undefined, matrixUnits = false): Promise<GPUDevice> {
  if (gpu === undefined) {
    throw new UnsupportedError("webgpu", "there is no WebGPU here", {
      hint: "Browsers offer it on secure pages (https or localhost); under Node install the package webgpu.",
    });
  }
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  if (adapter === null) {
    throw new UnsupportedError("webgpu", "no GPU adapter was found", {
      hint: "A graphics driver with Vulkan, Metal or Direct3D 12 is needed; Linux also needs libvulkan.so.1.",
    });
  }
  const requiredLimits = Object.fromEntries(wantedLimits.map((name) => [name, adapter.limits[name]]));
  const requiredFeatures = [...wantedFeatures, ...(matrixUnits ? [matrixFeature] : [])].filter((name) =>
    adapter.features.has(name),
  );
  try {
    const device = await adapter.requestDevice({ requiredLimits, requiredFeatures });
    await measureSubgroups(device);
    if (matrixUnits) await measureMatrixUnits(device, adapter);
    return device;
  } catch (cause) {
    throw new UnsupportedError("webgpu", `the adapter gave no device: ${reasonOf(cause)}`, { cause });
  }
}

export function makeContext(device: GPUDevice): GpuContext {
  const { limits } = device;
  const watched = new Set<Promise<void>>();
  let failure: CompilerError | null = null;
  const fail = (error: CompilerError) => {
    failure ??= error;
  };
  void device.lost.then(({ reason, message }) => {
    fail(
      new UnsupportedError("webgpu", `the device was lost (${reason}): ${message}`, { hint: "Load the model again." }),
    );
  });
  const watch = <T>(what: () => string, make: () => T): T => {
    device.pushErrorScope("out-of-memory");
    device.pushErrorScope("validation");
    try {
      return make();
    } finally {
      const settled = async (scope: Promise<GPUError | null>, meaning: string) => {
        const error = await scope;
        if (error !== null) fail(new UnsupportedError("webgpu", `${what()}: ${meaning}: ${error.message}`));
      };
      const both = Promise.all([
        settled(device.popErrorScope(), "refused"),
        settled(device.popErrorScope(), "out of memory"),
        // A lost device answers nothing more.
      ]).then(
        () => {},
        (cause: unknown) => fail(new UnsupportedError("webgpu", `${what()}: ${reasonOf(cause)}`, { cause })),
      );
      watched.add(both);
      void both.then(() => watched.delete(both));
    }
  };
  const off = new Set<string>();
  // They are known to work for the subgroups that were measured alone.
  const units = () => (off.has(unitVariant) || off.has("subgroups") ? null : (matrixUnitsOf(device)?.units ?? null));
  return {
    device,
    limits: {
      // A processor that plays GPU switches between the invocations of a workgroup at every barrier.
      invocations: device.adapterInfo.isFallbackAdapter
        ? 32
        : Math.min(limits.maxComputeInvocationsPerWorkgroup, limits.maxComputeWorkgroupSizeX),
      sharedBytes: limits.maxComputeWorkgroupStorageSize,
      buffers: Math.max(limits.maxStorageBuffersPerShaderStage, leastWebGpu.buffers),
      binding: { most: limits.maxStorageBufferBindingSize, part: partBytesOf(limits) },
      get matrices() {
        return units();
      },
    },
    get matrixUnits() {
      return units() !== null;
    },
    get subgroup() {
      return off.has("subgroups") ? 0 : subgroupSizeOf(device);
    },
    get packedDot() {
      return !off.has("packed dot products");
    },
    variants: {
      names: () => [
        ...(subgroupSizeOf(device) > 0 ? ["subgroups"] : []),
        "packed dot products",
        ...(matrixUnitsOf(device)?.units ? [unitVariant] : []),
      ],
      use: (name, on) => void (on ? off.delete(name) : off.add(name)),
    },
    bufferBytes: limits.maxBufferSize,
    watch,
    check: async () => {
      await Promise.all(watched);
      if (failure !== null) throw failure;
    },
  };
}

/** A power of two, so that shifts tell in which part an element lies. */
function partBytesOf({ maxStorageBufferBindingSize, maxBufferSize }: GPUSupportedLimits): number {
  return 2 ** Math.floor(Math.log2(Math.min(maxStorageBufferBindingSize, maxBufferSize)));
}

export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
