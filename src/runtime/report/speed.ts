/** What computed an answer, and what kept it from being faster: a sentence with the numbers it rests on. */
import type { Model } from "../model.ts";
import { ModelRunner } from "../steps/model-runner.ts";
import { tokenCost } from "./token-cost.ts";

export interface Speed {
  /** `device.summary`. */
  readonly device: string;
  readonly tokensPerSecond: number;
  /** Of one token's step. */
  readonly weightBytes: number;
  readonly launches: number;
  /** Bytes per second at which the device reads this memory, measured after the run; null where it cannot. */
  readonly reading: number | null;
  /** Whether launches are ops of tensors, run as they are or as nodes of a graph. Default false. */
  readonly ofOps?: boolean;
}

/** From this share of the measured rate on, waiting for memory is most of the time. */
const limiting = 0.6;

/** Measures for some ten milliseconds. Null where nothing is compiled, or too little was generated to tell. */
export async function measureSpeed(model: Model, tokensPerSecond: number | null): Promise<Speed | null> {
  const { device, runner } = model;
  if (device === null || !(runner instanceof ModelRunner) || tokensPerSecond === null) return null;
  const reading = (await device.measureReading?.()) ?? null;
  const ofOps = device.target.level === "tensor";
  return { device: device.summary, tokensPerSecond, ...tokenCost(model.program.plan), reading, ofOps };
}

export function showSpeed({ device, tokensPerSecond, weightBytes, launches, reading, ofOps }: Speed): string {
  const rate = weightBytes * tokensPerSecond;
  const read = `a token reads ${(weightBytes / 1e6).toFixed(1)} MB of weights, ${gigabytes(rate)} GB/s`;
  if (ofOps) return `[${device}; ${read}, in ${launches} ops]\n`;
  if (reading === null) return `[${device}; ${read}; arithmetic limits it]\n`;
  const share = `of the ${gigabytes(reading)} GB/s at which it reads this memory`;
  const limit =
    rate >= limiting * reading ? "memory" : `arithmetic and the ${launches} launches of a step, not memory,`;
  return `[${device}; ${read} ${share}: ${limit} ${limit === "memory" ? "limits" : "limit"} it]\n`;
}

function gigabytes(bytes: number): string {
  return (bytes / 1e9).toPrecision(3);
}
