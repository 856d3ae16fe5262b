/** What it costs to have a few bytes computed on the GPU and back here: what a hop between GPUs consists of besides its message. */

/** GPUBufferUsage and GPUMapMode, which Node has no globals for. */
const [mapRead, copySource, copyTarget, storage] = [1, 4, 8, 128];

const rounds = 200;

/** Prints medians in milliseconds: of writing, copying and reading so many bytes, one after another or after a pause. */
export async function measureReadBack(gpu: GPU): Promise<void> {
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  const device = await adapter?.requestDevice();
  if (device === undefined) return;
  for (const bytes of [4, 8192, 32768, 1 << 20]) {
    const buffer = device.createBuffer({ size: bytes, usage: storage | copySource | copyTarget });
    const staging = device.createBuffer({ size: bytes, usage: mapRead | copyTarget });
    const data = new Uint8Array(bytes);
    const run = async () => {
      device.queue.writeBuffer(buffer, 0, data);
      const encoder = device.createCommandEncoder();
      encoder.copyBufferToBuffer(buffer, 0, staging, 0, bytes);
      device.queue.submit([encoder.finish()]);
      await staging.mapAsync(mapRead);
      data.set(new Uint8Array(staging.getMappedRange()));
      staging.unmap();
    };
    const scoped = async () => {
      device.pushErrorScope("validation");
      const running = run();
      const error = device.popErrorScope();
      await running;
      await error;
    };
    const times: string[] = [];
    for (const [name, each, pauseMs] of [
      ["at once", run, 0],
      ["with an error scope", scoped, 0],
      ["after 3 ms", run, 3],
    ] as const) {
      times.push(`${name} ${(await median(each, pauseMs)).toFixed(3)}`);
    }
    console.log(`write, copy and read ${bytes} bytes: ${times.join(", ")} ms`);
  }
  device.destroy();
}

async function median(run: () => Promise<void>, pauseMs: number): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < (pauseMs > 0 ? rounds / 4 : rounds); i++) {
    if (pauseMs > 0) await new Promise((resolve) => setTimeout(resolve, pauseMs));
    const start = performance.now();
    await run();
    times.push(performance.now() - start);
  }
  return times.sort((a, b) => a - b)[times.length >> 1]!;
}
