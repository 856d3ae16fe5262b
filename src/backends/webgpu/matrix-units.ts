/**
 * A device's matrix units for signed bytes: which it lists, and whether a small product of each is right to the last bit.
 * WGSL's extension for them is an experiment of Dawn's, so that nothing is taken for granted: a device whose compiler refuses
 * the kernel, or that computes anything else, is used without them.
 */
import { parseKernel } from "../../ir/kernel/parse.ts";
import { runKernel } from "../../ir/kernel/run.ts";
import { dotGroup } from "../../ir/ops/dot.ts";
import type { MatrixUnits } from "../../ir/target.ts";
import { emitKernel } from "./emit.ts";
import { runOnce } from "./run-once.ts";
import { subgroupSizeOf } from "./subgroups.ts";

type UnitSize = MatrixUnits["sizes"][number];

/** Dawn's name of the feature, which the types do not have yet. */
export const matrixFeature = "chromium-experimental-subgroup-matrix" as GPUFeatureName;

/** What an adapter says about a product that its units make, likewise. */
interface UnitConfig {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

export interface FoundUnits {
  readonly units: MatrixUnits | null;
  /** For people: which, or why none. */
  readonly text: string;
}

const known = new WeakMap<GPUDevice, FoundUnits>();

/** What `measureMatrixUnits` found; null where it was not asked. */
export function matrixUnitsOf(device: GPUDevice): FoundUnits | null {
  return known.get(device) ?? null;
}

/** Finds the device's units, after its subgroups. Never throws: without them products go another way. */
export async function measureMatrixUnits(device: GPUDevice, adapter: GPUAdapter): Promise<void> {
  known.set(device, await find(device, adapter));
}

async function find(device: GPUDevice, adapter: GPUAdapter): Promise<FoundUnits> {
  const none = (why: string) => ({ units: null, text: `no matrix units: ${why}` });
  if (!device.features.has(matrixFeature)) return none("the adapter does not offer them");
  const subgroup = subgroupSizeOf(device);
  if (subgroup === 0) return none("subgroups are no runs of neighbours");
  // Dawn's binding for Node lists them on the adapter alone.
  const { subgroupMatrixConfigs = [] } = adapter.info as { subgroupMatrixConfigs?: Iterable<UnitConfig> }; // not in the types yet
  const listed = [...subgroupMatrixConfigs];
  const usable = listed.filter(isOfBytes).map(({ M: m, N: n, K: k }) => ({ m, n, k }));
  if (usable.length === 0) return none(`none for signed bytes among ${listed.map(showConfig).join(", ") || "none"}`);
  const right: UnitSize[] = [];
  const wrong: string[] = [];
  for (const size of usable) {
    const problem = await problemOf(device, size, subgroup);
    if (problem === null) right.push(size);
    else wrong.push(`${showSize(size)} ${problem}`);
  }
  if (right.length === 0) return none(wrong.join("; "));
  return { units: { subgroup, sizes: right }, text: `matrix units ${right.map(showSize).join(", ")}` };
}

/** Of what groups can be made of: see `chooseTile`. */
function isOfBytes({ componentType, resultComponentType, N, K }: UnitConfig): boolean {
  return componentType === "i8" && resultComponentType === "i32" && dotGroup % K === 0 && K % 16 === 0 && N % 4 === 0;
}

function showConfig({ componentType, resultComponentType, M, N, K }: UnitConfig): string {
  return `${componentType} to ${resultComponentType} ${M} x ${N} x ${K}`;
}

const showSize = ({ m, n, k }: UnitSize): string => `${m} x ${n} x ${k}`;

/** What is wrong with a product of this size; null where nothing is. */
async function problemOf(device: GPUDevice, unit: UnitSize, subgroup: number): Promise<string | null> {
  const kernel = parseKernel(unitKernel(unit, subgroup));
  const [result, left, right] = kernel.bufs.map(({ size }) => size) as [number, number, number]; // and shared ones
  const inputs = [left, right].map((size, seed) => Int8Array.from({ length: size }, (_, i) => byteAt(i, seed)));
  const expected = new Int32Array(result);
  runKernel(kernel, [expected, ...inputs]);
  const { source } = emitKernel(kernel, { matrixUnits: true });
  try {
    const words = inputs.map(({ buffer }) => new Uint32Array(buffer));
    const found = new Int32Array((await runOnce(device, source, result, words, 1)).buffer);
    const at = expected.findIndex((value, i) => value !== found[i]);
    return at < 0 ? null : `give ${found[at]} for ${expected[at]} at ${at}`;
  } catch (error) {
    return `are refused: ${error instanceof Error ? error.message : String(error)}`;
  }
}

/** All bytes, -128 and 127 among them, in no order. */
function byteAt(i: number, seed: number): number {
  return ((Math.imul(i + 1, 2654435761 + 2 * seed) >>> 13) << 24) >> 24;
}

/** Two subgroups multiply a group's tokens and rows each, all in the ways in which products of tiles do. */
function unitKernel({ m, n, k }: UnitSize, subgroup: number): string {
  const [tokens, rows, lanes] = [2 * m, 2 * n, 2 * subgroup];
  const [stride, sums] = [dotGroup + 16, rows + 8];
  const parts = dotGroup / 16;
  return `kernel matrix_units {
  write result: i32[${tokens * rows}]
  read left: i8[${tokens * dotGroup}]
  read right: i8[${rows * dotGroup}]
  shared readwrite inputs: i8[${tokens * stride}]
  shared readwrite codes: i8[${rows * stride}]
  shared readwrite products: i32[${tokens * sums}]
  workgroup lane in 0 .. ${lanes} {
    for i in lane .. ${tokens * parts} step ${lanes} {
      inputs[i / ${parts} * ${stride} + i % ${parts} * 16] = left[i * 16]:i8x16
    }
    for j in lane .. ${rows * 8} step ${lanes} {
      codes[j / 8 * ${stride} + j % 8 * 4] = right[j * 4]:i8x4
    }
    barrier
    let share = min(lane / ${subgroup}, 1) * ${m}
    multiply products[share * ${sums}] step ${sums} = inputs[share * ${stride}] step ${stride} * codes[0] step ${stride} size [${m}, ${rows}, ${dotGroup}] by [${m}, ${n}, ${k}] from 1262485504 over ${subgroup}
    barrier
    for l in lane .. ${(tokens * rows) / 4} step ${lanes} {
      result[l * 4] = products[l / ${rows / 4} * ${sums} + l % ${rows / 4} * 4]:4
    }
  }
}
`;
}
