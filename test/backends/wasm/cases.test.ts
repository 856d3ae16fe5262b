/** The WebAssembly backend on every op, with relaxed SIMD where the engine has it and without. */
import { openDevice } from "../../../src/compile.ts";
import { runBackendTests } from "../run-backend-tests.ts";

runBackendTests({ backend: "wasm" });
runBackendTests({ backend: "wasm without relaxed SIMD", open: async () => openDevice("wasm", { tier: "simd" }) });
