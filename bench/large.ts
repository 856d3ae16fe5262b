/**
 * Runs a program whose weights are larger than 32-bit addresses reach, and checks its sums: `node bench/large.ts [GiB]`.
 * Needs that much memory; by default 4.5 GiB. Not a test, because few machines of tests have it.
 */
import { compile, openDevice } from "../src/compile.ts";
import { maths } from "../src/ir/build.ts";
import { Builder, makeModule } from "../src/ir/graph.ts";

const gibibytes = Number(process.argv[2] ?? 4.5);
const [columns, parts] = [16384, 5];
const rows = Math.floor((gibibytes * 2 ** 30) / 4 / columns / parts);
const builder = new Builder();
const x = builder.param("x", "f32", [1, columns]);
const { contract } = maths(builder);
const weights = Array.from({ length: parts }, (_, i) => builder.param(`w${i}`, "f32", [rows, columns]));
const outs = weights.map((w) => contract("n i, o i -> n o", x, w));
const module = makeModule("large", [{ name: "main", params: [x, ...weights], outs }], "main");
const device = openDevice("wasm", { threads: 2 });
const executable = compile(module, device);
const { params, results, run } = executable.instantiate({ weight: () => new Float32Array() });
params[0]!.fill(1);
for (const [i, data] of params.slice(1).entries()) data.fill(2 ** -i);
const start = performance.now();
await run();
const ms = performance.now() - start;
const wrong = results.flatMap((data, i) => [...data].filter((sum) => sum !== columns * 2 ** -i));
const last = params.at(-1)!;
console.log(
  `${device.summary}: ${(last.byteOffset + last.byteLength) / 2 ** 30} GiB, ${ms.toFixed(0)} ms, ${wrong.length} wrong`,
);
await device.close();
