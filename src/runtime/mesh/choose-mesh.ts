/** Which mesh so many devices make where nobody says: as much tensor parallelism as the model divides by, stages beyond. */
import { InputError, showValue, UnsupportedError } from "../../ir/errors.ts";
import { checkMesh, type Mesh } from "../../ir/mesh.ts";
import type { ModelConfig } from "../../models/deepseek/config.ts";
import { tensorParts } from "../../models/deepseek/sharding.ts";

/** Threads of one process: beyond this many they would only wait for each other. */
const mostDevices = 64;
const axes = ["dp", "pp", "tp", "ep"];

/** A mesh as given or for a number of devices; `group` as in `ShardingAxes`. @throws InputError, UnsupportedError */
export function chooseMesh(config: ModelConfig, devices: number | Mesh, group: number): Mesh {
  const layers = config.feed_forward.length;
  if (typeof devices !== "number") return checked(devices, layers);
  if (!Number.isInteger(devices) || devices < 1 || devices > mostDevices) {
    throw new InputError("devices", `expected a whole number from 1 to ${mostDevices}, got ${devices}`);
  }
  const parts = tensorParts(config, mostDevices, group);
  const tensorOf = (count: number) => parts.findLast((tp) => count % tp === 0 && count / tp <= layers);
  const tp = tensorOf(devices);
  if (tp === undefined) {
    const possible = Array.from({ length: mostDevices }, (_, i) => i + 1).filter((count) => tensorOf(count));
    const nearest = possible.reduce((a, b) => (Math.abs(b - devices) < Math.abs(a - devices) ? b : a));
    const hint = `The nearest division that works is ${nearest}. A mesh, as in { devices: { dp: 2, tp: 2 } }, may do more.`;
    throw new UnsupportedError("devices", `${config.model_type} cannot be divided over ${devices}`, { hint });
  }
  return tp === devices ? { tp } : { pp: devices / tp, tp };
}

function checked(mesh: Mesh, layers: number): Mesh {
  if (typeof mesh !== "object" || mesh === null) {
    throw new InputError("devices", `expected how many, or a mesh such as { pp: 2, tp: 2 }, got ${showValue(mesh)}`);
  }
  checkMesh(mesh, "devices");
  for (const axis of Object.keys(mesh)) {
    if (axes.includes(axis)) continue;
    throw new InputError("devices", `axis ${JSON.stringify(axis)}: expected one of ${axes.join(", ")}`);
  }
  const count = Object.values(mesh).reduce((product, size) => product * size, 1);
  if (count > mostDevices) throw new InputError("devices", `expected at most ${mostDevices}, got ${count}`);
  const { pp = 1 } = mesh;
  if (pp > layers) {
    const hint = `The nearest division that works is ${layers}.`;
    throw new UnsupportedError("pipeline parallel", `${layers} layers cannot be divided into ${pp} stages`, { hint });
  }
  return mesh;
}
