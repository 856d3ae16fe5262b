/** Which backend is chosen, and what is said of those that are not. */
import { expect, it } from "vitest";
import { type Capabilities, chooseBackends } from "../../src/browser/backend-choice.ts";
import { UnsupportedError } from "../../src/ir/errors.ts";

const everything: Capabilities = {
  webgpu: null,
  softwareGpu: false,
  wasm: null,
  isolation: null,
  blobWorkers: true,
  cores: 4,
};
const choose = (missing: Partial<Capabilities>, wanted = {}) => chooseBackends(wanted, { ...everything, ...missing });

it("takes the fastest and keeps the others in reserve", () => {
  expect(choose({})).toEqual({
    refused: [],
    possible: [
      { label: "WebGPU", backend: "webgpu" },
      { label: "WebAssembly with threads", backend: "wasm", threads: 4 },
      { label: "WebAssembly on one thread", backend: "wasm", threads: 1 },
      { label: "JavaScript", backend: "js" },
    ],
  });
  expect(choose({}, { threads: 3 }).possible[1]?.threads).toBe(3);
});

it.for<[Partial<Capabilities>, object, string, string[]]>([
  [{ webgpu: "no GPU" }, {}, "WebAssembly with threads", ["WebGPU: no GPU"]],
  [
    { softwareGpu: true },
    {},
    "WebAssembly with threads",
    ["WebGPU: it would run on the processor, slower than WebAssembly"],
  ],
  [{ softwareGpu: true }, { backend: "webgpu" }, "WebGPU", []],
  [
    { webgpu: "x", isolation: "no headers" },
    {},
    "WebAssembly on one thread",
    ["WebGPU: x", "WebAssembly with threads: no headers"],
  ],
  [
    { webgpu: "x", wasm: "no SIMD", isolation: "y" },
    {},
    "JavaScript",
    ["WebGPU: x", "WebAssembly with threads: no SIMD", "WebAssembly on one thread: no SIMD"],
  ],
  [{ isolation: "y" }, { backend: "wasm" }, "WebAssembly on one thread", ["WebAssembly with threads: y"]],
  [
    { cores: 1 },
    { backend: "wasm" },
    "WebAssembly on one thread",
    ["WebAssembly with threads: one thread was asked for, or is best for this model on this machine"],
  ],
  [{}, { backend: "js" }, "JavaScript", []],
])("%j, wanted %j: %s", ([missing, wanted, label, why]) => {
  const { possible, refused } = choose(missing, wanted);
  expect(possible[0]?.label).toBe(label);
  expect(refused.map((each) => `${each.label}: ${each.reason}`)).toEqual(why);
});

it("a backend that was asked for and cannot run is an error that says why", () => {
  expect(() => choose({ wasm: "no SIMD" }, { backend: "wasm" })).toThrow(UnsupportedError);
  expect(() => choose({ wasm: "no SIMD" }, { backend: "wasm" })).toThrow(/backend wasm: .*no SIMD/);
  expect(() => choose({}, { backend: "cuda" })).toThrow(/backend cuda: no such backend\n.*webgpu, wasm, js/);
});
