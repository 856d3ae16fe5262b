/** stub */
import type { Node } from "./graph.ts";
export interface Match {
  readonly rule: string;
  readonly before: Node;
  readonly after: Node;
}
