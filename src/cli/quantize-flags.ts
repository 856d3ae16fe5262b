/** `--quantize` and `--override` as the library's option. */
import type { QuantizeOptions } from "../compile.ts";
import { InputError } from "../ir/errors.ts";
import { checkQuantizeOptions } from "../passes/quantize/policy.ts";
import type { OptionTable, OptionValues } from "./options.ts";

export const quantizeOptions = {
  quantize: {
    kind: "text",
    value: "FORMAT",
    doc: "Weights as int8, int4 or int4-affine; with layer inputs rounded too: int4+int8, or int4+int8-static. f32: as stored, but widened.",
  },
  override: {
    kind: "texts",
    value: "PATTERN=FORMAT",
    doc: "The format of some weights, such as lm_head=none or '*.down_proj=int8'; may be given several times.",
  },
  method: { kind: "text", value: "NAME", doc: "How scales of 4-bit weights are chosen: mse (default) or range." },
} as const satisfies OptionTable;

/** Undefined where nothing is to be quantised. @throws InputError naming the option. */
export function quantizeFlags(
  command: string,
  { quantize, override = [], method }: OptionValues<typeof quantizeOptions>,
): QuantizeOptions | undefined {
  if (quantize === undefined) {
    const other = override.length > 0 ? "override" : method === undefined ? undefined : "method";
    if (other !== undefined) throw new InputError(`${command} --${other}`, "needs --quantize");
    return undefined;
  }
  const [weights = "", activations, ...rest] = quantize.split("+");
  if (rest.length > 0) {
    throw new InputError(`${command} --quantize`, `expected WEIGHTS or WEIGHTS+INPUTS, got ${quantize}`);
  }
  const overrides = Object.fromEntries(
    override.map((each) => {
      const at = each.lastIndexOf("=");
      if (at < 1) throw new InputError(`${command} --override`, `expected PATTERN=FORMAT, got ${JSON.stringify(each)}`);
      return [each.slice(0, at), each.slice(at + 1)];
    }),
  );
  const options = { weights, overrides, ...(activations !== undefined && { activations }), ...(method && { method }) };
  checkQuantizeOptions(options as QuantizeOptions, `${command} --quantize:`); // checks what the cast claims
  return options as QuantizeOptions;
}
