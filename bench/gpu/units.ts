/**
 * Products of several tokens by matrix units against products of four, on one device and in turn: how far their results are
 * apart, what each takes, and the ratio. This is what decides whether units are on by default (docs/decisions/0027).
 */
import { type Device, prepareDevice } from "../../src/compile.ts";
import { gpuFlags, type Mode, numbers, openBenchGpu } from "./mode.ts";
import { openProduct, type ProductSize, productShapes, showRate } from "./product.ts";

export const unitsMode: Mode = {
  name: "units",
  does: "products of several tokens by matrix units against products of four, in turn, and the ratio",
  flags: ["bits", "of-tokens", ...gpuFlags],
  run: async (flags) => {
    const { gpu } = await openBenchGpu(flags);
    const device = await prepareDevice("webgpu", { gpu, matrixUnits: true });
    try {
      console.log(device.summary);
      if (!device.target.matrices) return false;
      const found: Compared[] = [];
      for (const bits of numbers(flags.bits)) {
        // Fewer tokens do not go by tiles.
        for (const tokens of numbers(flags["of-tokens"]).filter((count) => count >= 16)) {
          for (const shape of productShapes) found.push(await compareForms(device, { ...shape, tokens, bits }));
        }
      }
      const mean = Math.exp(found.reduce((sum, { ratio }) => sum + Math.log(ratio), 0) / found.length);
      console.log(`units are ${mean.toFixed(2)} times as fast in the geometric mean`);
      const fine = found.every(({ apart }) => apart <= mostApart);
      if (!fine) console.log(`WRONG: results are more than ${mostApart} of the largest apart`);
      return fine;
    } finally {
      await device.close();
    }
  },
};

interface Compared {
  /** How many times as fast units are. */
  readonly ratio: number;
  /** How far results are apart, as a part of the largest. */
  readonly apart: number;
}

async function compareForms(device: Device, size: ProductSize): Promise<Compared> {
  const { target } = device;
  const dots = await openProduct(device, { ...target, matrices: null }, size);
  const units = await openProduct(device, target, size);
  const apart = difference(dots.result, units.result);
  for (let i = 0; i < repetitions; i++) for (const form of [dots, units]) await form.measure();
  for (const { release } of [dots, units]) release();
  const ratio = dots.seconds() / units.seconds();
  const { rows, inputs, tokens, bits } = size;
  console.log(
    `int${bits} ${rows} x ${inputs}, ${tokens} tokens: by four ${showRate(size, dots.seconds())}; by units ` +
      `${showRate(size, units.seconds())}; ${ratio.toFixed(2)} times as fast; results ${apart.toExponential(1)} apart`,
  );
  return { ratio, apart };
}

const repetitions = 5;
/** Integers are the same, and so are scales: what is left is the order in which up to 280 groups are added in f32. */
const mostApart = 1e-5;

/** The largest, as a part of the largest value. */
function difference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [most, largest] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    const apart = Math.abs(a[i]! - b[i]!);
    // Written so that NaN counts.
    if (!(apart <= most)) most = apart;
    largest = Math.max(largest, Math.abs(a[i]!));
  }
  return most / largest;
}
