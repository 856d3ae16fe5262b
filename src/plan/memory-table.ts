/** `plan-memory`: for every backend and precision what a model takes, whether it fits, and if not, with what it would. */
import { InputError } from "../ir/errors.ts";
import { type BackendMemory, backendHoldings, type MemoryRequest, memoryOn } from "./backend-memory.ts";
import { inPrecision } from "./model-memory.ts";
import { showBytes, showTable } from "./show.ts";
import type { WeightSizes } from "./weight-groups.ts";

/** What one backend may use. */
export interface BackendLimits {
  readonly backend: string;
  /** Bytes of memory: of the machine, or of a device with its own; null where nobody says. */
  readonly memory: number | null;
  /** Largest buffer that a kernel can write; null: no limit of its own. Of a weight it can read as many times that as the backend has bindings for it. */
  readonly binding: number | null;
}

export interface MemoryRow extends BackendMemory {
  readonly fits: boolean;
  /** Why it does not fit, and what would. Empty where it fits. */
  readonly problems: readonly string[];
  readonly advice: readonly string[];
}

export interface MemoryTable {
  readonly schema: "ciuic-memory-1";
  readonly model: string;
  readonly request: MemoryRequest;
  readonly limits: readonly BackendLimits[];
  readonly rows: readonly MemoryRow[];
}

/** Where a shorter context would be no help to anyone. */
const leastContext = 128;

/** @throws InputError for sizes that make no sense */
export function memoryTable(
  model: string,
  sizes: WeightSizes,
  request: Partial<MemoryRequest>,
  limits: readonly BackendLimits[],
): MemoryTable {
  const most = sizes.maxContext ?? 2 ** 24;
  const whole: MemoryRequest = {
    context: checked("context", request.context ?? Math.min(4096, most), most),
    sequences: checked("sequences", request.sequences ?? 1, 1024),
    tokens: checked("tokens", request.tokens ?? 128, 8192),
  };
  const rows = limits.flatMap((limit) => {
    const holding = backendHoldings.find(({ backend }) => backend === limit.backend);
    if (holding === undefined) return [];
    const plain = holding.precisions.map((precision) => memoryOn(holding, precision, sizes, whole));
    const good = plain.filter((each) => problemsOf(each, limit).length === 0);
    return plain.map((each): MemoryRow => {
      const problems = problemsOf(each, limit);
      if (problems.length === 0) return { ...each, fits: true, problems, advice: [] };
      const context = longestContext(
        (context) => memoryOn(holding, each.precision, sizes, { ...whole, context }),
        whole,
        limit,
      );
      const smaller = good.find(({ device }) => device < each.device);
      const advice = [
        ...(context === null ? [] : [`fits with a context of ${context}`]),
        ...(smaller === undefined ? [] : [`fits ${inPrecision(smaller.precision)}`]),
      ];
      return { ...each, fits: false, problems, advice };
    });
  });
  return { schema: "ciuic-memory-1", model, request: whole, limits, rows };
}

/** What speaks against this backend at this precision. */
export function problemsOf(memory: BackendMemory, { memory: most, binding }: BackendLimits): string[] {
  const { largestWeight: weight, layerCache, device, resident, ownMemory, weightBindings } = memory;
  const needed = ownMemory ? device : resident;
  return [
    ...(most !== null && needed > most ? [`needs ${showBytes(needed)} of ${showBytes(most)}`] : []),
    ...(binding !== null && weight.bytes > weightBindings * binding
      ? [
          `${weight.name} takes ${showBytes(weight.bytes)}, a kernel reads at most ${showBytes(weightBindings * binding)}`,
        ]
      : []),
    ...(binding !== null && layerCache > binding
      ? [`a layer's cache takes ${showBytes(layerCache)}, a kernel writes at most ${showBytes(binding)}`]
      : []),
  ];
}

/** By halving: memory grows with the context, but not quite in proportion. Null where even a short one is too long. */
function longestContext(
  at: (context: number) => BackendMemory,
  { context }: MemoryRequest,
  limit: BackendLimits,
): number | null {
  const fits = (tokens: number) => problemsOf(at(tokens), limit).length === 0;
  if (context <= leastContext || !fits(leastContext)) return null;
  let [low, high] = [leastContext, context];
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (fits(middle)) low = middle;
    else high = middle;
  }
  return low;
}

function checked(name: string, value: number, most: number): number {
  if (Number.isInteger(value) && value >= 1 && value <= most) return value;
  throw new InputError(`plan-memory ${name}`, `expected a whole number from 1 to ${most}, got ${value}`);
}

/** The table as text. */
export function showMemoryTable({ model, request, rows, limits }: MemoryTable): string {
  const { context, sequences, tokens } = request;
  const shown = new Set(rows.map(({ backend }) => backend));
  const given = showLimits(limits.filter(({ backend }) => shown.has(backend)));
  const others = backendHoldings.map(({ backend }) => backend).filter((name) => !shown.has(name));
  const lines = [
    `${model}: ${sequences} x ${context} tokens, prompts ${tokens} tokens at a time`,
    `given: ${given}`,
    "",
    ...showTable([columns, ...rows.map(cellsOf)]),
    "",
    "resident is an estimate: what a process takes beside the model was measured on one system (Linux, Node 24)",
    ...(others.length === 0 ? [] : ["", `not shown: ${others.join(", ")} (--backends NAMES, or all)`]),
  ];
  return `${lines.join("\n")}\n`;
}

const columns = [
  ...["backend", "precision", "weights", "caches", "a token", "values"],
  ...["resident", "device", "largest buffer", ""],
] as const;

function cellsOf(row: MemoryRow): string[] {
  return [
    row.backend,
    row.precision,
    ...[row.weights, row.caches, row.cachePerToken, row.working, row.resident].map(showBytes),
    row.ownMemory ? showBytes(row.device) : "",
    showBytes(row.largest.bytes),
    row.fits ? "fits" : `does not fit: ${[row.problems.join(", and "), ...row.advice].join("; ")}`,
  ];
}

/** Backends with the same limits together. */
function showLimits(limits: readonly BackendLimits[]): string {
  const names = new Map<string, string[]>();
  for (const { backend, memory, binding } of limits) {
    const buffers = binding === null ? "" : `, buffers of ${showBytes(binding)}`;
    const text = `${memory === null ? "memory unknown" : showBytes(memory)}${buffers}`;
    names.set(text, [...(names.get(text) ?? []), backend]);
  }
  return [...names].map(([text, backends]) => `${backends.join(", ")}: ${text}`).join("; ");
}
