/**
 * Plans: how to place a model on devices, from its config alone. Every division of the devices into pipeline stages,
 * tensor, data and expert parallelism that the model allows is priced (cost.ts); those that fit are ranked, and where none
 * fits the plan says what it would take. Plans are plain JSON (schema.ts).
 */
import { InputError } from "../ir/errors.ts";
import type { ModelConfig } from "../models/deepseek/config.ts";
import { tensorParts } from "../models/deepseek/sharding.ts";
import { advise } from "./advice.ts";
import { type Candidate, degreesFor, price, rank, totalWeights } from "./candidate.ts";
import { type DeviceSpec, type LinkSpec, type Software, tuned } from "./hardware.ts";
import { hashOf } from "./hash.ts";
import { groupOf, type PlanFormat, shapeOf } from "./shape.ts";

export interface PlanRequest {
  readonly devices: number;
  readonly device: DeviceSpec;
  readonly link: LinkSpec;
  /** Default: `tuned`. */
  readonly software?: Partial<Software>;
  /** Tokens of each sequence. Default 8192, or the model's most. */
  readonly context?: number;
  /** Sequences at a time. Default 1. */
  readonly batch?: number;
  readonly weights?: PlanFormat;
  /** Bits of a cached value. Default 16. */
  readonly cacheBits?: number;
}

export interface Plan {
  readonly schema: "ciuic-plan-1";
  readonly hash: string;
  readonly model: string;
  readonly request: {
    readonly devices: number;
    readonly device: DeviceSpec;
    readonly link: LinkSpec;
    readonly software: Software;
    readonly context: number;
    readonly batch: number;
    readonly weights: PlanFormat;
    readonly cacheBits: number;
  };
  readonly totalWeights: number;
  /** Null where nothing fits. */
  readonly recommended: Candidate | null;
  readonly others: readonly Candidate[];
  /** What would make it fit, or fit better; sentences. */
  readonly advice: readonly string[];
}

/** @throws InputError for sizes that make no sense. */
export function planDeployment(name: string, config: ModelConfig, request: PlanRequest): Plan {
  const { devices, device, link, weights = "stored", cacheBits = 16, batch = 1 } = request;
  const context = request.context ?? Math.min(8192, config.max_position_embeddings);
  whole("devices", devices, 1, 4096);
  whole("batch", batch, 1, 2 ** 20);
  whole("context", context, 1, config.max_position_embeddings);
  const software = { ...tuned, ...request.software };
  const shape = shapeOf(name, config, weights, cacheBits);
  const system = { device, link, software };
  const work = { batch, context, prompt: context, chunk: Math.min(context, 2048) };
  const tensor = tensorParts(config, devices, groupOf(weights));
  const all = degreesFor(devices, shape, tensor).map((degrees) => price(shape, degrees, work, system));
  const ranked = rank(all.filter(({ fits }) => fits));
  const near = [...all.filter(({ fits }) => !fits)].sort((a, b) => a.peak - b.peak);
  const [recommended = null, ...others] = ranked;
  const body: Omit<Plan, "hash"> = {
    schema: "ciuic-plan-1",
    model: name,
    request: { devices, device, link, software, context, batch, weights, cacheBits },
    totalWeights: totalWeights(shape),
    recommended,
    others: [...others, ...near].slice(0, 6),
    advice: advise({ name, config, devices, weights, cacheBits, shape, work, system }, recommended, near[0]),
  };
  return { ...body, hash: hashOf(body) };
}

function whole(name: string, value: number, min: number, max: number): void {
  if (Number.isInteger(value) && value >= min && value <= max) return;
  throw new InputError(`plan ${name}`, `expected a whole number from ${min} to ${max}, got ${value}`);
}
