/** The JSON schema (draft 2020-12) of plans, for whoever reads them without this package. */

const number = { type: "number" } as const;
const text = { type: "string" } as const;

/** What of JSON schemas is used here. */
export interface Schema {
  readonly type?: string;
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly pattern?: string;
  readonly anyOf?: readonly Schema[];
  readonly items?: Schema;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: false;
}

function record(properties: Readonly<Record<string, Schema>>, optional: readonly string[] = []) {
  const required = Object.keys(properties).filter((name) => !optional.includes(name));
  return { type: "object", properties, required, additionalProperties: false } as const;
}

const numbers = (...names: readonly string[]) => record(Object.fromEntries(names.map((name) => [name, number])));

const stage = record({
  layers: { type: "array", items: number, minItems: 2, maxItems: 2 },
  weights: number,
  caches: number,
  working: number,
});

const candidate = record({
  name: text,
  mesh: numbers("pp", "tp", "dp", "ep"),
  stages: { type: "array", items: stage, minItems: 1 },
  peak: number,
  limit: number,
  fits: { type: "boolean" },
  mostSequences: number,
  messages: number,
  bytes: number,
  imbalance: number,
  decodeOne: number,
  decodeAll: number,
  prefill: number,
  firstToken: number,
  limitedBy: text,
  parts: numbers("weights", "products", "cache", "attention", "overhead", "latency", "bandwidth"),
});

const link = record({ bandwidth: number, latency: number, near: numbers("size", "bandwidth", "latency") }, ["near"]);

const software = numbers(
  "bandwidthUse",
  "flopsUse",
  "attentionUse",
  "linkUse",
  "layerOverhead",
  "collectiveOverhead",
  "overlap",
  "memoryUse",
);

/** Sizes in bytes, times in seconds, speeds in tokens/s. */
export const planSchema = {
  $schema: "https://json-schema.org/draft/2020-12/schema",
  title: "ciuic plan",
  ...record({
    schema: { const: "ciuic-plan-1" },
    hash: { type: "string", pattern: "^[0-9a-f]{16}$" },
    model: text,
    request: record({
      devices: number,
      device: record({ name: text, memory: number, bandwidth: number, flops: number, attentionFlops: number }),
      link,
      software,
      context: number,
      batch: number,
      weights: { enum: ["stored", "bf16", "fp8", "int8", "int4"] },
      cacheBits: number,
    }),
    totalWeights: number,
    recommended: { anyOf: [candidate, { type: "null" }] },
    others: { type: "array", items: candidate },
    advice: { type: "array", items: text },
  }),
} as const;
