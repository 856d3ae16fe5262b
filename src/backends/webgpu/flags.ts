/** Usage flags by number: the specification fixes them, and Node has no global `GPUBufferUsage`. */
const mapRead = 0x1;
const copySource = 0x4;
const copyDestination = 0x8;
const storage = 0x80;
const queryResolve = 0x200;

export const GPUBufferUse = {
  /** Bound by kernels, copied to and from. */
  tensor: storage | copySource | copyDestination,
  /** Copied to by the GPU, then read by the host. */
  staging: mapRead | copyDestination,
  timestamps: queryResolve | copySource,
} as const;

export const computeStage = 0x4;
export const mapForReading = 0x1;
