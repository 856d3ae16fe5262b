/**
 * The last layer of a step that wants the logits of few of its tokens: keys and values are those of all tokens, since later
 * tokens read them, and everything else is computed for the rows that are outputs.
 */
import type { Maths } from "../../ir/build.ts";
import type { Node } from "../../ir/graph.ts";
import type { TokenValues } from "./attention.ts";
import type { Bucket } from "./bucket.ts";
import type { ModelConfig } from "./config.ts";

/** Operations that two threads of a processor do while one compiles another layer's kernels, some 0.4 s. */
const worthCompiling = 1e11;

/** Whether leaving rows out of the last layer saves more than a function of its own for that layer takes to compile. */
export function lastRowsPay({ hidden_size }: ModelConfig, { tokens, outputs }: Pick<Bucket, "tokens" | "outputs">) {
  // 12 weights per square of the width: attention's four matrices and a feed-forward network of four times the width.
  return 2 * (tokens - outputs) * 12 * hidden_size ** 2 >= worthCompiling;
}

/** What `outputs` i32 [o] says of the tokens that ask: their rows of the values of all tokens. */
export function askingRows(m: Maths, { cos, sin, positions, sequence }: TokenValues, outputs: Node): TokenValues {
  return {
    n: outputs.type.shape[0]!, // of rank 1
    cos: m.gather(cos, outputs),
    sin: m.gather(sin, outputs),
    positions: m.gather(positions, outputs),
    sequence: m.gather(sequence, outputs),
  };
}
