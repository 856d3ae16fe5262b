/**
 * Whether the choice of a backend is the fastest that was measured: `node bench/choice.bench.ts [--folder models/tiny-deepseek]
 * [--layers N] [--quantize int8] [--rounds 5] [--prompt 128] [--tokens 128] [--backends webgpu,wasm] [--software] [--json]
 * [--package-folder .cache/tensorflow]`, the folder that has TensorFlow.js' packages, as the commands take it.
 * Loads the model on every target that runs here (each number of threads is one) and lets each in turn answer the same
 * prompt for a while, round by round; compares with what was expected. With `--layers` the model is made up, of that many layers of the
 * shape of R1-Distill-Qwen-1.5B, in `--cache` (28 layers take 3.6 GB there). Ends with 1 where the choice is slower than
 * the fastest by more than a tenth.
 */
import { measureChoice } from "./choice.ts";

process.exit((await measureChoice(process.argv.slice(2))) ? 0 : 1);
