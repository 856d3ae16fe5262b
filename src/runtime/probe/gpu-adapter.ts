/** What a WebGPU adapter says of itself. */

/** Whether the processor does the work: such a GPU is there to try things, and slower than WebAssembly. */
export function isSoftwareGpu({ isFallbackAdapter, architecture, description, device }: GPUAdapterInfo): boolean {
  return (
    isFallbackAdapter || /software|swiftshader|lavapipe|llvmpipe/i.test(`${architecture} ${description} ${device}`)
  );
}

/** For people: `nvidia hopper`, or what its makers call it. */
export function gpuName({ description, vendor, architecture, device }: GPUAdapterInfo): string {
  return (
    description || [vendor, architecture || device].filter((part) => part !== "").join(" ") || "a GPU without a name"
  );
}
