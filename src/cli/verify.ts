/** `ciuic verify`: whether this device computes a model rightly. */
import { defineCommand, exitCodes } from "./command.ts";
import { deviceFlags, deviceOptions } from "./device-flags.ts";
import { withModel } from "./model-source.ts";
import type { OptionTable } from "./options.ts";
import { quantizeFlags, quantizeOptions } from "./quantize-flags.ts";

const options = {
  ...quantizeOptions,
  ...deviceOptions,
} as const satisfies OptionTable;

export const verify = defineCommand({
  name: "verify",
  usage: ["[MODEL] [--backend NAME] [--quantize FORMAT]"],
  summary: "Check that this device computes a model rightly.",
  details: [
    "Runs the model's own kernels on this device, each on made-up inputs, and compares part of what they write with the slow definition of a kernel; then the logits of a prompt at once with those token by token.",
    "On a GPU, what kernels are wrong with and right without (subgroups, packed dot products) is switched off. Exit code 1 when something stays wrong.",
  ],
  options,
  examples: ["ciuic verify", "ciuic verify --quantize int4+int8"],
  positionals: 1,
  run: async ({ values, positionals }) => {
    const quantize = quantizeFlags("verify", values);
    return withModel(positionals[0], { ...deviceFlags(values), quantize }, async (model) => {
      const { kernels, switchedOff, stepError, fine } = await model.verify();
      const rows = kernels.map(
        ({ kernel, elements, error, fine: right }) =>
          `${right ? "right" : "WRONG"}  ${error.toExponential(1)}  ${String(elements).padStart(8)}  ${kernel}`,
      );
      const off = switchedOff.length === 0 ? [] : [`switched off: ${switchedOff.join(", ")}`];
      const steps = `token by token against at once: ${stepError.toExponential(1)}`;
      const lines = ["       error  elements  kernel", ...rows, ...off, steps, fine ? "all right" : "NOT RIGHT"];
      process.stdout.write(`${lines.join("\n")}\n`);
      return fine ? exitCodes.done : exitCodes.bug;
    });
  },
});
