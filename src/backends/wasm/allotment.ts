/** What one program has of the device's memory, to be given back as a whole. */
import { storageLength, type TensorData } from "../../ir/tensor.ts";
import { byteSize, showType, type TensorType } from "../../ir/types.ts";
import type { Workspace } from "../workspace.ts";
import type { DeviceMemory } from "./memory.ts";

export class Allotment {
  readonly device: DeviceMemory;
  readonly #own: number[] = [];
  readonly #shared: (() => void)[] = [];

  constructor(device: DeviceMemory) {
    this.device = device;
  }

  allocate(bytes: number, what: () => string): number {
    const at = this.device.allocate(bytes, what);
    this.#own.push(at);
    return at;
  }

  /** What programs use while they run, one after another. */
  share(workspace: Workspace<number>, bytes: number): number {
    const { memory, release } = workspace.take(bytes);
    this.#shared.push(release);
    return memory;
  }

  tensor(type: TensorType): TensorData {
    const at = this.allocate(byteSize(type), () => showType(type));
    return this.device.view(type.dtype, at, storageLength(type));
  }

  free(): void {
    for (const at of this.#own.splice(0)) this.device.free(at);
    for (const release of this.#shared.splice(0)) release();
  }
}
