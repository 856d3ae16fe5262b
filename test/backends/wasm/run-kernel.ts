/** Runs one kernel as WebAssembly on given storage, as `runKernel` does. */
import { emitKernel, type WasmKernel } from "../../../src/backends/wasm/emit.ts";
import { encodeModule } from "../../../src/backends/wasm/encode.ts";
import { rulesFor } from "../../../src/backends/wasm/probe.ts";
import { moduleOf } from "../../../src/backends/wasm/program.ts";
import type { Rules } from "../../../src/backends/wasm/rules.ts";
import { printFunc } from "../../../src/backends/wasm/wat.ts";
import type { Kernel } from "../../../src/ir/kernel/kernel.ts";
import type { TensorData } from "../../../src/ir/tensor.ts";

const memory = new WebAssembly.Memory({ initial: 4, maximum: 65536, shared: true });
/** Bytes around every buffer that nothing may touch. */
const guard = 64;

export interface CompiledKernel {
  readonly emitted: WasmKernel;
  readonly source: string;
  readonly run: (data: readonly TensorData[], begin?: number, end?: number) => void;
}

export function compileKernel(kernel: Kernel, rules: Rules = rulesFor()): CompiledKernel {
  const emitted = emitKernel(kernel, "kernel", rules);
  const module = new WebAssembly.Module(encodeModule(moduleOf([emitted.func], true)));
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  const call = exports.kernel as (...args: number[]) => void; // exported by emitKernel
  const run = (data: readonly TensorData[], begin?: number, end?: number): void => {
    const bytes = new Uint8Array(memory.buffer);
    let at = 1024;
    bytes.fill(0x5a, at, at + data.reduce((sum, each) => sum + each.byteLength + 16 + guard, 0));
    const addresses = data.map((each) => {
      const address = at;
      bytes.set(new Uint8Array(each.buffer, each.byteOffset, each.byteLength), address);
      at += Math.ceil(each.byteLength / 16) * 16 + guard;
      return address;
    });
    (exports.scratch as WebAssembly.Global<"i32">).value = at; // exported by moduleOf
    const { grid } = emitted;
    call(...addresses, ...(grid === undefined ? [] : [begin ?? grid.from, end ?? grid.to]));
    data.forEach((each, i) => {
      const address = addresses[i]!;
      new Uint8Array(each.buffer, each.byteOffset, each.byteLength).set(
        bytes.subarray(address, address + each.byteLength),
      );
      const next = addresses[i + 1] ?? at;
      if (bytes.subarray(address + each.byteLength, next).some((byte) => byte !== 0x5a)) {
        throw new Error(`bytes behind buffer ${i} were written`);
      }
    });
  };
  return { emitted, source: printFunc(emitted.func), run };
}
