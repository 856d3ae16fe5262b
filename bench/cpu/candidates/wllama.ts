import type { Runner, Spec } from "./candidate.ts";
export async function openWllama(_spec: Extract<Spec, { engine: "wllama" }>): Promise<Runner> {
  throw new Error("not yet");
}
