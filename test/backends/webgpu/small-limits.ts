/** GPUs that say they have smaller limits than WebGPU lets one ask for, and note what is asked for beyond them. */

export interface SmallLimits {
  readonly maxStorageBufferBindingSize: number;
  readonly maxBufferSize: number;
}

export interface LimitedGpu {
  readonly gpu: GPU;
  /** What was asked for beyond the limits. */
  readonly problems: readonly string[];
  /** Sizes of the buffers made. */
  readonly buffers: readonly number[];
  /** Most bindings of a bind group. */
  readonly mostBindings: () => number;
}

export function limitedGpu(gpu: GPU, own: SmallLimits): LimitedGpu {
  const problems: string[] = [];
  const buffers: number[] = [];
  let mostBindings = 0;
  const check = (bytes: number, most: number, what: string) => {
    if (bytes > most) problems.push(`${what} of ${bytes} bytes, at most ${most}`);
  };
  const limitedDevice = (device: GPUDevice) =>
    changed(device, {
      limits: changed(device.limits, own),
      createBuffer: (descriptor) => {
        check(descriptor.size, own.maxBufferSize, `buffer ${descriptor.label ?? ""}`);
        buffers.push(descriptor.size);
        return device.createBuffer(descriptor);
      },
      createBindGroup: (descriptor) => {
        const entries = [...descriptor.entries];
        mostBindings = Math.max(mostBindings, entries.length);
        for (const { resource } of entries) {
          const { buffer, size } = resource as GPUBufferBinding; // kernels bind nothing else
          check(size ?? buffer.size, own.maxStorageBufferBindingSize, `binding of ${descriptor.label}`);
        }
        return device.createBindGroup(descriptor);
      },
    });
  const limitedAdapter = (adapter: GPUAdapter) =>
    changed(adapter, {
      limits: changed(adapter.limits, own),
      // Less than the defaults cannot be asked for.
      requestDevice: async (descriptor) =>
        limitedDevice(
          await adapter.requestDevice({
            ...descriptor,
            requiredLimits: {
              ...descriptor?.requiredLimits,
              maxStorageBufferBindingSize: 2 ** 27,
              maxBufferSize: 2 ** 28,
            },
          }),
        ),
    });
  const limited = changed(gpu, {
    requestAdapter: async (options) => {
      const adapter = await gpu.requestAdapter(options);
      return adapter && limitedAdapter(adapter);
    },
  });
  return { gpu: limited, problems, buffers, mostBindings: () => mostBindings };
}

/** The object with some members replaced. */
function changed<T extends object>(object: T, members: Partial<T>): T {
  return new Proxy(object, {
    get: (target, name) => {
      if (name in members) return members[name as keyof T]; // a key of `members`
      // Methods of WebGPU's objects must be called on themselves.
      const value: unknown = Reflect.get(target, name);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}
