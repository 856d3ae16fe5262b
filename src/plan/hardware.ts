/**
 * Devices and links as plans see them: what they hold, how fast they read, compute and exchange, and how much of that
 * software reaches. Peak figures are the makers'; the fractions are what runs on such devices was seen to reach
 * (docs/plans.md says where each is from).
 */
import { didYouMean, InputError } from "../ir/errors.ts";

export interface DeviceSpec {
  readonly name: string;
  /** Bytes. */
  readonly memory: number;
  /** Peak memory bandwidth, bytes/s. */
  readonly bandwidth: number;
  /** Peak multiply-adds of matrix products, counted as two operations, per second: of the weights' format. */
  readonly flops: number;
  /** The same for attention, which runs in 16 bits. */
  readonly attentionFlops: number;
  /** True for a processor, which no GPU API reaches. */
  readonly processor?: boolean;
}

export interface LinkSpec {
  /** Bytes/s in each direction, of one device. */
  readonly bandwidth: number;
  /** Seconds until the first byte arrives. */
  readonly latency: number;
  /** Groups of neighbours with a faster link among themselves, as on one board. */
  readonly near?: { readonly size: number; readonly bandwidth: number; readonly latency: number };
}

/** What software makes of hardware. */
export interface Software {
  /** Fractions of the peaks that are reached. */
  readonly bandwidthUse: number;
  readonly flopsUse: number;
  readonly attentionUse: number;
  readonly linkUse: number;
  /** Seconds per layer that nothing hides: launches, norms, routing. */
  readonly layerOverhead: number;
  /** Seconds per collective besides the link's latency: entering, waiting for the last one. */
  readonly collectiveOverhead: number;
  /** How much of the shorter of computing and exchanging is hidden behind the longer. */
  readonly overlap: number;
  /** Of the memory, what weights and caches may fill. */
  readonly memoryUse: number;
}

const [GB, TB, T] = [1e9, 1e12, 1e12];
const GiB = 2 ** 30;

/** By name for `--device`. Peaks from the makers' data sheets, dense, FP8 where there is FP8. */
export const devices = {
  "rtx-4090": { memory: 24 * GiB, bandwidth: 1008 * GB, flops: 330 * T, attentionFlops: 165 * T },
  "a100-80": { memory: 80 * GiB, bandwidth: 2.04 * TB, flops: 312 * T, attentionFlops: 312 * T },
  h100: { memory: 80 * GiB, bandwidth: 3.35 * TB, flops: 1979 * T, attentionFlops: 989 * T },
  h800: { memory: 80 * GiB, bandwidth: 3.35 * TB, flops: 1979 * T, attentionFlops: 989 * T },
  h200: { memory: 141 * GB, bandwidth: 4.8 * TB, flops: 1979 * T, attentionFlops: 989 * T },
  b200: { memory: 180 * GB, bandwidth: 8 * TB, flops: 4500 * T, attentionFlops: 2250 * T },
  "m3-ultra-512": { memory: 512 * GiB, bandwidth: 819 * GB, flops: 57 * T, attentionFlops: 57 * T },
  "desktop-cpu": { memory: 32 * GiB, bandwidth: 60 * GB, flops: 1 * T, attentionFlops: 0.5 * T, processor: true },
} as const satisfies Record<string, Omit<DeviceSpec, "name">>;

/** Of a tuned engine on data-centre devices. */
export const tuned: Software = {
  bandwidthUse: 0.8,
  flopsUse: 0.4,
  attentionUse: 0.6,
  linkUse: 0.9,
  layerOverhead: 20e-6,
  collectiveOverhead: 10e-6,
  overlap: 0.5,
  memoryUse: 0.92,
};

export const links = {
  /** Between GPUs that WebGPU under Node drives, a process each: read back, sent through a socket, written again (docs/plans.md). */
  "webgpu-host": { bandwidth: 0.7 * GB, latency: 0.45e-3 },
  pcie4: { bandwidth: 32 * GB, latency: 10e-6 },
  nvlink: { bandwidth: 200 * GB, latency: 3e-6 },
  infiniband: { bandwidth: 50 * GB, latency: 8e-6, near: { size: 8, bandwidth: 200 * GB, latency: 3e-6 } },
  "thunderbolt-rdma": { bandwidth: 10 * GB, latency: 45e-6 },
  ethernet10: { bandwidth: 1.25 * GB, latency: 100e-6 },
  ethernet1: { bandwidth: 0.125 * GB, latency: 200e-6 },
} as const satisfies Record<string, LinkSpec>;

/** @throws InputError naming the nearest preset. */
export function findDevice(name: string): DeviceSpec {
  if (!Object.hasOwn(devices, name)) throw unknown("plan --device", "device", name, Object.keys(devices));
  return { name, ...devices[name as keyof typeof devices] }; // checked above
}

function unknown(where: string, what: string, name: string, names: readonly string[]): InputError {
  const hint = didYouMean(name, names) ?? `Known: ${names.join(", ")}.`;
  return new InputError(where, `there is no ${what} ${JSON.stringify(name)}`, { hint });
}

const units: Readonly<Record<string, number>> = {
  "": 1,
  B: 1,
  kB: 1e3,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
};

/** "24GiB", "900 GB", "1e9": bytes. */
export function parseBytes(text: string, where: string): number {
  const match = /^\s*(\d+(?:\.\d+)?(?:e\d+)?)\s*([A-Za-z]*)\s*$/.exec(text);
  const unit = match && Object.hasOwn(units, match[2]!) ? units[match[2]!] : undefined;
  const value = unit === undefined ? Number.NaN : Number(match![1]) * unit;
  if (!(value > 0 && value < 2 ** 60))
    throw new InputError(where, `expected a size such as 24GiB, got ${JSON.stringify(text)}`);
  return value;
}

/** "32GB/s,10us", or the name of a preset: a link. */
export function parseLink(text: string, where: string): LinkSpec {
  if (Object.hasOwn(links, text)) return links[text as keyof typeof links]; // checked
  const [rate = "", delay = "", ...more] = text.split(",");
  const time = /^\s*(\d+(?:\.\d+)?)\s*(ns|us|ms|s)\s*$/.exec(delay);
  if (time === null || more.length > 0 || !/\/s\s*$/.test(rate)) {
    const hint = `Or one of ${Object.keys(links).join(", ")}.`;
    throw new InputError(where, `expected bandwidth and latency such as 32GB/s,10us, got ${JSON.stringify(text)}`, {
      hint,
    });
  }
  const perSecond = { ns: 1e9, us: 1e6, ms: 1e3, s: 1 }[time[2] as "ns" | "us" | "ms" | "s"]; // the pattern's
  return { bandwidth: parseBytes(rate.replace(/\/s\s*$/, ""), where), latency: Number(time[1]) / perSecond };
}
