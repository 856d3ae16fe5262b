/** Writes a ragged batch into the memory of a compiled step, padded to its bucket. */
import type { TensorData } from "../../ir/tensor.ts";
import type { RaggedBatch } from "./step.ts";

/** The inputs of a step besides its caches, by the names of its parameters; `blocks` is how many a table has a place for. */
export function fillBatch(
  input: (name: "tokens" | "positions" | "sequence" | "slots" | "blockTable" | "outputs") => TensorData | undefined,
  batch: RaggedBatch,
  blocks: number,
): void {
  fillPadded(input("tokens"), batch.tokens, 0);
  fillPadded(input("positions"), batch.positions, -1);
  fillPadded(input("sequence"), batch.sequence, 0);
  fillPadded(input("slots"), batch.slots, -1);
  fillPadded(input("outputs"), batch.outputs, 0);
  const table = input("blockTable");
  table?.fill(0);
  for (const [i, ids] of batch.blockTables.entries()) table?.set(ids, i * blocks);
}

/** Copies `values` and sets the rest to `padding`, which makes a token write nothing and attend to nothing. */
function fillPadded(target: TensorData | undefined, values: Int32Array, padding: number): void {
  target?.set(values);
  target?.fill(padding, values.length);
}
