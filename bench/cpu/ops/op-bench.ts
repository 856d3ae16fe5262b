/** Single kernels against single ops of the ONNX runtimes and tfjs, at the shapes of a model. */
export interface OpReport {
  readonly op: string;
  readonly threads: number;
}
export async function opBench(_options: {
  threads: number;
  peers: readonly string[];
  quick: boolean;
  log: (text: string) => void;
}): Promise<OpReport[]> {
  return [];
}
export function showOps(_ops: readonly OpReport[]): string {
  return "";
}
