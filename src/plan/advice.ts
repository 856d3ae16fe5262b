/** What a plan says besides its candidates: what is left, or what it would take where nothing fits. */
import type { ModelConfig } from "../models/deepseek/config.ts";
import { tensorParts } from "../models/deepseek/sharding.ts";
import { type Candidate, degreesFor, price, rank, totalWeights } from "./candidate.ts";
import type { System, Workload } from "./cost.ts";
import { groupOf, type ModelShape, type PlanFormat, shapeOf } from "./shape.ts";
import { showBytes } from "./show.ts";

/** What is planned. */
export interface Task {
  readonly name: string;
  readonly config: ModelConfig;
  readonly devices: number;
  readonly weights: PlanFormat;
  readonly cacheBits: number;
  readonly shape: ModelShape;
  readonly work: Workload;
  readonly system: System;
}

const formats = ["fp8", "int8", "int4"] as const satisfies readonly PlanFormat[];

/** Sentences. `nearest` is the candidate that lacks least. */
export function advise(task: Task, recommended: Candidate | null, nearest: Candidate | undefined): string[] {
  const { name, devices, shape, system } = task;
  if (recommended !== null) {
    const { mostSequences, limit, peak } = recommended;
    return [`${showBytes(limit - peak)} of each device stay free; ${mostSequences} such sequences would fit.`];
  }
  const given = `${devices} x ${showBytes(system.device.memory)} are given`;
  const said = [`Nothing fits: ${name} has ${showBytes(totalWeights(shape))} of weights, ${given}.`];
  if (nearest !== undefined) {
    said.push(
      `With ${devices} devices, each needs ${showBytes(nearest.peak / system.software.memoryUse)} (${nearest.name}).`,
    );
    const { mostSequences } = nearest;
    if (mostSequences > 0) said.push(`At most ${mostSequences} sequences of this context would fit (${nearest.name}).`);
  }
  const more = moreDevices(task);
  if (more !== undefined) said.push(`${more.count} devices of this size would do (${more.best.name}).`);
  const smaller = smallerFormat(task);
  if (smaller !== undefined) said.push(`Weights in ${smaller.format} would fit (${smaller.best.name}).`);
  return said;
}

function bestOf(task: Task, devices: number, shape: ModelShape, format: PlanFormat): Candidate | undefined {
  const all = degreesFor(devices, shape, tensorParts(task.config, devices, groupOf(format)));
  return rank(all.map((degrees) => price(shape, degrees, task.work, task.system)).filter(({ fits }) => fits))[0];
}

/** The smallest number of devices that would do, of those that come together. */
function moreDevices(task: Task): { count: number; best: Candidate } | undefined {
  for (const count of [2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512]) {
    const best = count > task.devices ? bestOf(task, count, task.shape, task.weights) : undefined;
    if (best !== undefined) return { count, best };
  }
  return undefined;
}

/** The most precise format that would do. */
function smallerFormat(task: Task): { format: PlanFormat; best: Candidate } | undefined {
  for (const format of formats) {
    const shape = shapeOf(task.name, task.config, format, task.cacheBits);
    if (totalWeights(shape) >= 0.99 * totalWeights(task.shape)) continue;
    const best = bestOf(task, task.devices, shape, format);
    if (best !== undefined) return { format, best };
  }
  return undefined;
}
