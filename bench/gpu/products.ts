/** Speed of the products of codes alone, by rows, inputs and tokens. */
import { prepareDevice } from "../../src/compile.ts";
import { gpuFlags, type Mode, numbers, openBenchGpu } from "./mode.ts";
import { openProduct, type ProductSize, productShapes, showRate } from "./product.ts";

export const productsMode: Mode = {
  name: "products",
  does: "products of codes alone, by rows and tokens",
  flags: ["bits", "of-tokens", "matrix-units", ...gpuFlags],
  run: async (flags) => {
    const { gpu } = await openBenchGpu(flags);
    const device = await prepareDevice("webgpu", { gpu, matrixUnits: flags["matrix-units"] });
    const measure = async (size: ProductSize): Promise<void> => {
      const product = await openProduct(device, device.target, size);
      for (let i = 0; i < repetitions; i++) await product.measure();
      product.release();
      const least = product.seconds();
      const { rows, inputs, tokens, bits } = size;
      const bytes = (rows * inputs * bits) / 8 / least / 1e9;
      console.log(
        `int${bits} ${rows} x ${inputs}, ${tokens} tokens: ${showRate(size, least)}, weights at ${bytes.toFixed(0)} GB/s`,
      );
    };
    try {
      for (const bits of numbers(flags.bits)) {
        for (const tokens of numbers(flags["of-tokens"])) {
          for (const shape of productShapes) await measure({ ...shape, tokens, bits });
        }
      }
    } finally {
      await device.close();
    }
    return true;
  },
};

const repetitions = 5;
