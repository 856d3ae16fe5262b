/** `model.verify()`: whether this device computes this model rightly, kernel by kernel and step by step. */
import type { Device } from "../../compile.ts";
import type { ModelRunner } from "../steps/model-runner.ts";
import { scoreTokens } from "./score.ts";
import { checkKernels, type KernelCheck } from "./verify-kernels.ts";

export interface Verification {
  readonly kernels: readonly KernelCheck[];
  /** Variants of kernels that were wrong on this device and are not used any more. */
  readonly switchedOff: readonly string[];
  /** The largest difference between logits of a prompt at once and token by token, relative to the largest logit. */
  readonly stepError: number;
  readonly fine: boolean;
}

/** Two ways to the same logits differ by rounding alone; with inputs rounded to 8 bits, by more of it. */
const stepTolerance = { exact: 1e-3, rounded: 0.1 } as const;
/** Tokens that the steps are forced to take. */
const forced = 8;

export async function verifyModel(runner: ModelRunner, device: Device, quantized: boolean): Promise<Verification> {
  const sizes = [
    { tokens: 1, sequences: 1, blocks: 1, outputs: 1 },
    { tokens: forced, sequences: 1, blocks: 1, outputs: forced },
  ];
  const check = async () => {
    const kernels: KernelCheck[] = [];
    for (const size of sizes)
      for (const each of await checkKernels(device, runner.compile(size).executable.plan)) kernels.push(each);
    return kernels;
  };
  const isWrong = ({ fine }: KernelCheck) => !fine;
  let kernels = await check();
  const switchedOff: string[] = [];
  for (const variant of device.variants?.names() ?? []) {
    const wrong = kernels.filter(isWrong).length;
    if (wrong === 0) break;
    device.variants?.use(variant, false);
    const without = await check();
    if (without.filter(isWrong).length < wrong) {
      switchedOff.push(variant);
      kernels = without;
    } else device.variants?.use(variant, true);
  }
  if (switchedOff.length > 0) runner.bindAgain();
  const ids = Int32Array.from(
    { length: Math.min(forced, runner.sizes.maxContext) },
    (_, i) => (i * 7919) % runner.sizes.vocabSize,
  );
  const [whole, single] = [await scoreTokens(runner.single(), ids), await scoreTokens(runner.single(), ids, 1)];
  const stepError = relativeError(whole, single);
  const limit = quantized ? stepTolerance.rounded : stepTolerance.exact;
  return { kernels, switchedOff, stepError, fine: !kernels.some(isWrong) && stepError <= limit };
}

function relativeError(a: Float32Array, b: Float32Array): number {
  let [most, largest] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs(a[i]! - b[i]!);
    // Written so that NaN counts.
    if (!(difference <= most)) most = difference;
    largest = Math.max(largest, Math.abs(a[i]!));
  }
  return most / largest;
}
