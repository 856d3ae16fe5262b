/** Which mesh so many devices make where nobody says: as much tensor parallelism as the model divides by, stages beyond. */
import { InputError, UnsupportedError } from "../../ir/errors.ts";
import { checkMesh, type Mesh } from "../../ir/mesh.ts";
import type { ModelConfig } from "../../models/deepseek/config.ts";
import { tensorParts } from "../../models/deepseek/sharding.ts";

/** Threads of one process: beyond this many they would only wait for each other. */
const mostDevices = 64;
const axes = ["dp", "pp", "tp", "ep"];

/** A mesh as given or for a number of devices; `group` as in `ShardingAxes`. @throws InputError, UnsupportedError */
export function chooseMesh(config: ModelConfig, devices: number | Mesh, group: number): Mesh {
  if (typeof devices !== "number") return checked(devices);
  if (!Number.isInteger(devices) || devices < 1 || devices > mostDevices) {
    throw new InputError("devices", `expected a whole number from 1 to ${mostDevices}, got ${devices}`);
  }
  const layers = config.feed_forward.length;
  const possible = tensorParts(config, devices, group).filter((tp) => devices % tp === 0 && devices / tp <= layers);
  const tp = possible.at(-1);
  if (tp === undefined) {
    throw new UnsupportedError("devices", `${config.model_type} cannot be divided over ${devices}`, {
      hint: "Name a mesh, as in { devices: { pp: 2, tp: 2 } }, or use fewer devices.",
    });
  }
  return tp === devices ? { tp } : { pp: devices / tp, tp };
}

function checked(mesh: Mesh): Mesh {
  checkMesh(mesh, "devices");
  for (const axis of Object.keys(mesh)) {
    if (axes.includes(axis)) continue;
    throw new InputError("devices", `axis ${JSON.stringify(axis)}: expected one of ${axes.join(", ")}`);
  }
  const count = Object.values(mesh).reduce((product, size) => product * size, 1);
  if (count > mostDevices) throw new InputError("devices", `expected at most ${mostDevices}, got ${count}`);
  return mesh;
}
